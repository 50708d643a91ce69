"""Bases and hallucinators: decoding by explicit sums, the authors' printout, draws, storage."""

import itertools

import pytest
import torch

from nsdbench import data, methods
from nsdbench.bench.cost import estimate
from nsdbench.data.training import TrainingData
from nsdbench.distillation import distill
from nsdbench.errors import BudgetExceeded
from nsdbench.evaluation import protocols
from nsdbench.seeding import generator
from nsdbench.sets import budget, parameterizations
from nsdbench.sets.artefact import Artefact, load_artefact
from nsdbench.sets.parameterizations.families.hallucinator import HallucinatorShape
from nsdbench.sets.parameterizations.hallucinator import Hallucinated

NAME = "synthetic:4x3x8x8@50+20"
SPEC = data.spec(NAME)
TENSORS = ("conv", "conv_bias", "scale", "shift", "transposed", "transposed_bias")


@pytest.fixture
def real():
    dataset = data.load(NAME).without_test()
    return TrainingData(dataset, data.preprocessing("standardise", dataset))


def planned(name=NAME, ipc=3, **settings):
    section = {"name": "hallucinator", "num_hallucinators": 5, "over_budget": True, **settings}
    return parameterizations.plan(section, data.spec(name), ipc)


def started(real, **settings):
    module = Hallucinated(planned(**settings))
    module.initialize(real, generator(0, "test"))
    return module


def wave(*shape, start=0):
    """sin(start), sin(start + 1), ... in float64."""
    numbers = torch.arange(torch.Size(shape).numel(), dtype=torch.float64)
    return torch.sin(numbers + start).view(shape)


def filled(channels, side, base_channels, bases=2, hallucinators=1):
    """Return a float64 module whose tensors are waves."""
    sizes = (channels, side, side)
    module = Hallucinated(
        HallucinatorShape("hallucinator", 1, sizes, base_channels, bases, hallucinators)
    ).double()
    with torch.no_grad():
        module.bases.copy_(wave(*module.bases.shape, start=1000))
        for number, name in enumerate(TENSORS):
            tensor = getattr(module, name)
            tensor.copy_(wave(*tensor.shape, start=100 * number))
    return module


@pytest.mark.parametrize(("channels", "side", "base_channels"), [(1, 5, 1), (2, 6, 2), (3, 4, 1)])
def test_decoding_by_explicit_sums(channels, side, base_channels):
    """Every output pixel gathers, through both kernels, the base pixels it can see."""
    module = filled(channels, side, base_channels, bases=2, hallucinators=2)
    inner = range(side - 2)
    for view in (0, 1):
        images, _ = module.decode_view(torch.tensor([1]), view)
        base = module.bases[1]
        expected = module.transposed_bias[view][:, None, None].repeat(1, side, side)
        for c, y, x in itertools.product(range(channels), inner, inner):
            value = module.conv_bias[view, c]
            for b, i, j in itertools.product(range(base_channels), range(3), range(3)):
                value = value + module.conv[view, c, b, i, j] * base[b, y + i, x + j]
            value = value * module.scale[view, c, y, x] + module.shift[view, c, y, x]
            for o, i, j in itertools.product(range(channels), range(3), range(3)):
                expected[o, y + i, x + j] += value * module.transposed[view, c, o, i, j]
        torch.testing.assert_close(images[0], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("base_channels", "pixels", "total", "energy"),
    [
        (3, (1.483941090408, 1.248824968501, -0.576410336433, -0.387088365235),
         -4253.7409638291, 9276.47592812),
        (1, (1.313331329474, 1.199637236319, -1.150932110156, -0.282217907561),
         -4270.4123072565, 18697.81759845),
    ],
)  # fmt: skip
def test_decoding_as_the_authors_code_prints_it(base_channels, pixels, total, energy):
    """StyleTranslator of Huage001/DatasetFactorization at 60c9128, run on the same numbers."""
    images, _ = filled(3, 32, base_channels).decode()
    places = ((0, 0, 0, 0), (0, 2, 31, 31), (1, 1, 15, 7), (1, 0, 0, 31))
    assert [images[place].item() for place in places] == pytest.approx(pixels, abs=1e-11)
    assert images.sum().item() == pytest.approx(total, abs=1e-9)
    assert images.square().sum().item() == pytest.approx(energy, abs=1e-7)


