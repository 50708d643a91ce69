"""Wavelet sets: the transform, both readings of the draw, storage, evaluation anew each epoch."""

import itertools

import pytest
import torch
import torch.nn.functional as F

from nsdbench import data
from nsdbench.data.training import TrainingData
from nsdbench.errors import BudgetExceeded
from nsdbench.evaluation.judge import evaluate
from nsdbench.evaluation.protocols import get
from nsdbench.seeding import generator
from nsdbench.sets import parameterizations
from nsdbench.sets.artefact import Artefact, load_artefact
from nsdbench.sets.budget import Budget
from nsdbench.sets.parameterizations.wavelet import Wavelet, WaveletShape, haar, inverse_haar

NAME = "synthetic:4x3x8x8@50+20"
SPEC = data.spec(NAME)


@pytest.fixture
def real():
    dataset = data.load(NAME).without_test()
    return TrainingData(dataset, data.preprocessing("standardise", dataset))


def started(real, ipc=3, **settings):
    module = parameterizations.build({"name": "dwt", "draw": "mask", **settings}, SPEC, ipc)
    module.initialize(real, generator(0, "test"))
    return module


def test_bands_by_explicit_sums():
    """Each band is the sum over a 2x2 block of sample times sign, halved."""
    torch.manual_seed(0)
    image = torch.randn(1, 1, 4, 6, dtype=torch.float64)
    low, details = haar(image)
    signs = {0: (1, 1, -1, -1), 1: (1, -1, 1, -1), 2: (1, -1, -1, 1)}
    for y, x in itertools.product(range(2), range(3)):
        block = image[0, 0, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2].flatten().tolist()
        assert abs(low[0, 0, y, x] - sum(block) / 2) < 1e-15
        for band, sign in signs.items():
            expected = sum(s * value for s, value in zip(sign, block, strict=True)) / 2
            assert abs(details[0, band, 0, y, x] - expected) < 1e-15


def test_first_detail_answers_to_rows_and_second_to_columns():
    rows = torch.tensor([[1.0, 1], [-1, -1]])[None, None]
    low, details = haar(rows)
    assert low.item() == 0 and details.flatten().tolist() == [2, 0, 0]
    low, details = haar(rows.transpose(2, 3))
    assert low.item() == 0 and details.flatten().tolist() == [0, 2, 0]


def test_transform_is_orthonormal_and_inverts():
    torch.manual_seed(0)
    images = torch.randn(2, 3, 8, 4, dtype=torch.float64)
    low, details = haar(images)
    torch.testing.assert_close(inverse_haar(low, details), images, rtol=0, atol=1e-14)
    energy = low.square().sum() + details.square().sum()
    torch.testing.assert_close(energy, images.square().sum(), rtol=1e-14, atol=0)


