"""The two objectives of kernel ridge regression: step by step, what they cost, what they refuse."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from nsdbench import data, methods, models
from nsdbench.bench.cost import estimate
from nsdbench.data.training import TrainingData
from nsdbench.distillation import loop as distillation
from nsdbench.distillation import ntk, objectives
from nsdbench.distillation.objectives import ObjectiveContext
from nsdbench.distillation.objectives.random_feature_ridge import feature_kernel, random_features
from nsdbench.evaluation import protocols
from nsdbench.models.nets.plain_convnet import PlainConvNet
from nsdbench.seeding import generator
from nsdbench.sets import parameterizations

NAME = "synthetic:3x1x8x8"
FEATURES = {
    "name": "random-feature-ridge", "num_networks": 3, "batch_syn": 100, "real_batch": 20,
    "ridge": 1e-2, "loss": "platt", "lr_scale": 0.05,
}  # fmt: skip
EXACT = {
    "name": "ntk-ridge", "prepended": True, "batch_syn": 100, "targets_per_class": 2,
    "ridge": 1e-3, "precision": "float64", "memory_mib": 64,
}  # fmt: skip


@pytest.fixture
def real():
    dataset = data.load(NAME).without_test()
    return TrainingData(dataset, data.preprocessing("standardise", dataset))


@pytest.fixture
def pixels(real):
    made = parameterizations.build({"name": "pixels"}, data.spec(NAME), 2)
    made.initialize(real, generator(0, "pixels"))
    return made


def build(section, real, width=6, depth=2):
    model = PlainConvNet(1, 8, 3, width=width, depth=depth)
    return objectives.build(section, ObjectiveContext(model, real, "", lambda: None))


def test_random_features_step_by_step(real, pixels):
    """Networks in order, then the real batch; features of all networks side by side; Platt loss."""
    objective = build(FEATURES, real)
    objective.log_scale.data.fill_(0.4)
    loss = objective.accumulate(pixels, 0, generator(0, "step"))

    stream, networks = generator(0, "step"), []
    for _ in range(3):
        networks.append(PlainConvNet(1, 8, 3, width=6, depth=2))
        models.initialize(networks[-1], stream)
    rows = torch.randperm(len(real), generator=stream)[:20]
    x_real, y_real = real.batch(rows)
    x = pixels.decode()[0].detach().requires_grad_()
    k = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    k_ss, k_ts = torch.zeros(6, 6).double(), torch.zeros(20, 6).double()
    for model in networks:
        phi, phi_real = model.embed(x).double(), model.embed(x_real).double()
        k_ss = k_ss + 2 * phi @ phi.mT / (3 * phi.shape[1]) + 0.01 / 3
        k_ts = k_ts + 2 * phi_real @ phi.mT / (3 * phi.shape[1]) + 0.01 / 3
    y = F.one_hot(torch.arange(3).repeat_interleave(2), 3) - 1 / 3
    system = k_ss + 1e-2 * k_ss.trace() / 6 * torch.eye(6)
    predictions = k_ts @ torch.linalg.inv(system) @ y.double()
    expected = -torch.log_softmax(k.exp() * predictions, 1)[torch.arange(20), y_real].mean()
    expected.backward()
    assert loss == pytest.approx(expected.item(), rel=1e-5)
    torch.testing.assert_close(pixels.spectra.grad.view_as(x), x.grad, rtol=2e-3, atol=1e-6)
    assert objective.log_scale.grad.item() == pytest.approx(k.grad.item(), rel=1e-4)
    groups = objective.parameter_groups({})
    assert [(g["params"], g["lr"]) for g in groups] == [([objective.log_scale], 0.05)]
    assert objective.describe()["platt_scale"] == pytest.approx(2.718281828**0.4)
    assert objective.describe()["kernel"] == "random features of 3 networks a step"


def test_the_squared_loss_learns_no_scale(real, pixels):
    objective = build({**FEATURES, "loss": "squared"}, real)
    assert 0 < objective.accumulate(pixels, 0, generator(0, "step")) < 1
    assert objective.parameter_groups({}) == [] and objective.log_scale.grad is None


def test_the_mean_kernel_of_random_features_is_the_exact_one():
    """One block: unbiased at any width. Within 6 standard errors of 60 networks of 16 channels."""
    x = torch.randn(4, 2, 8, 8, generator=generator(0, "x"))
    exact, _ = ntk.kernels(ntk.KernelNet(1), x.double(), None, 1e9)
    model, stream = PlainConvNet(2, 8, 3, width=16, depth=1), generator(0, "networks")
    found = []
    for _ in range(60):
        models.initialize(model, stream)
        features = random_features([model.features], x)
        found.append(feature_kernel(features, features).detach().double())
    sample = torch.stack(found)
    error = sample.std(0) / len(sample) ** 0.5
    assert ((sample.mean(0) - exact).abs() < 6 * error).all()
    assert (error < 0.06 * exact).all(), "the comparison says nothing"


def test_images_in_parts_have_the_same_features():
    x = torch.randn(150, 1, 8, 8, generator=generator(0, "x"))
    model = PlainConvNet(1, 8, 3, width=4, depth=2)
    found = random_features([model.features, model.features], x)
    whole = model.features(x).flatten(1)
    expected = torch.cat([whole, whole], 1) / (2 * whole.shape[1]) ** 0.5
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_the_exact_kernel_step_by_step(real, pixels):
    """Two targets of every class, the tangent kernel, half the mean squared error in double."""
    objective = build(EXACT, real)
    loss = objective.accumulate(pixels, 0, generator(0, "step"))

    stream = generator(0, "step")
    rows = torch.cat([real.class_rows(label, 2, stream) for label in range(3)])
    x_real, y_real = real.batch(rows)
    assert y_real.tolist() == [0, 0, 1, 1, 2, 2]
    y = F.one_hot(torch.arange(3).repeat_interleave(2), 3).double() - 1 / 3

    def expected(x):
        both = torch.cat([x, x_real.double()])
        k = ntk.kernels(ntk.KernelNet(2, is_prepended=True), both, None, 1e9)[1]
        system = k[:6, :6] + 1e-3 * k[:6, :6].trace() / 6 * torch.eye(6)
        return 0.5 * (y - k[6:, :6] @ torch.linalg.inv(system) @ y).square().mean()

    x = pixels.decode()[0].detach().double()
    assert loss == pytest.approx(expected(x).item(), rel=1e-9)
    direction = torch.randn(x.shape, generator=generator(0, "d"), dtype=torch.float64)
    slope = (expected(x + 1e-4 * direction) - expected(x - 1e-4 * direction)) / 2e-4
    found = (pixels.spectra.grad.view_as(x).double() * direction).sum()
    assert found.item() == pytest.approx(slope.item(), rel=1e-4)
    assert "exact tangent kernel of conv, ReLU, 2 x" in objective.describe()["kernel"]


def test_a_class_with_few_images_gives_all_of_them(real, pixels):
    objective = build({**EXACT, "targets_per_class": 10**6}, real)
    rows = sum(len(real.rows_of_class(label)) for label in range(3))
    seen = []
    objective._real = SimpleNamespace(
        num_classes=3, rows_of_class=real.rows_of_class, class_rows=real.class_rows,
        batch=lambda index: seen.append(index) or real.batch(index[:4]),
    )  # fmt: skip
    objective.loss(pixels, 0, generator(0, "step"))
    assert sorted(seen[0].tolist()) == list(range(rows))


@pytest.mark.parametrize("section", [FEATURES, EXACT])
def test_other_networks_have_no_such_kernel(section, real):
    model = models.build("convnet", in_channels=1, image_size=8, num_classes=3, width=4, depth=1)
    with pytest.raises(ValueError, match="not of ConvNet; set network.name to convnet_plain"):
        objectives.build(section, ObjectiveContext(model, real, "", lambda: None))


REFUSED = [
    ("kip", "synthetic:1x1x8x8", {}, "objective 'ntk-ridge': .* needs at least 2, got 1"),
    ("rfad", "synthetic:1x1x8x8", {}, "objective 'random-feature-ridge': .* at least 2, got 1"),
    ("frepo", "synthetic:1x1x8x8", {}, "objective 'feature-regression': .* at least 2, got 1"),
    (
        "kip",
        "synthetic:3x1x64x64",
        {},
        r"a pair of 64 px images take \d+ MiB, `memory_mib` = 256 takes images of up to \d+ px",
    ),
    (
        "kip",
        "synthetic:3x1x64x64",
        {"network.depth": 5, "objective.memory_mib": 1},
        "`memory_mib` = 1 takes no images; raise it",
    ),
    ("kip", "synthetic:3x1x8x8", {"network.depth": 4}, "needs images of at least 16 px, got 8 px"),
    ("kip", "synthetic:3x1x8x8", {"objective.precision": "float16"}, "`precision` is 'float16'"),
    ("rfad", "synthetic:3x1x8x8", {"objective.ridge": 0.0}, "`ridge` is 0"),
]


@pytest.mark.parametrize(("method", "name", "overrides", "message"), REFUSED)
def test_what_cannot_be_done_is_refused_by_the_plan_and_before_any_work(
    monkeypatch, method, name, overrides, message
):
    spec = data.spec(name)
    recipe = methods.resolve(method, name, 1, "smoke", overrides)
    with pytest.raises(ValueError, match=message):
        estimate(recipe, spec, 1, "convnet1-w4", protocols.get("common-2ep"), 1, 1)
    monkeypatch.setattr(distillation, "preprocessing", lambda *args: pytest.fail("work was begun"))
    with pytest.raises(ValueError, match=message):
        distillation.distill(method, name, 1, overrides=overrides)


def test_the_largest_image_that_is_named_is_taken():
    recipe = methods.resolve("kip", "synthetic:3x1x64x64", 1, "smoke")
    with pytest.raises(ValueError) as refused:
        objectives.kernel_work(recipe, data.spec("synthetic:3x1x64x64"), 3)
    side = int(str(refused.value).split("up to ")[1].split(" px")[0])
    taken = objectives.Sizes(3, 3, (1, side, side), 4)
    family, settings = objectives.read(recipe.values["objective"])
    assert family.kernel_work(settings, taken).kept_bytes > 0
    with pytest.raises(ValueError, match="take"):
        family.kernel_work(settings, objectives.Sizes(3, 3, (1, side + 1, side + 1), 4))


def test_prices_by_hand():
    """RFAD: 3 networks see 20 real images once and 6 decoded ones three times.

    Exact: 6 decoded and 3 x 2 real images make 21 + 36 pairs and 12 of their own; a ReLU of 8, 8
    and 4 px moves 60 arrays of 8 bytes.
    """
    family, settings = objectives.read(FEATURES)
    work = family.work(settings, 6, 3)
    assert (work.passes, work.steps) == (3 * (20 + 3 * 6), 3 * (1 + 3))
    work = family.work(settings.model_copy(update={"real_batch": 130}), 65, 3)
    assert work.steps == 3 * (3 + 3 * 2), "passes of 64 images"
    family, settings = objectives.read(EXACT)
    work = family.kernel_work(settings, objectives.Sizes(6, 3, (1, 8, 8), 2))
    assert work.moved_bytes == (21 + 36 + 12) * 60 * (2 * 8**4 + 4**4) * 8
    assert family.work(settings, 6, 3).passes == 0
    assert 0 < work.kept_bytes < 2 * 64 * 2**20


SHORT = {"network.width": 4, "network.depth": 2, "optimiser.iterations": 5}
OF_ITS_OWN = {
    "kip": {"objective.targets_per_class": 1, "objective.precision": "float64"},
    "rfad": {"objective.num_networks": 2, "objective.real_batch": 20},
}
LABELS = {
    "parameterization.learned_labels": True,
    "parameterization.over_budget": True,
    "optimiser.lr_labels": 0.01,
}


@pytest.mark.parametrize("method", ["kip", "rfad"])
@pytest.mark.parametrize("labels", [{}, LABELS], ids=["classes", "labels"])
@pytest.mark.parametrize("stop_at", [1, 4])
def test_a_resumed_run_equals_an_undisturbed_one_bit_for_bit(tmp_path, method, labels, stop_at):
    """Images, labels, what the optimiser remembers of them, and the scale of the Platt loss."""
    overrides = SHORT | OF_ITS_OWN[method] | labels

    def distil(place, progress=distillation.silent):
        return distillation.distill(
            method, NAME, 1, overrides=overrides, progress=progress, work=tmp_path / place
        )

    def interrupt(phase, done, total, note=""):
        if (phase, done) == ("distill", stop_at):
            raise KeyboardInterrupt

    undisturbed = distil("a")
    with pytest.raises(KeyboardInterrupt):
        distil("b", interrupt)
    resumed = distil("b")
    stored = undisturbed.parameterization.state_dict()
    assert ("soft_labels" in stored) == bool(labels)
    for name, tensor in resumed.parameterization.state_dict().items():
        assert torch.equal(tensor, stored[name]), name
    facts = undisturbed.metadata["distillation"]
    assert resumed.metadata["distillation"] == facts and facts["images_moved"] > 0
    if method == "rfad":
        assert facts["platt_scale"] != 1
    if labels:
        start = F.one_hot(undisturbed.parameterization.labels, 3) - 1 / 3
        assert (stored["soft_labels"] - start).abs().max() > 0.001


def test_one_small_step_of_learned_labels_descends(real):
    """Labels get the gradient of the loss: a short step along it lowers the loss to first order."""
    section = {"name": "pixels", "learned_labels": True, "over_budget": True}
    made = parameterizations.build(section, data.spec(NAME), 2)
    made.initialize(real, generator(0, "pixels"))
    for settings in (EXACT, {**FEATURES, "loss": "squared"}):
        objective = build(settings, real)
        made.zero_grad()
        before = objective.accumulate(made, 0, generator(0, "step"))
        slope = float(made.soft_labels.grad.double().square().sum())
        labels = made.soft_labels.detach().clone()
        ends = []
        for sign in (-1, 1):
            with torch.no_grad():
                made.soft_labels.copy_(labels + sign * 0.01 * made.soft_labels.grad)
                ends.append(objective.loss(made, 0, generator(0, "step")).item())
        with torch.no_grad():
            made.soft_labels.copy_(labels)
        assert ends[0] < before < ends[1]
        assert (ends[1] - ends[0]) / 0.02 == pytest.approx(slope, rel=1e-2)


@pytest.mark.parametrize(
    ("dataset", "ipc", "targets", "preprocessing"),
    [
        ("CIFAR10", 1, 500, "zca_kip"),
        ("CIFAR10", 10, 500, "zca_kip"),
        ("CIFAR10", 50, 500, "zca_kip"),
        ("CIFAR100", 1, 50, "zca_kip"),
        ("CIFAR100", 10, 50, "zca_kip"),
        ("TinyImageNet", 1, 25, "zca_kip"),
        ("FashionMNIST", 1, 500, "standardise"),
    ],
)
def test_published_settings(dataset, ipc, targets, preprocessing):
    """KIP.ipynb: 5,000 targets, Adam at .04, ridge 1e-6; 1,000 steps as in the released files."""
    kip, rfad = (
        methods.resolve(method, dataset, ipc, "paper").values for method in ("kip", "rfad")
    )
    classes = data.spec(dataset).num_classes
    _, settings = objectives.read(kip["objective"])
    assert settings.targets_per_class == targets and targets * classes == 5000
    assert (settings.ridge, settings.prepended) == (1e-6, True)
    assert kip["optimiser"] == {"name": "adam", "lr_syn": 0.04, "iterations": 1000}
    assert settings.batch_syn >= ipc * classes, "a step regresses from the whole set"
    assert kip["data"]["preprocessing"] == preprocessing
    _, settings = objectives.read(rfad["objective"])
    assert (settings.num_networks, settings.real_batch, settings.ridge) == (8, 4 * 1280, 5e-3)
    assert (settings.loss, settings.lr_scale, rfad["network"]["width"]) == ("platt", 1e-2, 256)
    assert (rfad["optimiser"]["name"], rfad["optimiser"]["lr_syn"]) == ("adabelief", 1e-3)
    assert rfad["data"]["preprocessing"] == preprocessing.replace("kip", "rfad")
