"""CAFE: both terms, both loops with their stop rules, resuming and price, stated independently."""

import pytest
import torch
import torch.nn.functional as F

from nsdbench import data, methods, models
from nsdbench.data.training import TrainingData
from nsdbench.distillation import objectives
from nsdbench.distillation.checkpoint import LoopState
from nsdbench.distillation.loop import optimise
from nsdbench.distillation.objectives import FeatureAlignment, ObjectiveContext
from nsdbench.distillation.objectives.families.classwise import FeatureAlignmentSettings
from nsdbench.distillation.objectives.feature_alignment import feature_maps
from nsdbench.distillation.objectives.registry import StepWork
from nsdbench.evaluation import protocols
from nsdbench.seeding import generator
from nsdbench.sets import parameterizations
from nsdbench.student import augment

NAME, SHAPE = "synthetic:3x1x8x8", (1, 8, 8)
DSA = "color_crop_cutout_flip_scale_rotate"
SETTINGS = {
    "layer_weights": [0.1, 0.2, 1.0, 2.0],
    "discrimination_weight": 0.01,
    "real_batch": 5,
    "window": 3,
    "query_batch": 4,
    "steady_below": 0.04,
    "moved_above": 0.03,
    "max_image_steps": 8,
    "max_epochs": 6,
    "lr_network": 0.05,
    "batch_network": 4,
}


class Double(TrainingData):
    """Training data in float64."""

    def batch(self, index):
        images, labels = super().batch(index)
        return images.double(), labels


def load(kind):
    dataset = data.load(NAME).without_test()
    return kind(dataset, data.preprocessing("standardise", dataset))


def make_model():
    return models.from_id("convnet3-w4", in_channels=1, image_size=8, num_classes=3)


def make_pixels():
    pixels = parameterizations.build({"name": "pixels"}, data.spec(NAME), 2)
    pixels.initialize(load(TrainingData), generator(0, "pixels"))
    return pixels


def make(real, strategy="", **changes):
    context = ObjectiveContext(
        make_model(), real, strategy, lambda: pytest.fail("experts were opened")
    )
    settings = {"augment": bool(strategy), **SETTINGS, **changes}
    return FeatureAlignment(context, FeatureAlignmentSettings(**settings))


def reference_features(model, x):
    """The five features of the reference code: slices of the layers, from the end."""
    f1 = model.features[:-9](x)
    f2 = model.features[-9:-5](f1)
    f3 = model.features[-5:-1](f2)
    f4 = model.features[-1:](f3)
    return f1, f2, f3, f4, f4.flatten(1)


def squared_distance(real, decoded):
    """Sum over classes and entries of the squared difference of class means; rows by class."""
    means = [side.reshape(3, -1, *side.shape[1:]).mean(1) for side in (real, decoded)]
    return ((means[0] - means[1]) ** 2).sum()


