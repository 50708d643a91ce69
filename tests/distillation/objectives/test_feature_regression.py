"""FRePo: regression, labels, mirrors, pool, resuming and price, stated independently."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from nsdbench import data, methods, models
from nsdbench.data.training import TrainingData
from nsdbench.distillation import loop as distillation
from nsdbench.distillation import objectives
from nsdbench.distillation.objectives import FeatureRegression, ObjectiveContext
from nsdbench.distillation.objectives.families.regression import FeatureRegressionSettings
from nsdbench.distillation.objectives.feature_regression import (
    margin_loss,
    ridge_prediction,
)
from nsdbench.distillation.objectives.registry import StepWork
from nsdbench.seeding import generator
from nsdbench.sets import parameterizations

NAME = "synthetic:3x1x8x8"
SETTINGS = {
    "real_batch": 7,
    "ridge": 0.01,
    "mirrored": False,
    "num_networks": 4,
    "max_updates": 10,
    "lr_network": 0.003,
    "batch_network": 1000,
}
LEARNED = {"name": "pixels", "learned_labels": True, "over_budget": True}


@pytest.fixture(scope="module")
def real():
    dataset = data.load(NAME).without_test()
    return TrainingData(dataset, data.preprocessing("standardise", dataset))


def make_model(norm="batch_norm"):
    sizes = {"in_channels": 1, "image_size": 8, "num_classes": 3}
    return models.build("convnet_frepo", **sizes, width=2, depth=2, norm=norm)


def make_pixels(real, **settings):
    pixels = parameterizations.build({**LEARNED, **settings}, data.spec(NAME), 2)
    pixels.initialize(real, generator(0, "pixels"))
    return pixels


def make(real, **changes):
    context = ObjectiveContext(make_model(), real, "", lambda: pytest.fail("experts were opened"))
    return FeatureRegression(context, FeatureRegressionSettings(**{**SETTINGS, **changes}))


def take_step(objective, pixels, step):
    """Take a step as the loop does, but for the update of the pixels."""
    stream = generator(0, "step", step)
    loss = objective.accumulate(pixels, step, stream)
    objective.after_update(pixels, stream)
    return loss


def test_ridge_regression_is_the_primal_solution():
    """In the space of features: w = (G^T G + lambda I)^-1 G^T y, with numpy in float64."""
    numbers = np.random.default_rng(0)
    known, asked = numbers.normal(size=(5, 9)), numbers.normal(size=(4, 9))
    labels = numbers.normal(size=(5, 3))
    ridge = 0.02 * np.trace(known @ known.T) / 5
    weights = np.linalg.solve(known.T @ known + ridge * np.eye(9), known.T @ labels)
    got = ridge_prediction(*map(torch.tensor, (known, asked, labels)), 0.02)
    np.testing.assert_allclose(got.numpy(), asked @ weights, rtol=1e-10)


def test_ridge_regression_is_differentiable_in_all_of_its_data():
    stream = torch.Generator().manual_seed(0)
    inputs = [
        torch.randn(shape, generator=stream, dtype=torch.float64, requires_grad=True)
        for shape in ((4, 6), (3, 6), (4, 2))
    ]
    assert torch.autograd.gradcheck(lambda *x: ridge_prediction(*x, 0.1), inputs)


def test_features_in_float32_are_solved_in_float64():
    """Two almost equal images: in float32 the ridge of a millionth would drown in rounding."""
    features = torch.randn(1, 50, generator=torch.Generator().manual_seed(0)).repeat(2, 1)
    features[1, 0] += 1e-3
    got = ridge_prediction(features, features, torch.eye(2), 1e-6)
    expected = ridge_prediction(features.double(), features.double(), torch.eye(2).double(), 1e-6)
    assert got.dtype == torch.float64 and torch.equal(got, expected)


def test_half_the_squared_error_over_classes_by_hand():
    predicted = torch.tensor([[1.0, 2.0], [0.0, 0.0]])
    targets = torch.tensor([[0.0, 0.0], [3.0, 4.0]])
    assert models.squared_error(predicted, targets).item() == (5 + 25) / 2 / 2


def test_margin_of_labels_and_its_cap_by_hand():
    """Four classes, cap 1/4: margins .1, 2 (counts .25) and 0; the capped row has no gradient."""
    labels = torch.tensor(
        [[0.3, 0.2, 0.0, -0.5], [2.0, 0.0, -1.0, -1.0], [0.5, 0.5, 0.1, 0.0]], requires_grad=True
    )
    loss = margin_loss(labels)
    assert loss.item() == pytest.approx(-(0.1 + 0.25 + 0.0) / 3)
    loss.backward()
    third = 1 / 3
    expected = torch.tensor([[-third, third, 0, 0], [0, 0, 0, 0], [-third, third, 0, 0]])
    assert torch.allclose(labels.grad[:2], expected[:2])
    assert labels.grad[2].abs().sum() == pytest.approx(2 * third)


def reference_loss(objective, pixels, real, step, mirrored, ridge):
    """The loss of a step from its formula: features module by module, an explicit inverse.

    It repeats the draws of the step: the pool, which network, which real images.
    """
    stream = generator(0, "step", step)
    networks = [make_model() for _ in objective.networks]
    for network in networks:
        models.initialize(network, stream)
    current = int(torch.randint(len(networks), (), generator=stream))
    network = networks[current].double().eval()
    rows = torch.randperm(len(real), generator=stream)[:7]
    x_real, classes = real.batch(rows)
    images = pixels.spectra.detach()[0].double()
    labels = pixels.soft_labels.detach().double()
    margin = -torch.tensor([min(float(y.sort()[0].diff()[-1]), 1 / 3) for y in labels]).mean()
    if mirrored:
        images = torch.cat([images, torch.flip(images, (3,))])
        labels = torch.cat([labels, labels])
    known = network.features(images).flatten(1)
    asked = network.features(x_real.double()).flatten(1)
    kernel = known @ known.T
    kernel += ridge * kernel.trace() / len(images) * torch.eye(len(images)).double()
    predicted = asked @ known.T @ kernel.inverse() @ labels
    errors = predicted - (F.one_hot(classes, 3) - 1 / 3)
    return float((errors**2).sum().detach() / 2 / len(classes) + margin), current


@pytest.mark.parametrize("mirrored", [False, True])
def test_the_loss_of_a_step_is_its_formula(real, mirrored):
    """With mirror images n is doubled, in the kernel and in what the trace is divided by."""
    pixels = make_pixels(real)
    with torch.no_grad():
        pixels.soft_labels += 0.3 * torch.randn(6, 3, generator=torch.Generator().manual_seed(1))
    objective = make(real, mirrored=mirrored)
    loss = objective.accumulate(pixels, 0, generator(0, "step", 0))
    expected, current = reference_loss(objective, pixels, real, 0, mirrored, 0.01)
    assert int(objective.current) == current
    assert loss == pytest.approx(expected, rel=1e-4)
    for learned in (pixels.spectra.grad[0], pixels.soft_labels.grad):
        assert (learned.flatten(1).abs().sum(1) > 0).all(), "every image and label gets a gradient"
    assert all(parameter.grad is None for parameter in objective.parameters())


def test_a_set_without_learned_labels_regresses_on_its_classes(real):
    """As one whose learned labels have not moved yet, less their margin, which is the cap."""
    learned = make_pixels(real)
    plain = parameterizations.build({"name": "pixels"}, data.spec(NAME), 2)
    plain.initialize(real, generator(0, "pixels"))
    losses = [make(real).accumulate(module, 0, generator(0, "step")) for module in (learned, plain)]
    assert losses[0] == pytest.approx(losses[1] - 1 / 3)


def adams(objective):
    return [step.optimiser for step in objective._steps]


def test_ages_resets_and_what_a_network_learns(real):
    """Every step trains the network it used, or replaces it where it is past its age, never both.

    Ages start at 0, 2, 4, 6 (of 4 networks and a highest of 10).
    """
    pixels, objective = make_pixels(real), make(real)
    ages = [0, 2, 4, 6]
    resets = 0
    for step in range(60):
        stream = generator(0, "step", step)
        objective.accumulate(pixels, step, stream)
        used = int(objective.current)
        before = [models.flatten(network) for network in objective.networks]
        adam_steps = [len(adam.state) for adam in adams(objective)]
        objective.after_update(pixels, stream)
        for number, network in enumerate(objective.networks):
            is_same = torch.equal(models.flatten(network), before[number])
            assert is_same == (number != used)
            if number != used:
                assert len(adams(objective)[number].state) == adam_steps[number]
        if ages[used] > 10:
            ages[used] = 0
            resets += 1
            assert not adams(objective)[used].state, "moments start anew"
            norm = objective.networks[used].features[3]
            assert not norm.running_mean.any() and norm.num_batches_tracked == 0
        else:
            ages[used] += 1
        assert objective.ages.tolist() == ages
    assert resets > 2 and max(ages) <= 11


def test_the_adam_step_of_a_network(real):
    """The first: batch statistics, squared error to the labels, lr times the sign of the gradient.

    Adam's first step is lr g / (|g| + eps); running statistics keep a tenth of (0, 1).
    """
    pixels, objective = make_pixels(real), make(real)
    with torch.no_grad():
        pixels.soft_labels += 0.3 * torch.randn(6, 3, generator=torch.Generator().manual_seed(1))
    stream = generator(0, "step", 0)
    objective.accumulate(pixels, 0, stream)
    used = int(objective.current)
    network = copy.deepcopy(objective.networks[used]).train().requires_grad_(True)
    images, labels = pixels.spectra.detach()[0], pixels.soft_labels.detach()
    loss = ((network(images) - labels) ** 2).sum() / 2 / len(images)
    loss.backward()
    objective.after_update(pixels, stream)
    trained = objective.networks[used]
    for ours, reference in zip(trained.parameters(), network.parameters(), strict=True):
        grad = reference.grad
        expected = reference.detach() - 0.003 * grad / (grad.abs() + 1e-8)
        torch.testing.assert_close(ours.detach(), expected, rtol=1e-5, atol=1e-6)
    seen = network.features[:3](images).detach()
    norm = trained.features[3]
    torch.testing.assert_close(norm.running_mean, 0.9 * seen.mean((0, 2, 3)))
    torch.testing.assert_close(norm.running_var, 0.1 + 0.9 * seen.var((0, 2, 3)))


def test_a_large_set_trains_networks_on_some_of_its_images(real, monkeypatch):
    """Without replacement; a set that is no larger is taken whole."""
    seen = []
    for size in (4, 6):
        objective = make(real, batch_network=size)
        pixels = make_pixels(real)
        stream = generator(0, "step", 0)
        objective.accumulate(pixels, 0, stream)
        network = objective.networks[int(objective.current)]
        hook = network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        objective.after_update(pixels, stream)
        hook.remove()
    assert [len(images) for images in seen] == [4, 6]
    stored = make_pixels(real).spectra.detach()[0]
    rows = [(stored == image).all((1, 2, 3)).nonzero().item() for image in seen[0]]
    assert len(set(rows)) == 4


def test_networks_are_drawn_uniformly(real):
    """2,000 draws among 4: a count has mean 500 and deviation 19.4; six of these are allowed."""
    objective = make(real)
    counts = torch.zeros(4)
    stream = generator(0, "draws")
    for _ in range(2000):
        objective._draw(stream)
        counts[int(objective.current)] += 1
    assert counts.sum() == 2000 and (counts - 500).abs().max() < 6 * 19.4


def test_the_pool_in_a_checkpoint_goes_on_bit_for_bit(real, tmp_path):
    """Parameters, running statistics, Adam's moments, ages and the current network."""
    pixels, objective = make_pixels(real), make(real, max_updates=3)
    for step in range(9):
        take_step(objective, pixels, step)
    torch.save(objective.state_dict(), tmp_path / "state.pt")
    other = make(real, max_updates=3)
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    for step in range(9, 25):
        assert take_step(objective, pixels, step) == take_step(other, pixels, step)
    for (name, ours), theirs in zip(
        objective.state_dict().items(), other.state_dict().values(), strict=True
    ):
        if isinstance(ours, torch.Tensor):
            assert torch.equal(ours, theirs), name


