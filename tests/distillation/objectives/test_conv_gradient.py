"""IDC's objective against explicit loops, autograd through the modules and torch's own SGD."""

from typing import get_args

import pytest
import torch
from torch.nn import functional as F

from nsdbench import data, models
from nsdbench.data.training import TrainingData
from nsdbench.distillation import objectives
from nsdbench.distillation.checkpoint import LoopState
from nsdbench.distillation.loop import optimise
from nsdbench.distillation.objectives import ConvGradientMatching, ObjectiveContext
from nsdbench.distillation.objectives.conv_gradient import DISTANCES, cutmix
from nsdbench.distillation.objectives.families.classwise import ConvGradientSettings
from nsdbench.ops.dsa import OPERATIONS
from nsdbench.seeding import generator
from nsdbench.sets import parameterizations
from nsdbench.student import augment, strategy

NAME = "synthetic:3x1x8x8"
SETTINGS = {
    "strategy": "color_crop_cutout",
    "distance": "squared_error",
    "real_batch": 4,
    "batch_syn": 5,
    "inner_loops": 3,
    "real_images_network": 20,
    "batch_network": 8,
    "lr_network": 0.05,
    "momentum_network": 0.9,
    "weight_decay_network": 0.01,
    "strategy_network": "color_crop",
    "cutmix_probability": 0.5,
}


def make_model():
    return models.from_id("convnet1-w4", in_channels=1, image_size=8, num_classes=3)


@pytest.fixture
def world():
    dataset = data.load(NAME).without_test()
    real = TrainingData(dataset, data.preprocessing("standardise", dataset))
    return make_model(), real, make_tiles(real)


def make_tiles(real):
    tiles = parameterizations.build({"name": "tiles", "factor": 2}, data.spec(NAME), 2)
    tiles.initialize(real, generator(0, "tiles"))
    return tiles


def make(world, **changes) -> ConvGradientMatching:
    context = ObjectiveContext(world[0], world[1], "color", lambda: None)
    return ConvGradientMatching(context, ConvGradientSettings(**{**SETTINGS, **changes}))


def explicit_gradient(model, images, labels, create_graph=False):
    """Gradient of the mean cross-entropy in the only convolution's weight."""
    logits = model.classifier(model.features(images).flatten(1))
    loss = F.cross_entropy(logits, labels)
    return torch.autograd.grad(loss, model.features[0].weight, create_graph=create_graph)[0]


def explicit_distance(name, found, target):
    """Sum over all weights, one by one."""
    pairs = zip(found.reshape(-1), target.reshape(-1), strict=True)
    return sum((a - b) ** 2 if name == "squared_error" else abs(a - b) for a, b in pairs)