@pytest.mark.parametrize("strategy", ["", DSA])
def test_loss_and_gradient_are_the_published_sums(strategy):
    """Layers 0.1, 0.2, 1 and 1, the flat feature once more, and the summed cross-entropy."""
    real, pixels = load(Double), make_pixels().double()
    objective = make(real, strategy)
    objective._model.double()
    loss = objective.loss(pixels, 0, generator(1))

    stream, twin = generator(1), make_model().double()
    models.initialize(twin, stream)
    images, _ = pixels.decode()
    x, x_real = [], []
    for label in range(3):
        draw = augment.sample(strategy, 1, SHAPE, stream, siamese=True)
        x.append(augment.apply(images[2 * label : 2 * label + 2], draw))
        rows = real.class_rows(label, 5, stream)
        x_real.append(augment.apply(real.batch(rows)[0], draw))
    x, x_real = torch.cat(x), torch.cat(x_real)
    sides = [reference_features(twin, side) for side in (x_real, x)]
    distances = [squared_distance(*pair) for pair in zip(*sides, strict=True)]
    centres = sides[1][-1].view(3, 2, -1).mean(1)
    scores = sides[0][-1].detach() @ centres.T
    told_apart = -sum(F.log_softmax(scores, 1)[i, i // 5] for i in range(15))
    weights = (0.1, 0.2, 1.0, 1.0, 1.0)
    expected = sum(w * d for w, d in zip(weights, distances, strict=True)) + 0.01 * told_apart
    torch.testing.assert_close(loss, expected, rtol=1e-10, atol=0)
    torch.testing.assert_close(
        torch.autograd.grad(loss, pixels.spectra)[0],
        torch.autograd.grad(expected, pixels.spectra)[0],
        rtol=1e-10,
        atol=1e-12,
    )


def test_features_are_counted_from_the_end():
    """Of four blocks the first is left out; of two there are no more than two."""
    x = torch.randn(2, 1, 16, 16, generator=generator(2))
    for depth, expected in ((4, 4), (3, 4), (2, 3), (1, 2)):
        model = models.from_id(f"convnet{depth}-w4", in_channels=1, image_size=16, num_classes=3)
        maps = feature_maps(model, x)
        assert len(maps) == expected
        if depth >= 3:
            for found, wanted in zip(maps, reference_features(model, x)[:4], strict=True):
                assert torch.equal(found, wanted.flatten(1))
        assert torch.equal(maps[-1], model.features(x).flatten(1))


def test_another_network_is_refused():
    model = models.build("alexnet", in_channels=1, image_size=8, num_classes=3, width=8)
    context = ObjectiveContext(model, load(TrainingData), "", None)
    with pytest.raises(ValueError, match="blocks of a ConvNet, not of AlexNet"):
        FeatureAlignment(context, FeatureAlignmentSettings(augment=False, **SETTINGS))


def test_a_network_is_left_when_its_accuracy_stands_still(monkeypatch):
    """A full window of 3 within 0.04 ends it; so does the cap of 8 image steps."""
    objective = make(load(TrainingData))
    seen = []
    monkeypatch.setattr(objective, "_train", lambda *args: seen.append("train"))
    monkeypatch.setattr(
        objective, "_alignment", lambda *args: seen.append("image") or torch.tensor(0.0)
    )
    first = [0.1, 0.11, 0.2, 0.22, 0.23]  # 0.1..0.2, 0.11..0.22, 0.2..0.23: left after the fifth
    second = [0.5, 0.3, 0.5, 0.3, 0.5, 0.3, 0.5, 0.3]  # left at the cap
    third = [0.7, 0.7, 0.7]  # the window starts empty again
    script = iter([*first, *second, *third, 0.9])
    monkeypatch.setattr(objective, "_accuracy", lambda stream: next(script))
    for step in range(17):
        objective.loss(None, step, generator(3, step))
    lives = "".join("t" if name == "train" else "i" for name in seen)
    assert lives == "i" + "ti" * 4 + "i" + "ti" * 7 + "i" + "ti" * 2 + "i"


@pytest.mark.parametrize(
    ("accuracies", "epochs"),
    [
        ([0.1, 0.2, 0.3, 0.4], 3),  # never before the window is full
        ([0.1, 0.11, 0.12, 0.13, 0.14, 0.2], 6),
        ([0.1, 0.1, 0.1, 0.125, 0.135, 0.9], 5),  # 0.1..0.135
        ([0.5] * 9, 6),  # the cap
        ([0.1, 0.2, 0.1, 0.1], 3),  # downwards counts as well
    ],
)
def test_training_ends_when_the_accuracy_has_moved(monkeypatch, accuracies, epochs):
    objective = make(load(TrainingData))
    script, taken = iter(accuracies), []
    monkeypatch.setattr(
        objective, "_accuracy", lambda stream: taken.append(next(script)) or taken[-1]
    )
    objective._train(make_pixels(), generator(4))
    assert len(taken) == epochs


@pytest.mark.parametrize("strategy", ["", DSA])
def test_training_is_plain_sgd_on_the_decoded_set(strategy):
    """Epochs of shuffled batches of 4, an augmentation each; queries are drawn between them."""
    real, pixels = load(TrainingData), make_pixels()
    objective = make(real, strategy, max_epochs=2)
    theta = objective.theta.clone()
    objective._train(pixels, generator(5))

    stream, twin = generator(5), make_model()
    models.load_flat(twin, theta)
    images, labels = pixels.decode()
    for _ in range(2):
        batches = torch.randperm(6, generator=stream).split(4)
        draws = [augment.sample(strategy, len(batch), SHAPE, stream) for batch in batches]
        for batch, draw in zip(batches, draws, strict=True):
            x = augment.apply(images.detach()[batch], draw)
            loss = F.cross_entropy(twin.classifier(twin.features(x).flatten(1)), labels[batch])
            gradients = torch.autograd.grad(loss, list(twin.parameters()))
            with torch.no_grad():
                for parameter, gradient in zip(twin.parameters(), gradients, strict=True):
                    parameter -= 0.05 * gradient
        for label in range(3):
            real.class_rows(label, 4, stream)
    torch.testing.assert_close(objective.theta, models.flatten(twin), rtol=1e-4, atol=1e-6)


def test_accuracy_is_counted_on_as_many_images_of_every_class():
    real = load(TrainingData)
    objective = make(real)
    stream = generator(6)
    rows = torch.cat([real.class_rows(label, 4, stream) for label in range(3)])
    images, labels = real.batch(rows)
    right = [
        int(objective._model(image[None]).argmax() == label)
        for image, label in zip(images, labels, strict=True)
    ]
    assert objective._accuracy(generator(6)) == sum(right) / 12


def test_a_resumed_run_is_bit_identical(tmp_path):
    """The checkpoint falls between two image steps of one network."""
    settings = {"momentum": 0.5, "lr_syn": 0.1, "halved_at": [0.5]}

    def start():
        return LoopState.start(make_pixels(), make(load(TrainingData), DSA), settings)

    whole, stopped, second = start(), start(), start()
    optimise(whole, 7, 0)
    with pytest.raises(KeyboardInterrupt):
        optimise(stopped, 7, 0, checkpoint=tmp_path / "run.pt", progress=interrupt_at(2))
    second.restore(tmp_path / "run.pt")
    assert second.step == 2 and second.objective.image_steps == 2
    optimise(second, 7, 0)
    assert whole.losses == second.losses
    assert torch.equal(whole.parameterization.spectra, second.parameterization.spectra)
    assert torch.equal(whole.objective.theta, second.objective.theta)


def interrupt_at(step):
    def progress(phase, done, total, note):
        if done == step:
            raise KeyboardInterrupt

    return progress


def test_rates_are_halved_where_the_recipe_says():
    """CAFE's: from 60, 80 and 90 per cent of the run on."""
    settings = methods.resolve("cafe", "CIFAR10", 1, "paper").values["optimiser"]
    state = LoopState.start(make_pixels(), make(load(TrainingData)), dict(settings))
    rates = []
    for state.step in (0, 11_999, 12_000, 15_999, 16_000, 17_999, 18_000, 19_999):
        state.set_rates(settings["iterations"])
        rates.append(state.optimiser.param_groups[0]["lr"])
    assert rates == [0.1, 0.1, 0.05, 0.05, 0.025, 0.025, 0.0125, 0.0125]


def test_the_pooled_map_counts_twice_in_the_recipe():
    for method, augmented in (("cafe", False), ("cafe-dsa", True)):
        recipe = methods.resolve(method, "CIFAR10", 10, "paper").values
        assert recipe["objective"]["layer_weights"] == [0.1, 0.1, 1.0, 2.0]
        assert recipe["objective"]["augment"] == augmented
        assert recipe["parameterization"] == {"name": "pixels", "init": "noise"}


def test_its_protocol_is_600_epochs_without_augmentation():
    cafe = protocols.get("cafe")
    assert (cafe.augment, cafe.total_steps(256), cafe.decay_step(256)) == (False, 601, 302)


def test_price():
    """60 decoded images: forward of 3 x 5, gradient of 6, 2/3 (3 + 6) / 2 epochs, queries of 12."""
    section = {"name": "feature-alignment", "augment": False, **SETTINGS}
    family, settings = objectives.read(section)
    work = family.work(settings, 6, 3)
    epochs = 2 / 3 * 4.5
    assert work == StepWork(
        pytest.approx(15 + 6 * 3 + epochs * 6 * 3 + (1 + epochs) * 12),
        pytest.approx(2 * 3 + epochs * 6 / 4 + epochs),
        4,
        12,
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layer_weights": [1.0, 1.0]}, "item 3 of `layer_weights` is missing"),
        ({"layer_weights": [1.0, 1.0, -1.0, 1.0]}, "item 3 of `layer_weights` is -1.0"),
        ({"window": 0}, "`window` is 0"),
        ({"steady_below": 1.5}, "`steady_below` is 1.5"),
        ({"max_epochs": 0}, "`max_epochs` is 0"),
    ],
)
def test_bad_settings_are_named(changes, message):
    section = {"name": "feature-alignment", "augment": False, **SETTINGS, **changes}
    with pytest.raises(ValueError, match=f"objective 'feature-alignment': {message}"):
        objectives.read(section)