@pytest.mark.parametrize(
    ("shape", "base_channels", "floats"),
    [
        ((3, 32, 32), 3, 5568), ((3, 64, 64), 3, 23_232), ((3, 128, 128), 3, 95_424),
        ((1, 28, 28), 1, 1372), ((1, 16, 16), 1, 412), ((3, 32, 32), 1, 5514),
    ],
)  # fmt: skip
def test_floats_of_a_hallucinator(shape, base_channels, floats):
    sizes = [
        HallucinatorShape("hallucinator", 10, shape, base_channels, 1, count) for count in (5, 6)
    ]
    assert sizes[1].num_elements - sizes[0].num_elements == floats
    ledger = Hallucinated(sizes[0]).ledger()
    kinds = {kind: sum(e.bits for e in ledger.entries if e.kind == kind) / 32
             for kind in ("coefficient", "network")}  # fmt: skip
    bases = 10 * base_channels * shape[1] * shape[2]
    assert kinds == {"coefficient": bases, "network": 5 * floats}
    assert ledger.stored_bits == 32 * sizes[0].num_elements


@pytest.mark.parametrize(
    ("name", "ipc", "settings", "strict"),
    [
        ("CIFAR10", 1, {}, 1.90625), ("CIFAR10", 10, {}, 10.90625), ("CIFAR100", 1, {}, 1.090625),
        ("CIFAR10", 1, {"bases_per_class": 3, "grey_bases": True}, 1.8974609375),
        ("FashionMNIST", 1, {}, 1.875), ("ImageNette", 1, {}, 1.970703125),
    ],
)  # fmt: skip
def test_strict_ipc_of_the_published_settings(name, ipc, settings, strict):
    spec = data.spec(name)
    stored = 32 * planned(name, ipc, **settings).num_elements
    assert budget.strict_ipc(stored, spec.image_shape, spec.num_classes) == pytest.approx(strict)


def test_a_base_starts_as_a_real_image_and_a_hallucinator_as_torch_makes_it(real):
    module = started(real)
    everything, classes = real.batch(torch.arange(len(real)))
    distance = (everything[None] - module.bases[:, None]).abs().flatten(2).amax(2)
    assert distance.amin(1).max() == 0
    assert torch.equal(classes[distance.argmin(1)], module.labels)
    assert module.labels.tolist() == [c for c in range(4) for _ in range(3)]
    assert (module.scale == 1).all() and (module.shift == 0).all()
    for weight, bias, layer in (
        (module.conv, module.conv_bias, torch.nn.Conv2d(3, 3, 3)),
        (module.transposed, module.transposed_bias, torch.nn.ConvTranspose2d(3, 3, 3)),
    ):
        assert weight[0].shape == layer.weight.shape and bias[0].shape == layer.bias.shape
        bound = 27**-0.5  # 1 / sqrt(fan in): torch's default for both kinds
        for ours, theirs in ((weight, layer.weight), (bias, layer.bias)):
            assert ours.abs().max() <= bound and theirs.abs().max() <= bound
        assert weight.abs().max() > 0.95 * bound and weight.std() > 0.5 * bound
    grey = started(real, grey_bases=True)
    assert grey.conv.abs().max() > 27**-0.5, "one channel in: a fan of 9"
    torch.testing.assert_close(grey.bases[:, 0], module.bases.mean(1))


def test_an_image_is_seen_through_every_hallucinator_equally_often(real):
    module = started(real)
    views = [module.decode_view(torch.arange(12), view)[0] for view in range(5)]
    index = torch.arange(12).repeat(200)
    images, labels = module.decode(index, generator(1, "test"))
    assert torch.equal(labels, module.labels[index])
    distance = (images[:, None] - torch.stack(views, 1)[index]).abs().flatten(2).amax(2)
    assert (distance.amin(1) < 1e-5).all()
    drawn = distance.argmin(1)
    for share in torch.bincount(drawn, minlength=5) / len(drawn):
        assert abs(share - 0.2) < 4 * (0.2 * 0.8 / len(drawn)) ** 0.5
    assert len(set(drawn[index == 3].tolist())) == 5
    fixed, _ = module.decode(torch.tensor([7, 2, 7]))
    torch.testing.assert_close(fixed, torch.stack([views[2][7], views[2][2], views[2][7]]))


