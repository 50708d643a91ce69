"""What numbers of other projects mean: pictures against network inputs, labels of every kind."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.utils.data import Dataset, TensorDataset

from nsdbench import data
from nsdbench.data.training import TrainingData
from nsdbench.sets import parameterizations
from nsdbench.sets.foreign import ForeignSet, from_python
from nsdbench.sets.meaning import Meaning, network_inputs, targets

NAMES = ("Digits16", "Digits", "synthetic:3x1x8x8", "synthetic:10x3x16x16@99+4")


@pytest.fixture(scope="module", params=[(n, k) for n in NAMES for k in data.KINDS], ids=str)
def real(request):
    name, kind = request.param
    dataset = data.load(name)
    return dataset, TrainingData(dataset, data.preprocessing(kind, dataset))


def one_per_class(real, seed):
    stream = torch.Generator().manual_seed(seed)
    return torch.cat([real.class_rows(c, 1, stream) for c in range(real.num_classes)])


def inputs(images, dataset, real, pixels=None):
    return network_inputs(images, "set.pt", dataset, real.preprocessing, pixels)


def test_real_data_and_noise_are_network_inputs(real):
    """No false alarm, down to one image a class; and so for the starts of parameterizations."""
    dataset, training = real
    shape = (3, *dataset.image_shape)
    sets = [training.batch(one_per_class(training, seed))[0] for seed in range(100)]
    sets += [training.batch(torch.arange(len(training)))[0]]
    sets += [scale * torch.randn(shape) for scale in (0.01, 1.0, 30.0, 1e4)]
    for name in ("pixels", "spectral", "dct", "tiles", "svd", "bases"):
        module = parameterizations.build({"name": name, **SETTINGS.get(name, {})}, dataset.spec, 4)
        module.initialize(training, torch.Generator().manual_seed(0))
        sets.append(module.decode()[0].detach())
    for images in sets:
        assert inputs(images, dataset, training) is images
        for pixels in ("raw", "unit"):
            with pytest.raises(ValueError, match="look like network inputs, not .*leave the opt"):
                inputs(images, dataset, training, pixels)


SETTINGS = {
    "dct": {"t3": 4}, "tiles": {"factor": 2}, "svd": {"share": 0.5}, "bases": {"t1": 3, "factor": 2}
}  # fmt: skip


def test_pixels_are_recognised_and_converted(real):
    dataset, training = real
    rows = one_per_class(training, 0)
    raw, expected = dataset.train.images[rows], training.batch(rows)[0]
    for images in (raw, raw.int(), raw.long(), raw.float(), raw.double(), raw.half()):
        with pytest.raises(ValueError, match=r"pixels from 0 to 255: give --pixels raw \(pixels="):
            inputs(images, dataset, training)
        with pytest.raises(ValueError, match="pixels from 0 to 255, not unit: give --pixels raw"):
            inputs(images, dataset, training, "unit")
        torch.testing.assert_close(inputs(images, dataset, training, "raw"), expected)
    unit = raw.double() / 255
    for images in (unit, unit.float(), unit + 0.02 * torch.randn(unit.shape)):
        with pytest.raises(ValueError, match=r"set.pt: .*pixels from 0 to 1: give --pixels unit"):
            inputs(images, dataset, training)
        with pytest.raises(ValueError, match="pixels from 0 to 1, not raw: give --pixels unit"):
            inputs(images, dataset, training, "raw")
    torch.testing.assert_close(inputs(unit, dataset, training, "unit"), expected)
    assert torch.equal(inputs(unit, dataset, training, "normalised"), unit.float())
    with pytest.raises(ValueError, match="look like pixels from 0 to 255, not normalised"):
        inputs(raw, dataset, training, "normalised")


@pytest.fixture(scope="module")
def digits():
    dataset = data.load("Digits16")
    return dataset, TrainingData(dataset, data.preprocessing("standardise", dataset))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.randn(0, 1, 16, 16), r"images are \[0, 1, 16, 16\]; Digits16 has .*n at least 1"),
        (torch.randn(5, 3, 16, 16), r"images are \[5, 3, 16, 16\]; Digits16 has \[n, 1, 16, 16\]"),
        (torch.randn(5, 16, 16), "unsqueeze"),
        (torch.randn(5, 16, 16, 1), "permute"),
        (torch.randn(5, 256), r"images are \[5, 256\]"),
        (torch.randn(()), r"images are \[\]"),
        (torch.ones(5, 1, 16, 16, dtype=torch.bool), "torch.bool"),
        (torch.full((5, 1, 16, 16), torch.nan), "image 0 holds values that are not finite"),
        (torch.full((5, 1, 16, 16), 1e300, dtype=torch.float64), "not finite"),
        (torch.randn(5, 1, 16, 16).index_fill(0, torch.tensor(3), torch.inf), "image 3 holds"),
        (torch.zeros(5, 1, 16, 16), "pixels from 0 to 1"),
        (torch.full((5, 1, 16, 16), 60_000.0), "from 6e.04 to 6e.04; raw pixels lie in 0 to 255"),
        (torch.full((5, 1, 16, 16), 60_000), "raw pixels lie in 0 to 255"),
        (torch.full((5, 1, 16, 16), -3, dtype=torch.int8), "integers from -3 to -3"),
        (torch.ones((5, 1, 16, 16), dtype=torch.uint8), "pixels from 0 to 1: give --pixels unit"),
    ],
)
def test_images_that_are_none(digits, images, message):
    with pytest.raises(ValueError, match=message) as caught:
        inputs(images, *digits)
    assert str(caught.value).startswith("set.pt: ") and "\n" not in str(caught.value)


def test_values_whose_squares_overflow_are_refused_and_smaller_ones_are_not(digits):
    """The norms of networks sum squares in float32, and would make every image the same."""
    largest = (torch.finfo(torch.float32).max / 256) ** 0.5
    signs = torch.ones(3, 1, 16, 16)
    signs[..., ::2] = -1
    for times, is_taken in ((0.999, True), (1.001, False)):
        images = signs * torch.tensor([1.0, largest * times, 2.0])[:, None, None, None]
        assert torch.isfinite(images[1].square().sum()) == is_taken
        if is_taken:
            assert torch.equal(inputs(images, *digits), images)
            continue
        for pixels in (None, "normalised"):
            with pytest.raises(
                ValueError, match=r"image 1 reaches 1\.15.e\+18; expected .* at most"
            ):
                inputs(images, *digits, pixels)


CLASSES = torch.tensor([0, 2, 1, 2, 0, 1])
ONE_HOT = F.one_hot(CLASSES, 3)
LOGITS = 4.0 * ONE_HOT + torch.tensor([0.3, -1.0, 0.5])


def meant(labels, labels_are=None):
    return targets(labels, 6, 3, "set.pt", labels_are)


@pytest.mark.parametrize(
    "dtype",
    [torch.int64, torch.int32, torch.uint8, torch.int8, torch.float16, torch.bfloat16,
     torch.float32, torch.float64],
)  # fmt: skip
def test_classes_and_one_hot_rows_of_any_dtype(dtype):
    for labels in (CLASSES, CLASSES[:, None]):
        assert torch.equal(meant(labels.to(dtype)), CLASSES)
        assert meant(labels.to(dtype)).dtype == torch.int64
    soft = meant(ONE_HOT.to(dtype))
    assert soft.dtype == torch.float32 and torch.equal(soft, ONE_HOT.float())


def test_soft_labels_are_what_is_said_of_them():
    probabilities = LOGITS.softmax(1)
    for said in (None, "probabilities"):
        torch.testing.assert_close(meant(probabilities, said), probabilities)
        assert meant(probabilities.bfloat16(), said).dtype == torch.float32
        assert meant((probabilities * 1e4).round() / 1e4, said).shape == (6, 3)
    torch.testing.assert_close(meant(LOGITS, "logits"), probabilities)
    torch.testing.assert_close(meant(probabilities.log(), "logits"), probabilities)
    assert torch.equal(meant(ONE_HOT - 1 / 3, "centred"), CLASSES)
    assert torch.equal(meant(0.8 * ONE_HOT - 0.3, "centred"), CLASSES)  # learned: no exact mean


@pytest.mark.parametrize(
    ("labels", "labels_are", "message"),
    [
        (LOGITS, None, r"image 0 is \[4.3, -1, 0.5\] with sum 3.8; .* --labels-are logits"),
        (LOGITS, "probabilities", "expected probabilities"),
        (ONE_HOT - 1 / 3, None, r"look like centred, not probab.* give --labels-are centred \(lab"),
        (ONE_HOT - 1 / 3, "logits", "look like centred, not logits"),
        (LOGITS.softmax(1), "logits", "look like probabilities, not logits"),
        (LOGITS.softmax(1), "centred", "look like probabilities, not centred"),
        (LOGITS.softmax(1) * 1.01, None, "with sum 1.01"),
        (ONE_HOT * 100, None, "with sum 100"),
        (ONE_HOT * 0, None, "look like centred, not probabilities"),
        (ONE_HOT - 0.001 * torch.tensor([1, -1, 0.0]), None, "none below 0"),
        (torch.zeros(6, 3) - 0.2, "centred", "one highest value"),
        (
            ONE_HOT[:, :2],
            None,
            r"labels are \[6, 2\]; .*\[6\] or \[6, 1\], or soft labels \[6, 3\]",
        ),
        (torch.randn(6, 1, 16, 16), None, r"labels are \[6, 1, 16, 16\]"),
        (ONE_HOT[:, None], None, r"labels are \[6, 1, 3\]"),
        (torch.tensor(3), None, r"labels are \[\]"),
        (CLASSES[:5], None, "6 images but 5 labels"),
        (CLASSES.index_fill(0, torch.tensor([4]), -100), None, "image 4 is -100; .* from 0 to 2"),
        (CLASSES + 1, None, "image 1 is 3; expected a class"),
        (CLASSES - 1, None, "image 0 is -1"),
        (CLASSES + 0.5, None, "image 0 is 0.5; expected a class, a whole number"),
        (CLASSES * torch.nan, None, "image 0 is nan"),
        (CLASSES / 0.0, None, "image 0 is nan"),
        (LOGITS.log(), "logits", "image 0 is "),
        (CLASSES, "logits", r"--labels-are logits \(labels_are='logits'\) has no effect on lab"),
        (CLASSES, "probabilities", "has no effect"),
    ],
)
def test_labels_that_are_none(labels, labels_are, message):
    with pytest.raises(ValueError, match=message) as caught:
        meant(labels, labels_are)
    assert "\n" not in str(caught.value)


def test_what_may_be_said():
    with pytest.raises(ValueError, match=r"--pixels \(pixels=\) is 'row'; .*did you mean raw"):
        Meaning(pixels="row")
    with pytest.raises(ValueError, match="expected logits, centred, probabilities; did you mean l"):
        Meaning(labels_are="logit")
    for said in ({"preprocessing": "zca"}, {"pixels": "raw"}, {"labels_are": "logits"}):
        with pytest.raises(ValueError, match="has no effect: it is ours; leave it out"):
            Meaning(**said).must_be_empty("it is ours")


class Pairs(Dataset):
    """A data set of arrays and plain numbers, as many are."""

    def __init__(self, images, labels):
        self.pairs = list(zip(images, labels, strict=True))

    def __len__(self):
        return len(self.pairs)

    def __getitem__(self, number):
        return self.pairs[number]


def test_sets_in_memory_of_any_kind():
    images, labels = torch.randn(6, 1, 4, 4), CLASSES
    arrays = images.numpy(), labels.numpy()
    for source in (
        (images, labels), [images, labels], {"images": images, "labels": labels}, arrays,
        (images.requires_grad_(), labels), (arrays[0][::-1][::-1], labels.tolist()),
        (arrays[0].astype(">f4"), labels.numpy().astype(">i2")), TensorDataset(images, labels),
        Pairs(images, labels), Pairs(images, labels.tolist()), Pairs(*arrays),
        list(zip(images, labels.tolist(), strict=True)), Pairs(arrays[0].tolist(), labels[:, None]),
    ):  # fmt: skip
        found = from_python(source)
        assert torch.equal(found.images.float(), images.detach()), source
        assert torch.equal(found.labels.flatten().long(), labels) and len(found.labels) == 6
        assert not found.images.requires_grad
    read_only = arrays[0].copy()
    read_only.flags.writeable = False
    assert torch.equal(from_python((read_only, labels)).images, images)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (torch.zeros(2, 1, 4, 4), "the set is a Tensor; expected an artefact, .images, labels."),
        (np.zeros((2, 1, 4, 4)), "the set is a ndarray"),
        (7, "the set is a int"),
        (None, "the set is a NoneType"),
        (iter([]), "the set is a list_iterator"),
        ([], "holds no images"),
        ((torch.zeros(2), torch.zeros(2), torch.zeros(2)), "item 0 is a Tensor; expected a pair"),
        ((torch.zeros(2), "ab"), "the set: labels are a str of "),
        ((torch.zeros(2), None), "the set: labels are a NoneType of object"),
        ((torch.zeros(2), [[1], [1, 2]]), "the set: labels are a list"),
        ((torch.zeros(2, dtype=torch.complex64), [0, 1]), "images are a tensor of torch.complex64"),
        ((torch.zeros(2, device="meta"), [0, 1]), "images are a tensor without values"),
        ((torch.zeros(1, 1, 4, 4).expand(10**12, 1, 4, 4), [0]), "numbers that repeat a few"),
        ((torch.eye(2).to_sparse(), [0, 1]), "layout torch.sparse_coo"),
        ((np.array(["a"]), [0]), "images are a ndarray of <U1"),
        (Pairs([object()], [0]), "image 0 are a object of object"),
        (Pairs([torch.zeros(1), torch.zeros(2)], [0, 1]), r"image 1 is \[2\], image 0 is \[1\]"),
        (Pairs(torch.zeros(2, 1), [0, [1]]), r"label 1 is \[1\], label 0 is \[\]"),
    ],
)
def test_what_is_no_set(source, message):
    with pytest.raises(ValueError, match=message) as caught:
        from_python(source)
    assert "\n" not in str(caught.value)


def test_an_origin_begins_every_message(digits):
    with pytest.raises(ValueError, match=r"^set.pt: labels are a str"):
        ForeignSet.of(torch.zeros(1), "x", "set.pt")