def test_the_low_band_alone_is_the_box_mean():
    torch.manual_seed(0)
    images = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    low, details = haar(images)
    expected = F.interpolate(F.avg_pool2d(images, 2), scale_factor=2, mode="nearest")
    torch.testing.assert_close(inverse_haar(low, 0 * details), expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("settings", [{}, {"draw": "fusion"}])
def test_without_a_draw_the_start_is_real_images(real, settings):
    module = started(real, **settings)
    images, labels = module.decode()
    everything, classes = real.batch(torch.arange(len(real)))
    distance = (everything[None] - images[:, None]).abs().flatten(2).amax(2)
    assert distance.amin(1).max() < 1e-5
    assert torch.equal(classes[distance.argmin(1)], labels)
    assert labels.tolist() == [c for c in range(4) for _ in range(3)]


def test_masks_keep_each_detail_band_half_of_the_time(real):
    module = started(real)
    stream = generator(1, "test")
    index = torch.arange(12).repeat(400)
    images, labels = module.decode(index, stream)
    assert torch.equal(labels, module.labels[index])
    low, details = haar(images)
    torch.testing.assert_close(low, module.low[index], rtol=0, atol=1e-5)
    full = module.details[index].flatten(2)
    kept = (details.flatten(2) - full).abs().amax(2) < 1e-5
    dropped = details.flatten(2).abs().amax(2) < 1e-5
    assert (kept ^ dropped).all(), "a band is neither whole nor absent"
    share = kept.float().mean(0)
    assert ((share - 0.5).abs() < 4 * 0.5 / len(index) ** 0.5).all(), share
    patterns = torch.unique(kept.int(), dim=0)
    assert len(patterns) == 8, "some subset of the detail bands never occurs"


def test_fusion_joins_four_bands_of_a_class_each_drawn_on_its_own(real):
    """A band of an image is a stored one of its kind and class; all combinations occur alike."""
    module = started(real, ipc=3, draw="fusion", num_low=6)
    assert (module.shape.num_low, module.shape.num_details) == (6, 2)
    index = torch.arange(24).repeat(400)
    images, labels = module.decode(index, generator(1, "test"))
    assert torch.equal(labels, index // 6)
    low, details = haar(images)
    bands = [(low, module.low, 6), *((details[:, k], module.details[:, k], 2) for k in range(3))]
    chosen = torch.zeros_like(index)
    for drawn, stored, count in bands:
        distance = (drawn[:, None] - stored[None]).abs().flatten(2).amax(2)
        assert distance.amin(1).max() < 1e-5
        partner = distance.argmin(1)
        assert torch.equal(partner // count, labels)
        chosen = chosen * count + partner % count
    counts = torch.bincount(chosen, minlength=48).double()
    expected = len(index) / 48
    chi_squared = ((counts - expected) ** 2 / expected).sum()
    assert chi_squared < 47 + 4 * (2 * 47) ** 0.5  # mean and standard deviation of 47 degrees


def test_fusion_has_one_image_a_class_to_give_at_ipc_1(real):
    module = started(real, ipc=1, draw="fusion")
    assert (module.shape.num_low, module.shape.num_details) == (1, 1)
    assert torch.equal(module.decode(None, generator(1, "test"))[0], module.decode()[0])


@pytest.mark.parametrize("settings", [{}, {"draw": "fusion"}])
def test_the_generator_alone_decides(real, settings):
    module = started(real, **settings)
    first, again, other = (module.decode(None, generator(s, "test"))[0] for s in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(module.decode()[0], module.decode()[0])


@pytest.mark.parametrize(
    ("name", "settings", "ipc", "images", "stored"),
    [
        # 768 floats a band of 3 x 16 x 16, four bands an image
        ("CIFAR10", {"draw": "mask"}, 1, 10, 30_720),
        ("CIFAR10", {"draw": "fusion"}, 10, 100, 307_200),
        ("CIFAR10", {"draw": "fusion", "num_low": 19}, 10, 190, 10 * (19 + 3 * 7) * 768),
        ("CIFAR10", {"draw": "fusion", "num_low": 20}, 10, 200, 10 * (20 + 3 * 6) * 768),
        ("FashionMNIST", {"draw": "mask"}, 10, 100, 78_400),
    ],
)
def test_hand_counts(name, settings, ipc, images, stored):
    planned = parameterizations.plan({"name": "dwt", **settings}, data.spec(name), ipc)
    limit = Budget(data.spec(name).image_shape, 10, ipc).num_elements
    assert planned.num_images == images and planned.num_elements == stored <= limit
    module = Wavelet(planned)
    assert module.num_images == images
    assert module.ledger().stored_bits == 32 * stored


def test_gradient_reaches_every_band_and_the_file_returns_it(real, tmp_path):
    module = started(real)
    images, _ = module.decode()
    torch.manual_seed(0)
    (images * torch.randn_like(images)).sum().backward()
    assert all(tensor.grad.abs().min() > 0 for tensor in module.parameters())
    (group,) = module.parameter_groups({"lr_syn": 2.0})
    assert group["lr"] == 2.0 and len(group["params"]) == len(list(module.parameters()))
    path = Artefact(module.requires_grad_(False), {}).save(tmp_path / "set.safetensors")
    read = load_artefact(path).parameterization
    for seed in (None, 3):
        stream, other = (None if seed is None else generator(seed, "x") for _ in range(2))
        assert torch.equal(read.decode(None, stream)[0], module.decode(None, other)[0])


def test_evaluation_draws_anew_for_every_epoch(real, monkeypatch):
    """Every epoch decodes once, from the stream of the network; equal seeds, equal accuracies."""
    dataset = data.load(NAME)
    kind = real.preprocessing
    artefact = Artefact(
        started(real).requires_grad_(False),
        {"preprocessing": kind.kind, "preprocessing_hash": kind.hash},
    )
    decoded = []
    decode = Wavelet.decode

    def spy(self, index=None, generator=None):
        found = decode(self, index, generator)
        decoded.append((generator is not None, found[0].clone()))
        return found

    monkeypatch.setattr(Wavelet, "decode", spy)
    protocol = get("common-5ep")

    def run():
        return evaluate(artefact, dataset, "convnet1-w8", protocol, 1, seed=0)

    first = run()
    draws = [found for is_draw, found in decoded if is_draw]
    assert len(draws) == protocol.epochs + 1 == 6
    assert len(decoded) - len(draws) == 1, "checked and trained on after one decoding"
    assert all(not torch.equal(a, b) for a, b in itertools.pairwise(draws))
    assert run().accuracies == first.accuracies


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_shape": (1, 7, 8)}, "7x8; .* even sides"),
        ({"draw": "all"}, "draw is 'all'"),
        ({"num_low": 0}, "0 low bands and 2 triplets"),
        ({"num_low": 3}, "'mask' with 3 low bands and 2 triplets"),
    ],
)
def test_bad_shapes_are_named(changes, message):
    good = {
        "name": "dwt", "num_classes": 2, "image_shape": (1, 8, 8), "draw": "mask",
        "num_low": 2, "num_details": 2,
    }  # fmt: skip
    WaveletShape(**good)
    with pytest.raises(ValueError, match="1.5 low bands and .* expected whole numbers"):
        WaveletShape(**{**good, "num_low": 1.5})
    with pytest.raises(ValueError, match=message):
        WaveletShape(**{**good, **changes})


def test_bad_settings_are_named():
    with pytest.raises(ValueError, match="num_low is 3"):
        parameterizations.plan({"name": "dwt", "draw": "mask", "num_low": 3}, SPEC, 3)
    with pytest.raises(BudgetExceeded, match="num_low 10 leaves no room"):
        parameterizations.plan({"name": "dwt", "draw": "fusion", "num_low": 10}, SPEC, 3)
    with pytest.raises(ValueError, match="draw"):
        parameterizations.plan({"name": "dwt"}, SPEC, 3)