def test_the_generator_alone_decides(real):
    module = started(real)
    first, again, other = (module.decode(None, generator(s, "test"))[0] for s in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(module.decode()[0], module.decode()[0])
    picked, _ = module.decode(torch.tensor([5]))
    torch.testing.assert_close(picked[0], module.decode()[0][5])


def test_groups_learn_at_two_rates_and_the_file_returns_them(real, tmp_path):
    module = started(real)
    bases, hallucinators = module.parameter_groups({"lr_syn": 2.0, "lr_kernels": 3.0})
    assert (bases["lr"], hallucinators["lr"]) == (2.0, 3.0)
    assert len(bases["params"]) + len(hallucinators["params"]) == len(list(module.parameters()))
    path = Artefact(module.requires_grad_(False), {}).save(tmp_path / "set.safetensors")
    read = load_artefact(path).parameterization
    for seed in (None, 3):
        stream, other = (None if seed is None else generator(seed, "x") for _ in range(2))
        assert torch.equal(read.decode(None, stream)[0], module.decode(None, other)[0])


def test_over_budget_is_refused_unless_the_recipe_declares_it():
    """10 bases of 784 floats and 5 hallucinators of 1,372 against 7,840."""
    with pytest.raises(BudgetExceeded, match="would store 14700 floats, .* allows 7840"):
        planned("FashionMNIST", 1, over_budget=False)
    assert planned("FashionMNIST", 1).num_elements == 14_700
    fitting = planned("FashionMNIST", 10, over_budget=False, bases_per_class=9)
    assert fitting.num_elements == 90 * 784 + 5 * 1372 <= 78_400


def test_a_cell_over_budget_is_made_and_says_what_it_stores(tmp_path, monkeypatch):
    monkeypatch.setenv("NSDBENCH_CACHE", str(tmp_path))
    overrides = {"experts.num_experts": 1, "experts.epochs": 9, "optimiser.iterations": 1}
    artefact = distill("haba", "Digits16", 1, overrides=overrides)
    limit = budget.limit_bits((1, 16, 16), 10, 1)
    assert artefact.ledger().stored_bits == 32 * (10 * 256 + 5 * 412) > limit
    with pytest.raises(BudgetExceeded, match="would store 4620 floats, .* allows 2560"):
        distill("haba", "Digits16", 1, overrides={"parameterization.over_budget": False})


def test_estimate_counts_what_a_step_does():
    recipe, spec = methods.resolve("haba", "CIFAR10", 10, "paper"), data.spec("CIFAR10")
    cost = estimate(recipe, spec, 10, "convnet3-w128", protocols.get("haba"), 1, 1)
    (work,) = [part for part in cost.work if part.phase == "distill"]
    (mtt,) = [
        part
        for part in estimate(
            methods.resolve("mtt", "CIFAR10", 10, "paper"), spec, 10, "convnet3-w128",
            protocols.get("haba"), 1, 1,
        ).work
        if part.phase == "distill"
    ]  # fmt: skip
    unroll, pairs = 30 * 100 * 11, 2 * 2 * 100 * 3  # images times forward passes
    assert work.flops / mtt.flops == pytest.approx(3 * (unroll + pairs) / unroll)
    assert work.steps == 15_000 * (2 * 30 + 2)
    assert cost.stored_bytes == 4 * (100 * 3072 + 5 * 5568) and cost.num_images == 100


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_shape": (1, 2, 8)}, "2x8; .* 3x3: resize"),
        ({"bases_per_class": 0}, "classes of 0 bases"),
        ({"num_hallucinators": 1.5}, "1.5 hallucinators .* expected whole numbers"),
        ({"base_channels": 2}, "base_channels is 2; expected 1, or the 3"),
    ],
)
def test_bad_shapes_are_named(changes, message):
    good = {
        "name": "hallucinator", "num_classes": 2, "image_shape": (3, 8, 8), "base_channels": 3,
        "bases_per_class": 2, "num_hallucinators": 5,
    }  # fmt: skip
    HallucinatorShape(**good)
    with pytest.raises(ValueError, match=message):
        HallucinatorShape(**{**good, **changes})


def test_bad_settings_are_named():
    with pytest.raises(ValueError, match="num_hallucinators"):
        parameterizations.plan({"name": "hallucinator"}, SPEC, 3)
    with pytest.raises(ValueError, match="over_budget"):
        planned(over_budget="yes")
