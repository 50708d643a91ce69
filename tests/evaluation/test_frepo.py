"""FRePo's protocol: its loop, its labels and networks, and its augmentation, against scipy."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import nn

from nsdbench import data, models
from nsdbench.evaluation import frepo_augment, protocols
from nsdbench.evaluation.judge import Judge, evaluate
from nsdbench.evaluation.training import Trained, train
from nsdbench.evaluation.training_set import TrainingSet
from nsdbench.seeding import generator
from nsdbench.sets import Artefact, parameterizations
from nsdbench.sets.meaning import Meaning

PROTOCOL = protocols.get("frepo")


def stored(dataset, learned=True):
    """A set of six images whose learned labels differ from their start."""
    settings = {"name": "pixels", "learned_labels": learned, "over_budget": learned}
    module = parameterizations.build(settings, dataset.spec, 2)
    stream = torch.Generator().manual_seed(0)
    module.spectra.data = torch.randn(module.spectra.shape, generator=stream)
    if learned:
        module.soft_labels.data += 0.05 * torch.randn(6, 3, generator=stream)
    transform = data.preprocessing("standardise", dataset)
    known = {"preprocessing": "standardise", "preprocessing_hash": transform.hash}
    return Artefact(module.requires_grad_(False), known)


def test_the_loop_step_by_step(monkeypatch):
    """Adam on half the squared error, batches in turn across epochs, a rate of every step."""
    monkeypatch.setattr(frepo_augment, "augment", lambda images, stream: images)
    stream = torch.Generator().manual_seed(0)
    images = torch.randn(7, 1, 2, 2, generator=stream, dtype=torch.float64)
    labels = torch.randn(7, 3, generator=stream, dtype=torch.float64)
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3)).double()
    weight, bias = (p.detach().clone() for p in model.parameters())
    protocol = replace(PROTOCOL, batch_size=3, steps_by_size=((7, 9),), warm_up_steps=4)
    fetch = TrainingSet(7, lambda rows: (images[rows], labels[rows]))
    assert train(model, fetch, protocol, 0.01, "", generator(0, "loop")).steps == 9

    order = [[0, 1, 2], [3, 4, 5], [6, 0, 1], [2, 3, 4], [5, 6, 0], [1, 2, 3], [4, 5, 6]] * 2
    moments = [[torch.zeros_like(p) for p in (weight, bias)] for _ in range(2)]
    for step in range(9):
        rows = order[step]
        x, y = images[rows].flatten(1), labels[rows]
        error = (x @ weight.T + bias - y) / 3
        grads = [error.T @ x, error.sum(0)]
        share = step / 4 if step < 4 else 0.01 + 0.99 * (1 + math.cos(math.pi * (step - 4) / 5)) / 2
        for parameter, grad, first, second in zip((weight, bias), grads, *moments, strict=True):
            first.mul_(0.9).add_(0.1 * grad)
            second.mul_(0.999).add_(0.001 * grad**2)
            up = first / (1 - 0.9 ** (step + 1))
            down = (second / (1 - 0.999 ** (step + 1))).sqrt() + 1e-8
            parameter -= 0.01 * share * up / down
    torch.testing.assert_close(model[1].weight.detach(), weight, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(model[1].bias.detach(), bias, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("images", "steps"),
    [
        (10, 1_000), (100, 2_000), (200, 20_000), (400, 5_000), (500, 5_000), (1_000, 10_000),
        (2_000, 40_000), (5_000, 40_000), (3, 1_000), (20, 2_000), (480, 5_000), (60_000, 40_000),
    ],
)  # fmt: skip
def test_steps_by_the_number_of_images(images, steps):
    """The table of script/eval.py; sizes between and beyond: those of the next size or the last."""
    assert PROTOCOL.total_steps(images) == PROTOCOL.decay_step(images) == steps


def test_it_is_plain_json_and_reads_as_a_line():
    assert json.loads(json.dumps(PROTOCOL.as_dict())) == PROTOCOL.as_dict()
    line = str(PROTOCOL)
    assert "steps_by_size 10: 1000/100: 2000" in line and "networks convnet: convnet_frepo" in line


def test_rates_of_the_published_schedule():
    """0 in the first step, 3e-4 at step 500, a hundredth of it after the last of 2,000."""
    factors = [PROTOCOL.step_factor(step, 2_000) for step in (0, 250, 500, 1_250, 2_000)]
    assert factors == pytest.approx([0.0, 0.5, 1.0, (1 + 0.01) / 2, 0.01])
    assert PROTOCOL.lr == 3e-4


@pytest.mark.parametrize(
    ("asked", "trained"),
    [
        ("convnet3-w128", "convnet_frepo3-w128-nonorm"),
        ("convnet4-w32", "convnet_frepo4-w32-nonorm"),
        ("resnet18", "resnet18-bn"),
        ("resnet18-w8", "resnet18-w8-bn"),
        ("vgg11-w8", "vgg11-w8-bn"),
        ("alexnet", "alexnet"),
        ("convnet3-w8-bn", "convnet3-w8-bn"),
        ("convnet_frepo3-w8-bn", "convnet_frepo3-w8-bn"),
    ],
)
def test_networks_that_stand_for_those_of_a_table(asked, trained):
    assert PROTOCOL.network(asked) == trained
    assert protocols.get("common").network(asked) == asked


def test_the_network_that_is_trained_and_where_it_starts(dataset, monkeypatch):
    seen = []

    def training(model, *_):
        seen.append(model)
        return Trained(0, "generic")
        yield

    monkeypatch.setattr("nsdbench.evaluation.judge.training", training)
    judge = Judge(stored(dataset), dataset, "convnet2-w4", PROTOCOL, "cpu")
    assert judge.steps == 1_000
    judge.network(0, 0)
    (model,) = seen
    assert isinstance(model, type(models.for_dataset("convnet_frepo2-w4-nonorm", dataset)))
    assert model.norm == "none" and not model.classifier.bias.any()


def test_labels_that_networks_regress_on(dataset):
    """Learned ones as they are; classes and probabilities less a third; centred ones of others."""
    rows = torch.arange(6)

    def served(source, protocol=PROTOCOL, **meaning):
        return Judge(
            source, dataset, "convnet2-w4", protocol, "cpu", Meaning(**meaning)
        )._set.fetch(rows)[1]

    learned, plain = stored(dataset), stored(dataset, learned=False)
    one_hot = torch.eye(3)[torch.tensor([0, 0, 1, 1, 2, 2])]
    assert torch.equal(served(learned), learned.soft_labels())
    torch.testing.assert_close(served(plain), one_hot - 1 / 3)
    assert torch.equal(served(learned, protocols.get("common")), torch.tensor([0, 0, 1, 1, 2, 2]))
    images = plain.images()
    soft = 0.7 * one_hot + 0.1
    torch.testing.assert_close(served((images, soft)), soft - 1 / 3)
    centred = (0.9 * (one_hot - 1 / 3)).double()
    torch.testing.assert_close(served((images, centred), labels_are="centred"), centred.float())
    real = data.TrainingData(dataset, data.preprocessing("standardise", dataset))
    expected = torch.eye(3)[real.labels[:6]] - 1 / 3
    torch.testing.assert_close(served(real), expected)


def test_learned_labels_of_other_classes_are_refused(dataset):
    learned = stored(dataset)
    learned.parameterization.soft_labels = nn.Parameter(torch.zeros(6, 2), requires_grad=False)
    with pytest.raises(ValueError, match="learned labels of 2 numbers; .* each of 3 classes"):
        Judge(learned, dataset, "convnet2-w4", PROTOCOL, "cpu")


def test_it_learns_the_stand_in_and_repeats_itself(dataset):
    rows = torch.cat([torch.nonzero(dataset.train.labels == c).flatten()[:4] for c in range(3)])
    transform = data.preprocessing("standardise", dataset)
    real = transform.apply(dataset.train.images[rows]), dataset.train.labels[rows]
    short = replace(PROTOCOL, steps_by_size=((12, 120),), warm_up_steps=20, lr=3e-3)
    first, second = (evaluate(real, dataset, "convnet2-w8", short, 1).accuracies for _ in range(2))
    assert first == second and first[0] > 60


@pytest.mark.parametrize("shape", [(3, 2, 7, 5), (2, 1, 6, 6)])
def test_resampling_is_scipys_with_repeated_borders(shape):
    """At arbitrary affine maps; "nearest" is scipy's word for going on with the border."""
    stream = torch.Generator().manual_seed(0)
    images = torch.randn(shape, generator=stream)
    matrix = torch.eye(2) + 0.4 * torch.randn(shape[0], 2, 2, generator=stream)
    offset = 2 * torch.randn(shape[0], 2, generator=stream)
    got = frepo_augment.resample(images, matrix, offset)
    height, width = shape[2:]
    middle = np.array([height / 2 - 0.5, width / 2 - 0.5])
    places = np.stack(np.mgrid[:height, :width], -1) - middle
    for image, linear, shift, ours in zip(images, matrix, offset, got, strict=True):
        sources = places @ linear.double().numpy().T + shift.double().numpy() + middle
        for channel, result in zip(image, ours, strict=True):
            expected = ndimage.map_coordinates(
                channel.double().numpy(), np.moveaxis(sources, -1, 0), order=1, mode="nearest"
            )
            np.testing.assert_allclose(result.numpy(), expected, atol=1e-5)


