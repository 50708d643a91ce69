"""DM, DC and DSA: values and gradients against explicit statements, networks, memory, resuming."""

import weakref
from typing import get_args

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nsdbench import data, models
from nsdbench.data.training import TrainingData
from nsdbench.distillation import objectives
from nsdbench.distillation.checkpoint import LoopState
from nsdbench.distillation.loop import optimise
from nsdbench.distillation.objectives import (
    DistributionMatching,
    GradientMatching,
    ObjectiveContext,
)
from nsdbench.distillation.objectives.families.classwise import (
    DistributionSettings,
    GradientSettings,
)
from nsdbench.distillation.objectives.gradient import DISTANCES, ParameterGradient
from nsdbench.models.nets.classifier import ImageClassifier
from nsdbench.seeding import generator
from nsdbench.sets import parameterizations
from nsdbench.student import augment
from nsdbench.student.selection import select_step

NAME = "synthetic:3x1x8x8"
DSA = "color_crop_cutout_flip_scale_rotate"
GRADIENT = {
    "distance": "grouped_cosine",
    "real_batch": 4,
    "outer_loops": 3,
    "inner_epochs": 2,
    "lr_network": 0.05,
    "batch_network": 4,
}


def make_model() -> ImageClassifier:
    return models.from_id("convnet1-w4", in_channels=1, image_size=8, num_classes=3)


@pytest.fixture
def world():
    dataset = data.load(NAME).without_test()
    real = TrainingData(dataset, data.preprocessing("standardise", dataset))
    pixels = parameterizations.build({"name": "pixels"}, data.spec(NAME), 2)
    pixels.initialize(real, generator(0, "pixels"))
    return make_model(), real, pixels


def context_of(model, real, strategy=None) -> ObjectiveContext:
    return ObjectiveContext(model, real, strategy, lambda: pytest.fail("experts were opened"))


def make_gradient(world, strategy=None, **changes) -> GradientMatching:
    settings = {**GRADIENT, "augment": strategy is not None, **changes}
    return GradientMatching(context_of(*world[:2], strategy), GradientSettings(**settings))


def make_distribution(model, real, strategy=None, real_batch=4) -> DistributionMatching:
    settings = DistributionSettings(augment=strategy is not None, real_batch=real_batch)
    return DistributionMatching(context_of(model, real, strategy), settings)


def explicit_gradients(model: nn.Module, images, labels, create_graph=False):
    """Gradients of the mean cross-entropy by autograd through the plain modules."""
    logits = model.classifier(model.features(images).flatten(1))
    return torch.autograd.grad(
        F.cross_entropy(logits, labels), list(model.parameters()), create_graph=create_graph
    )


def explicit_distance(name: str, found, target):
    """The three distances, entry by entry."""
    if name == "squared_error":
        return sum(((a - b) ** 2).sum() for a, b in zip(found, target, strict=True))
    if name == "cosine":
        dot = sum((a * b).sum() for a, b in zip(found, target, strict=True))
        norms = [sum((a**2).sum() for a in side).sqrt() for side in (found, target)]
        return 1 - dot / (norms[0] * norms[1] + 1e-6)
    total = 0.0
    for a, b in zip(found, target, strict=True):
        if a.dim() == 1:
            continue
        for row, other in zip(a, b, strict=True):  # an output channel each
            dot, squares, others = 0.0, 0.0, 0.0
            for x, y in zip(row.reshape(-1), other.reshape(-1), strict=True):
                dot, squares, others = dot + x * y, squares + x * x, others + y * y
            total = total + 1 - dot / (squares**0.5 * others**0.5 + 1e-6)
    return total


