"""Recipes of the class-wise objectives: what they say, and what `estimate` makes of them."""

import pytest

from nsdbench import data, methods
from nsdbench.bench.cost import estimate, network_size
from nsdbench.evaluation import protocols
from nsdbench.sets import parameterizations

CELLS = [
    # method, data set, scale, and by hand: real images a class and passes each, decoded images a
    # class and passes each, images that networks train on a step and their batch, image steps
    ("dm", "CIFAR10", "paper", 256, 1, 10, 3, 0, 1, 20_000),
    ("dm-nsd", "CIFAR10", "paper", 256, 1, 240, 3, 0, 1, 20_000),
    ("dc", "CIFAR10", "paper", 256, 3, 10, 11, 50 * 100 * 9 / 10, 100, 10_000),
    ("dsa", "CIFAR10", "paper", 256, 3, 10, 11, 50 * 100 * 9 / 10, 100, 10_000),
    ("dc-nsd", "CIFAR10", "paper", 256, 3, 128, 11, 5 * 2400 * 9 / 10, 256, 10_000),
    ("dc-nsd", "FashionMNIST", "small", 256, 3, 96, 11, 12 * 960 * 9 / 10, 256, 300),
    ("idc", "CIFAR10", "paper", 64, 3, 40, 11, 2048 * 99 / 100, 64, 200_000),
    ("idc", "FashionMNIST", "small", 64, 3, 40, 11, 512 * 19 / 20, 64, 300),
]


@pytest.mark.parametrize(
    "method, name, scale, real, real_passes, decoded, passes, trained, batch, iterations", CELLS
)
def test_estimate_counts_what_a_step_does(
    method, name, scale, real, real_passes, decoded, passes, trained, batch, iterations
):
    recipe, spec = methods.resolve(method, name, 10, scale), data.spec(name)
    width = {"paper": 128, "small": 32}[scale]
    flops = network_size(f"convnet3-w{width}", spec.image_shape, 10).flops
    cost = estimate(recipe, spec, 10, "convnet3-w8", protocols.get("common-10ep"), 2, 1)
    work = {part.phase: part for part in cost.work}
    assert work.keys() == {"distill", "evaluate"}
    images = 10 * (real * real_passes + decoded * passes) + 3 * trained
    assert work["distill"].flops == pytest.approx(2 * iterations * images * flops, rel=1e-3)
    assert work["distill"].steps == int(2 * iterations * (2 * 10 + trained / batch))


@pytest.mark.parametrize("method, base", [("dc-nsd", "dc"), ("dm-nsd", "dm")])
@pytest.mark.parametrize(
    "name, scale", [("CIFAR10", "paper"), ("FashionMNIST", "small"), ("Digits32", "smoke")]
)
def test_nsd_on_top_stores_what_nsd_does_and_matches_as_the_method(method, base, name, scale):
    ours, nsd, theirs = (methods.resolve(m, name, 10, scale).values for m in (method, "nsd", base))
    start = {"init": "noise"}  # where NSD starts at scale small is its own choice
    shapes = [
        parameterizations.plan(values["parameterization"] | start, data.spec(name), 10)
        for values in (ours, nsd)
    ]
    assert shapes[0] == shapes[1]
    changed = {"inner_epochs", "batch_syn"}
    assert {k: v for k, v in ours["objective"].items() if k not in changed} == {
        k: v for k, v in theirs["objective"].items() if k not in changed
    }
    assert ours["network"] == theirs["network"] and ours["data"] == theirs["data"]


@pytest.mark.parametrize(
    "name, distance, rate, images_network",
    [
        ("CIFAR10", "squared_error", 5e-3, 2048),
        ("CIFAR100", "squared_error", 5e-3, 2048),
        ("FashionMNIST", "absolute_error", 1e-4 * (28 / 32) ** 2, 512),
    ],
)
def test_published_settings_of_idc(name, distance, rate, images_network):
    """At ipc 10 `rate` on pixels in [0, 1], longer by 1 / std^2 where they are standardised."""
    spec = data.spec(name)
    variance = sum(std**2 for std in spec.std) / len(spec.std)
    for ipc in (1, 10, 50):
        values = methods.resolve("idc", name, ipc, "paper").values
        expected = rate * ipc / 10 / variance
        assert values["optimiser"]["lr_syn"] == pytest.approx(expected, rel=5e-3)
        assert values["objective"]["distance"] == distance
        assert values["objective"]["real_images_network"] == images_network
        assert values["optimiser"]["iterations"] == 2000 * values["objective"]["inner_loops"]
        tiles = parameterizations.build(values["parameterization"], spec, ipc)
        assert tiles.num_images == 4 * ipc * spec.num_classes


@pytest.mark.parametrize("name", ["ImageNette", "ImageYellow"])
@pytest.mark.parametrize("scale", ["small", "paper"])
def test_idc_has_no_rate_for_imagenet(name, scale):
    recipe = methods.resolve("idc", name, 1, scale)
    with pytest.raises(ValueError, match=f"idc.*{name}.*lr_syn"):
        recipe.values["optimiser"]["lr_syn"]


@pytest.mark.parametrize("base", ["dm", "dc", "dsa"])
@pytest.mark.parametrize("ipc", [1, 10, 50])
def test_the_wide_recipes_are_the_published_ones_at_scale_paper(base, ipc):
    wide, published = (
        methods.resolve(method, "CIFAR10", ipc, "paper") for method in (f"{base}-w128", base)
    )
    assert wide.values == published.values
    reduced = methods.resolve(f"{base}-w128", "FashionMNIST", ipc, "small").values
    assert reduced["optimiser"]["iterations"] == {"dm": 2000}.get(base, 300)
    assert reduced["network"]["width"] == 128