@pytest.fixture
def uniform(monkeypatch):
    """Let every draw from U(-1, 1) be one number."""

    def always(value):
        monkeypatch.setattr(frepo_augment, "_uniform", lambda s, g: torch.full(s, float(value)))

    return always


def test_color_by_hand(uniform):
    """Brightness and both factors at their ends; one pixel of mean 2.5 and channels 1, 4."""
    uniform(1.0)
    image = torch.tensor([1.0, 4.0]).view(1, 2, 1, 1)
    factor = math.exp(0.25)
    got = frepo_augment._color(image, None).flatten()
    # both means are the pixel's own: 2.75 after brightness
    expected = torch.tensor([2.75 - 1.5 * factor**2, 2.75 + 1.5 * factor**2])
    torch.testing.assert_close(got, expected)
    grey = torch.tensor([1.0, 3.0]).view(1, 1, 1, 2)
    torch.testing.assert_close(
        frepo_augment._color(grey, None).flatten(),
        torch.tensor([2.25 - factor, 2.25 + factor]),  # saturation changes nothing
    )


@pytest.mark.parametrize(("value", "zoom"), [(1.0, 1.25), (-1.0, 0.8), (0.0, 1.0)])
def test_crop_by_hand(uniform, value, zoom):
    """At an end of all ranges: source = (p + d) / z, d = |8 z - 8| / 2 with the sign of the end."""
    uniform(value)
    images = torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    shift = value * abs(8 * zoom - 8) / 2
    expected = frepo_augment.resample(
        images, torch.eye(2)[None] / zoom, torch.full((1, 2), shift / zoom)
    )
    torch.testing.assert_close(frepo_augment._crop(images, None), expected, rtol=0, atol=1e-5)
    if zoom > 1:  # the window ends where the image does
        assert (4 + shift) / zoom == pytest.approx(4)