@pytest.mark.parametrize("stop_at", [1, 7])
def test_a_resumed_run_equals_an_undisturbed_one_bit_for_bit(tmp_path, stop_at):
    small = {
        "optimiser.iterations": 12, "objective.max_updates": 2, "objective.num_networks": 3,
        "objective.real_batch": 8, "network.width": 2, "network.depth": 1,
        "data.preprocessing": "standardise",
    }  # fmt: skip

    def distil(work, progress=distillation.silent):
        return distillation.distill(
            "frepo", "Digits", 1, overrides=small, work=tmp_path / work, progress=progress
        )

    def interrupt(phase, done, total, note=""):
        if phase == "distill" and done == stop_at:
            raise KeyboardInterrupt

    undisturbed = distil("a")
    with pytest.raises(KeyboardInterrupt):
        distil("b", interrupt)
    resumed = distil("b")
    for name, tensor in undisturbed.parameterization.state_dict().items():
        assert torch.equal(tensor, resumed.parameterization.state_dict()[name]), name
    assert resumed.metadata["distillation"] == undisturbed.metadata["distillation"]
    labels = undisturbed.soft_labels()
    assert not torch.equal(labels, models.centred(torch.arange(10), 10)), "labels have been learned"


def test_price_by_hand():
    """20 images, mirrored: 40 differentiated and 20 trained on, each for three passes."""
    settings = {**SETTINGS, "mirrored": True, "batch_network": 15, "real_batch": 100}
    family, read = objectives.read({"name": "feature-regression", **settings})
    expected = StepWork(100 + 3 * 40 + 3 * 15, 2, 3 * 4 + 2, 100)
    assert family.work(read, 20, 10) == expected
    assert family.work(read, 200, 10).kept_images == 2 * 400