@pytest.mark.parametrize("distance", DISTANCES)
def test_gradient_distance_and_its_gradient_are_the_explicit_loops(world, distance):
    """Double backward through the modules in float64 against rows, dots and norms by hand."""
    objective = make_gradient(world, distance=distance).double()
    model = world[0].double()
    models.initialize(model, generator(3))
    objective.theta = models.flatten(model)
    stream = generator(4)
    images = torch.randn(3, 1, 8, 8, generator=stream, dtype=torch.float64, requires_grad=True)
    real = torch.randn(5, 1, 8, 8, generator=stream, dtype=torch.float64)
    label = torch.tensor([1])

    loss = objective.class_loss(images, real, label)
    found = explicit_gradients(model, images, label.expand(3), create_graph=True)
    target = explicit_gradients(model, real, label.expand(5))
    expected = explicit_distance(distance, found, target)
    torch.testing.assert_close(loss, expected, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(
        torch.autograd.grad(loss, images)[0],
        torch.autograd.grad(expected, images)[0],
        rtol=1e-7,
        atol=1e-10,
    )


def test_every_distance_can_be_set():
    assert get_args(GradientSettings.model_fields["distance"].annotation) == tuple(DISTANCES)


def test_the_reference_network_has_394_rows():
    """128 + 128 + 128 + 10 of ConvNet3: equal gradients give 0, opposite ones 2 a row."""
    model = models.build("convnet", in_channels=3, image_size=32, num_classes=10)
    theta = models.flatten(model)
    gradients = models.unflatten(model, theta)
    opposite = models.unflatten(model, -theta)
    assert DISTANCES["grouped_cosine"](gradients, gradients).item() == pytest.approx(0, abs=1e-2)
    assert DISTANCES["grouped_cosine"](gradients, opposite).item() == pytest.approx(788, abs=1e-2)


@pytest.mark.parametrize("is_native", [True, False])
def test_parameter_gradient_passes_gradcheck(world, is_native):
    model = world[0].double() if is_native else nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    models.initialize(model, generator(3))  # no ReLU so near its kink that a difference crosses it
    model = model.double()
    step = select_step(model, "exact")
    assert step.name == ("native" if is_native else "generic")
    theta, label = models.flatten(model), torch.tensor([0, 2])
    x = torch.randn(2, 1, 8, 8, generator=generator(5), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: ParameterGradient.apply(step, theta, x, label), x)


def test_distribution_loss_is_the_squared_distance_of_mean_features(world):
    objective = make_distribution(world[0].double(), world[1])
    models.initialize(world[0], generator(6))
    stream = generator(7)
    images = torch.randn(3, 1, 8, 8, generator=stream, dtype=torch.float64, requires_grad=True)
    real = torch.randn(5, 1, 8, 8, generator=stream, dtype=torch.float64)
    loss = objective.class_loss(images, real, torch.tensor([0]))

    features = [[world[0].features(x[None]).flatten() for x in side] for side in (images, real)]
    means = [sum(side) / len(side) for side in features]
    expected = sum((a - b) ** 2 for a, b in zip(*means, strict=True))
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(
        torch.autograd.grad(loss, images)[0], torch.autograd.grad(expected, images)[0]
    )


@pytest.mark.parametrize("kind", ["distribution", "gradient"])
def test_a_step_sums_all_classes_under_one_siamese_draw_each(world, kind):
    """Every draw replayed by hand: network, then per class the real rows and one augmentation."""
    model, real, pixels = world
    if kind == "gradient":
        objective = make_gradient(world, DSA)
    else:
        objective = make_distribution(model, real, DSA)
    loss = objective.loss(pixels, 0, generator(8))

    stream, total = generator(8), 0.0
    twin = make_model()
    models.initialize(twin, stream)
    images, labels = pixels.decode()
    for label in range(3):
        rows = real.class_rows(label, 4, stream)
        draw = augment.sample(DSA, 4, (1, 8, 8), stream, siamese=True)
        pair = [augment.apply(x, draw) for x in (images[labels == label], real.batch(rows)[0])]
        if kind == "distribution":
            means = [twin.features(x).flatten(1).mean(0) for x in pair]
            total = total + (means[0] - means[1]).square().sum()
        else:
            sides = [
                explicit_gradients(twin, x, torch.full((len(x),), label), create_graph=True)
                for x in pair
            ]
            total = total + explicit_distance("grouped_cosine", *sides)
    torch.testing.assert_close(loss, total, rtol=1e-4, atol=1e-5)


def test_a_siamese_draw_treats_equal_images_alike(world):
    """Real images equal to the decoded ones leave nothing to match, whatever is drawn."""
    model, real, _ = world
    pixels = parameterizations.build({"name": "pixels"}, data.spec(NAME), 1)
    one = TrainingData(OneImage(real), real.preprocessing)
    with torch.no_grad():
        pixels.spectra.copy_(one.batch(torch.arange(3))[0].view_as(pixels.spectra))
    objective = make_distribution(model, one, DSA, real_batch=1)
    for step in range(12):
        assert objective.loss(pixels, step, generator(9, step)).item() == pytest.approx(0, abs=1e-9)


class OneImage:
    """A data set of the first image of every class."""

    def __init__(self, real: TrainingData):
        dataset = data.load(NAME)
        rows = torch.stack([real.rows_of_class(c)[0] for c in range(3)])
        self.train = dataset.train.rows(rows)
        self.num_classes, self.image_shape = 3, dataset.image_shape


@pytest.mark.parametrize("kind", ["distribution", "gradient"])
def test_gradients_add_up_class_by_class(world, kind):
    model, real, pixels = world
    objective = (
        make_gradient(world, DSA) if kind == "gradient" else make_distribution(model, real, DSA)
    )
    loss = objective.loss(pixels, 0, generator(10))
    expected = torch.autograd.grad(loss, pixels.spectra)[0]
    value = objective.accumulate(pixels, 0, generator(10))
    assert value == pytest.approx(loss.item(), rel=1e-6)
    torch.testing.assert_close(pixels.spectra.grad, expected)


def test_one_class_is_in_memory_at_a_time(world, monkeypatch):
    """When a class is decoded, the images and the graph of the class before are gone."""
    model, real, pixels = world
    objective = make_gradient(world)
    decoded: list[weakref.ref] = []
    alive: list[int] = []

    def watch(images, real_images, labels):
        alive.append(sum(ref() is not None for ref in decoded))
        decoded.append(weakref.ref(images.grad_fn))
        assert len(images) == 2
        return GradientMatching.class_loss(objective, images, real_images, labels)

    monkeypatch.setattr(objective, "class_loss", watch)
    objective.accumulate(pixels, 0, generator(11))
    assert alive == [0, 0, 0]


@pytest.mark.parametrize("strategy", [None, DSA])
def test_networks_train_between_steps_and_begin_anew(world, strategy):
    """K = 3: steps 1 and 2 look through the trained network of step 0, step 3 through a new one.

    DSA trains on augmented images: one draw a batch, after the order of all batches.
    """
    _, _, pixels = world
    objective = make_gradient(world, strategy)
    objective.prepare_network(pixels, 0, generator(12, 0))
    theta = objective.theta.clone()
    objective.prepare_network(pixels, 1, generator(12, 1))

    stream = generator(12, 1)
    twin = make_model()
    models.load_flat(twin, theta)
    images, labels = pixels.decode()
    batches = [b for _ in range(2) for b in torch.randperm(6, generator=stream).split(4)]
    assert [len(batch) for batch in batches] == [4, 2, 4, 2]
    for batch in batches:
        x = images[batch]
        if strategy is not None:
            x = augment.apply(x, augment.sample(strategy, len(batch), (1, 8, 8), stream))
        gradients = explicit_gradients(twin, x, labels[batch])
        with torch.no_grad():
            for parameter, gradient in zip(twin.parameters(), gradients, strict=True):
                parameter -= 0.05 * gradient
    torch.testing.assert_close(objective.theta, models.flatten(twin), rtol=1e-4, atol=1e-6)

    objective.prepare_network(pixels, 3, generator(12, 3))
    models.initialize(twin, generator(12, 3))
    assert torch.equal(objective.theta, models.flatten(twin))


def test_a_resumed_run_is_bit_identical(world, tmp_path):
    """The checkpoint falls between two steps of one network."""
    settings = {"momentum": 0.5, "lr_syn": 0.1}

    def start():
        pixels = parameterizations.build({"name": "pixels"}, data.spec(NAME), 2)
        pixels.initialize(world[1], generator(0, "pixels"))
        objective = make_gradient((make_model(), world[1]), DSA)
        return LoopState.start(pixels, objective, settings)

    whole, first, second = start(), start(), start()
    optimise(whole, 5, 0)
    optimise(first, 2, 0)
    first.save(tmp_path / "run.pt")
    second.restore(tmp_path / "run.pt")
    optimise(second, 5, 0)
    assert whole.losses == second.losses
    assert torch.equal(whole.parameterization.spectra, second.parameterization.spectra)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"distance": "cosin"}, "`distance` is 'cosin'; expected .*; did you mean cosine"),
        ({"outer_loops": 0}, "`outer_loops` is 0; expected a whole number of at least 1"),
        ({"inner_epochs": 10**12}, "`inner_epochs` is 1000000000000; .* at most"),
        ({"batch_network": -4}, "`batch_network` is -4; expected a whole number of at least 1"),
        ({"lr_network": -0.1}, "`lr_network` is -0.1; expected a finite number of at least 0"),
        ({"lr_network": 1e308}, "`lr_network` is 1e\\+308; .* at most"),
        ({"real_batch": 0}, "`real_batch` is 0"),
        ({"augment": "no"}, "`augment` is 'no'; expected true or false"),
        ({"real_bach": 4}, "unknown key `real_bach`; .* did you mean real_batch"),
    ],
)
def test_bad_settings_are_named(changes, message):
    section = {"name": "gradient", "augment": True, **GRADIENT, **changes}
    with pytest.raises(ValueError, match=f"objective 'gradient': {message}"):
        objectives.read(section)


def test_build_reads_a_recipe_section_and_names_what_is_missing(world):
    section = {"name": "distribution", "augment": True, "real_batch": 4}
    context = context_of(*world[:2], DSA)
    assert isinstance(objectives.build(section, context), DistributionMatching)
    del section["augment"]
    with pytest.raises(ValueError, match="'distribution': `augment` is missing"):
        objectives.build(section, context)


def test_noise_starts_pixels_at_the_unit_normal(world):
    pixels = parameterizations.build({"name": "pixels", "init": "noise"}, data.spec(NAME), 5)
    pixels.initialize(world[1], generator(13))
    expected = torch.randn(pixels.spectra.shape, generator=generator(13))
    assert torch.equal(pixels.spectra, expected)
    with pytest.raises(ValueError, match="`init` is 'zeros'"):
        parameterizations.build({"name": "pixels", "init": "zeros"}, data.spec(NAME), 5)