def test_rotation_is_by_the_angle_about_the_centre(uniform, monkeypatch):
    """A quarter turn instead of 15 degrees moves whole pixels."""
    uniform(1.0)
    monkeypatch.setattr(frepo_augment, "DEGREES", 90.0)
    image = torch.arange(9.0).view(1, 1, 3, 3)
    got = frepo_augment._rotate(image, None)[0, 0]
    # (y, x) comes from (x, -y)
    expected = torch.tensor([[2.0, 5, 8], [1, 4, 7], [0, 3, 6]])
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-4)


def test_translation_moves_an_eighth_and_repeats_the_border(uniform):
    uniform(1.0)
    image = torch.arange(64.0).view(1, 1, 8, 8)
    expected = torch.nn.functional.pad(image, (1, 0, 1, 0), mode="replicate")[:, :, :8, :8]
    torch.testing.assert_close(frepo_augment._translate(image, None), expected, rtol=0, atol=1e-4)


def test_cutout_is_one_square_inside_at_every_place():
    """400 images of 9 px: a square of 2 px at each of the 64 places, never less."""
    images = torch.ones(1000, 2, 9, 9)
    got = frepo_augment._cutout(images, torch.Generator().manual_seed(0))
    cut = got[:, 0] == 0
    assert torch.equal(got[:, 0], got[:, 1]) and (cut.sum((1, 2)) == 4).all()
    corners = {tuple(torch.nonzero(square)[0].tolist()) for square in cut}
    assert corners == {(y, x) for y in range(8) for x in range(8)}
    last = [tuple(torch.nonzero(square)[-1].tolist()) for square in cut]
    assert all(y - top == 1 and x - left == 1 for (y, x), (top, left) in zip(
        last, [tuple(torch.nonzero(square)[0].tolist()) for square in cut], strict=True
    ))  # fmt: skip


@pytest.mark.parametrize("channels", [1, 3])
def test_every_operation_is_equally_likely_and_flips_are_for_colours(channels, monkeypatch):
    """3,000 draws among 5 or 6; a count may be six of its standard deviations off."""
    names = [*frepo_augment.OPERATIONS, *(["flip"] if channels == 3 else [])]
    counts = dict.fromkeys(names, 0)

    def counting(name):
        def operation(images, stream):
            counts[name] += 1
            return images

        return operation

    monkeypatch.setattr(frepo_augment, "_APPLY", {name: counting(name) for name in names})
    stream = torch.Generator().manual_seed(0)
    for _ in range(3000):
        frepo_augment.augment(torch.zeros(2, channels, 4, 4), stream)
    share = 1 / len(names)
    allowed = 6 * (3000 * share * (1 - share)) ** 0.5
    assert all(abs(count - 3000 * share) < allowed for count in counts.values())


def test_flips_are_half_of_the_images():
    images = torch.arange(4.0).expand(1000, 1, 3, 4)
    got = frepo_augment._flip(images, torch.Generator().manual_seed(0))
    is_flipped = (got == images.flip(-1)).all((1, 2, 3))
    assert ((got == images).all((1, 2, 3)) ^ is_flipped).all()
    assert abs(int(is_flipped.sum()) - 500) < 6 * 250**0.5


def test_draws_differ_between_images_and_stay_in_their_ranges():
    drawn = frepo_augment._uniform((2000, 2), torch.Generator().manual_seed(0))
    assert -1 <= drawn.min() < -0.99 and 0.99 < drawn.max() <= 1 and abs(drawn.mean()) < 0.05
    image = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(1)).expand(2, 3, 8, 8)
    for name in ("color", "crop", "rotate", "translate"):
        first, second = frepo_augment._APPLY[name](image, torch.Generator().manual_seed(2))
        assert not torch.equal(first, second), name