@pytest.mark.parametrize("distance", DISTANCES)
def test_distance_and_its_gradient_are_the_explicit_loops(world, distance):
    objective = make(world, distance=distance).double()
    model = world[0].double()
    models.initialize(model, generator(3))
    objective.theta = models.flatten(model)
    stream = generator(4)
    images = torch.randn(3, 1, 8, 8, generator=stream, dtype=torch.float64, requires_grad=True)
    real = torch.randn(5, 1, 8, 8, generator=stream, dtype=torch.float64)

    loss = objective.class_loss(images, real, torch.tensor([1]))
    found = explicit_gradient(model, images, torch.tensor([1] * 3), create_graph=True)
    target = explicit_gradient(model, real, torch.tensor([1] * 5))
    expected = explicit_distance(distance, found, target)
    torch.testing.assert_close(loss, expected, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(
        torch.autograd.grad(loss, images)[0],
        torch.autograd.grad(expected, images)[0],
        rtol=1e-7,
        atol=1e-10,
    )


def test_a_step_applies_every_operation_to_both_sides_of_every_class(world):
    """Replay by hand: 5 of 8 decoded images, 4 real ones, then three draws in the named order."""
    model, real, tiles = world
    loss = make(world).loss(tiles, 0, generator(8))
    assert tiles.num_images == 24

    stream, total = generator(8), 0.0
    twin = make_model()
    models.initialize(twin, stream)
    images, labels = tiles.decode()
    for label in range(3):
        chosen = images[labels == label][torch.randperm(8, generator=stream)[:5]]
        pair = [chosen, real.batch(real.class_rows(label, 4, stream))[0]]
        for operation in ("color", "crop", "cutout"):
            draw = augment.sample(operation, 1, (1, 8, 8), stream, siamese=True)
            pair = [augment.apply(x, draw) for x in pair]
        found, target = (
            explicit_gradient(twin, x, torch.full((len(x),), label), create_graph=True)
            for x in pair
        )
        total = total + (found - target).square().sum()
    torch.testing.assert_close(loss, total, rtol=1e-4, atol=1e-7)


def test_cutmix_pastes_one_box_and_mixes_targets_by_its_pixels():
    """Image i holds the value i everywhere, so every pixel tells where it comes from."""
    images = torch.arange(6.0).view(6, 1, 1, 1).expand(6, 2, 8, 10).contiguous()
    targets = torch.eye(6)
    pasted = []
    for seed in range(60):
        mixed, mixed_targets = cutmix(images, targets, 0.5, generator(seed))
        if mixed is images:
            assert mixed_targets is targets
            continue
        is_pasted = None
        for i in range(6):
            values, counts = mixed[i, 0].unique(return_counts=True)
            assert torch.equal(mixed[i, 0], mixed[i, 1]) and len(values) <= 2
            expected = torch.zeros(6)
            expected[values.long()] = counts / 80.0
            torch.testing.assert_close(mixed_targets[i], expected)
            if len(values) == 2:
                here = mixed[i, 0] != i
                assert is_pasted is None or torch.equal(here, is_pasted), "one box for all"
                is_pasted = here
        if is_pasted is not None:
            rows, columns = is_pasted.any(1).sum(), is_pasted.any(0).sum()
            assert is_pasted.sum() == rows * columns, "a full rectangle"
            pasted.append((is_pasted.sum() / 80.0).item())
    assert 15 <= len(pasted) <= 40, "half of the batches, some of them with an empty box"
    assert max(pasted) > 0.4 and min(pasted) < 0.1
    assert cutmix(images, targets, 0.0, generator(0))[0] is images


def test_networks_train_on_real_images_between_steps_and_begin_anew(world):
    """torch.optim.SGD through the modules; CutMix as a mixture of two cross-entropies."""
    model, real, tiles = world
    objective = make(world)
    objective.prepare_network(tiles, 0, generator(12, 0))
    twin = make_model()
    models.load_flat(twin, objective.theta)
    sgd = torch.optim.SGD(twin.parameters(), lr=0.05, momentum=0.9, weight_decay=0.01)
    for step in (1, 2):
        objective.prepare_network(tiles, step, generator(12, step))
        stream = generator(12, step)
        for rows in torch.randperm(len(real), generator=stream)[:20].split(8):
            images, labels = real.batch(rows)
            for operation in ("color", "crop"):
                draw = augment.sample(operation, len(rows), (1, 8, 8), stream)
                images = augment.apply(images, draw)
            one_hot = torch.eye(3)[labels]
            images, targets = cutmix(images, one_hot, 0.5, stream)
            log_p = twin.classifier(twin.features(images).flatten(1)).log_softmax(1)
            sgd.zero_grad()
            (-(targets * log_p).sum(1).mean()).backward()
            sgd.step()
        torch.testing.assert_close(objective.theta, models.flatten(twin), rtol=1e-4, atol=1e-5)

    objective.prepare_network(tiles, 3, generator(12, 3))
    models.initialize(twin, generator(12, 3))
    assert torch.equal(objective.theta, models.flatten(twin))
    assert not objective.velocity.any()


def test_a_resumed_run_is_bit_identical(world, tmp_path):
    """The checkpoint falls between two steps of one network, whose SGD has momentum."""

    def start():
        objective = make((make_model(), world[1]))
        return LoopState.start(make_tiles(world[1]), objective, {"momentum": 0.5, "lr_syn": 0.1})

    whole, first, second = start(), start(), start()
    optimise(whole, 5, 0)
    optimise(first, 2, 0)
    first.save(tmp_path / "run.pt")
    second.restore(tmp_path / "run.pt")
    optimise(second, 5, 0)
    assert whole.losses == second.losses
    assert torch.equal(whole.parameterization.spectra, second.parameterization.spectra)


def test_tiles_stay_pictures(world):
    """Steps far too long leave them between black and white, and somewhere on both."""
    _, real, tiles = world
    run = LoopState.start(tiles, make(world), {"momentum": 0.5, "lr_syn": 1e4})
    optimise(run, 2, 0)
    pictures = real.preprocessing.invert(tiles.decode()[0].detach())
    assert pictures.min().item() == pytest.approx(0, abs=1e-6)
    assert pictures.max().item() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"distance": "grouped_cosine"}, "`distance` is 'grouped_cosine'; expected one of squared"),
        ({"inner_loops": 0}, "`inner_loops` is 0; expected a whole number of at least 1"),
        ({"real_images_network": 0}, "`real_images_network` is 0"),
        ({"batch_network": 0}, "`batch_network` is 0"),
        ({"batch_syn": 0}, "`batch_syn` is 0"),
        ({"lr_network": -0.1}, "`lr_network` is -0.1; expected a finite number of at least 0"),
        (
            {"weight_decay_network": -0.1},
            "`weight_decay_network` is -0.1; expected a finite number of at least 0",
        ),
        (
            {"momentum_network": 1},
            "`momentum_network` is 1; expected a finite number of at least 0 and below 1",
        ),
        (
            {"cutmix_probability": 1.5},
            "`cutmix_probability` is 1.5; expected a finite number of at least 0 and at most 1",
        ),
        ({"strategy": "color_blur"}, "`strategy`: unknown augmentation 'blur'"),
        ({"strategy_network": 3}, "`strategy_network` is 3; expected text"),
    ],
)
def test_bad_settings_are_named(changes, message):
    with pytest.raises(ValueError, match=f"objective 'conv-gradient': {message}"):
        objectives.read({"name": "conv-gradient", **SETTINGS, **changes})


def test_strategies_may_name_every_operation():
    assert strategy.OPERATIONS == OPERATIONS


def test_every_distance_can_be_set():
    kinds = ConvGradientSettings.model_fields["distance"].annotation
    assert get_args(kinds) == tuple(DISTANCES)


def test_build_reads_a_recipe_section_and_names_what_is_missing(world):
    context = ObjectiveContext(world[0], world[1], "color", lambda: None)
    section = {"name": "conv-gradient", **SETTINGS}
    assert isinstance(objectives.build(section, context), ConvGradientMatching)
    del section["inner_loops"]
    with pytest.raises(ValueError, match="'conv-gradient': .*inner_loops"):
        objectives.build(section, context)