@pytest.mark.parametrize(
    ("dataset", "ipc", "preprocessing", "mirrored"),
    [
        ("FashionMNIST", 1, "standardise", False),
        ("FashionMNIST", 10, "standardise", False),
        ("CIFAR10", 1, "zca_standardised", True),
        ("CIFAR10", 50, "zca_standardised", True),
        ("CIFAR10-JPEG", 10, "zca_standardised", True),
        ("CIFAR100", 1, "zca_standardised", True),
        ("CIFAR100", 10, "zca_standardised", False),
        ("TinyImageNet", 1, "zca_standardised", True),
        ("TinyImageNet", 10, "zca_standardised", False),
    ],
)
def test_published_settings(dataset, ipc, preprocessing, mirrored):
    """The constants of the authors' scripts, for every column of Tables 1 and 4."""
    values = methods.resolve("frepo", dataset, ipc, "paper").values
    assert values["data"]["preprocessing"] == preprocessing
    assert values["objective"] == {
        "name": "feature-regression", "real_batch": 1024, "ridge": 1e-6, "mirrored": mirrored,
        "num_networks": 10, "max_updates": 100, "lr_network": 3e-4, "batch_network": 1000,
    }  # fmt: skip
    assert values["optimiser"] == {
        "name": "lamb", "iterations": 500_000, "lr_syn": 3e-4, "lr_labels": 3e-4, "cosine_to": 0.1,
    }  # fmt: skip
    assert values["network"] == {"name": "convnet_frepo", "width": 128, "norm": "batch_norm"}
    scale = (data.spec(dataset).num_classes / 10) ** -0.5
    assert values["parameterization"].pop("label_scale", 1.0) == pytest.approx(scale)
    assert values["parameterization"] == LEARNED


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ridge": 0.0}, "`ridge` is 0.0"),
        ({"num_networks": 0}, "`num_networks` is 0"),
        ({"mirrored": "yes"}, "`mirrored` is 'yes'"),
    ],
)
def test_bad_settings(changes, message):
    with pytest.raises(ValueError, match=f"objective 'feature-regression': {message}"):
        objectives.read({"name": "feature-regression", **SETTINGS, **changes})
