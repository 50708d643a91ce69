"""Names and what they stand for: found without an import, loaded on demand, blamed by name."""

import subprocess
import sys
from collections import OrderedDict
from typing import Literal

import pytest

from nsdbench import data, methods, plugin, registry
from nsdbench.bench.cost import estimate, network_size
from nsdbench.data import catalog
from nsdbench.distillation import objectives
from nsdbench.errors import BudgetExceeded
from nsdbench.evaluation import protocols
from nsdbench.registry import Count, Family, Rate, Registry, Settings, plugin_folders
from nsdbench.sets import parameterizations

METHOD = """
name = "theirs"
title = "Theirs"
extends = "random"
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Return a function that puts a package with entry points where Python finds it."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))
    registry._entry_points.cache_clear()

    def write(name, code, entry_points):
        package = site / name
        package.mkdir()
        (package / "__init__.py").write_text(code)
        info = site / f"{name}-1.5.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.5\n")
        (info / "entry_points.txt").write_text(entry_points)
        return package

    yield write
    registry._entry_points.cache_clear()
    for name in [name for name in sys.modules if name.startswith("plug_")]:
        del sys.modules[name]


class Example(Settings):
    """One setting of every type."""

    count: Count
    rate: Rate = 0.5
    size: Count | None = None
    is_on: bool = False
    word: str = ""
    kind: Literal["alpha", "beta"] = "alpha"


OURS = Family(Example, "collections:OrderedDict")
FAMILY = """
from nsdbench.plugin import Settings
from nsdbench.registry import Family
FAMILY = Family(Settings, "plug_one:made")
"""


def things(**ours):
    return Registry("thing", "nsdbench.things", Family, {"a": f"{__name__}:OURS", **ours})


def test_ours_are_listed_without_an_import_and_loaded_on_demand():
    made = things(b="nowhere:FAMILY")
    assert made.names() == ["a", "b"] and made.get("a") is OURS
    assert made.get("a").load() is OrderedDict
    with pytest.raises(ValueError, match="unknown thing 'c'; known: a, b"):
        made.get("c")
    with pytest.raises(ValueError, match="unknown thing None"):
        made.read({})


@pytest.mark.parametrize(
    "settings",
    [
        {"count": 3},
        {"count": 3, "rate": 2, "is_on": True, "word": "w", "kind": "beta"},
        {"count": 3, "rate": 2.5, "size": 4},
    ],
)
def test_settings_of_the_right_type_pass(settings):
    family, found = things().read({"name": "a", **settings})
    assert family is OURS and found == Example(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "`count` is missing"),
        ({"count": 1, "cuont": 2}, "unknown key `cuont`; known: count, rate, .*; did you mean c"),
        ({"count": 4.5}, "`count` is 4.5; expected a whole number"),
        ({"count": 4.0}, "`count` is 4.0; expected a whole number"),
        ({"count": True}, "`count` is True; expected a whole number"),
        ({"count": None}, "`count` is None; expected a whole number"),
        ({"count": 0}, "`count` is 0; expected a whole number of at least 1"),
        ({"count": -5}, "`count` is -5; expected a whole number of at least 1"),
        ({"count": 10**12}, "`count` is 1000000000000; .* at most 1000000"),
        ({"count": 1, "size": 1.5}, "`size` is 1.5; expected a whole number"),
        ({"count": 1, "rate": "abc"}, "`rate` is 'abc'; expected a finite number"),
        ({"count": 1, "rate": True}, "`rate` is True; expected a finite number"),
        ({"count": 1, "rate": float("inf")}, "`rate` is inf; expected a finite number"),
        ({"count": 1, "rate": 1e308}, r"`rate` is 1e\+308; .* at most 1000000"),
        ({"count": 1, "is_on": "no"}, "`is_on` is 'no'; expected true or false"),
        ({"count": 1, "is_on": 1}, "`is_on` is 1; expected true or false"),
        ({"count": 1, "word": ["w"]}, r"`word` is \['w'\]; expected text"),
        (
            {"count": 1, "kind": "bet"},
            "`kind` is 'bet'; expected one of alpha, beta; did you mean beta",
        ),
        ({"count": 0, "is_on": 1}, "`count` is 0; expected"),
    ],
)
def test_other_settings_are_named(settings, message):
    with pytest.raises(ValueError, match=f"^thing 'a': {message}"):
        things().read({"name": "a", **settings})


def test_a_plugin_is_listed_without_an_import_and_loaded_on_demand(install):
    install("plug_one", FAMILY, "[nsdbench.things]\nseven = plug_one:FAMILY\n")
    made = things()
    assert made.names() == ["a", "seven"] and made.get("a") is OURS
    assert "plug_one" not in sys.modules
    family, settings = made.read({"name": "seven"})
    with pytest.raises(ValueError, match="'plug_one:made' cannot be loaded: AttributeError"):
        family.load()
    with pytest.raises(ValueError, match="thing 'seven': unknown key `side`; known: "):
        made.read({"name": "seven", "side": 3})


@pytest.mark.parametrize(
    ("code", "value", "message"),
    [
        ("raise OSError('no disk')", "plug_bad:make", "thing 'x': OSError: no disk"),
        ("", "plug_bad:make", "thing 'x': AttributeError: .*make"),
        ("", "plug_gone:make", "thing 'x': ModuleNotFoundError: .*plug_gone"),
        ("make = 3", "plug_bad:make", "gives 3 as the thing 'x'; expected a nsdbench.plugin.Fam"),
        ("def make(): pass", "plug_bad:make", "gives <function .* expected a nsdbench.plugin.Fam"),
    ],
)
def test_a_broken_plugin_is_named_and_harms_nobody_else(install, code, value, message):
    install("plug_bad", code, f"[nsdbench.things]\nx = {value}\n")
    made = things()
    assert made.get("a") is OURS and made.names() == ["a", "x"]
    with pytest.raises(ValueError, match=message) as caught:
        made.get("x")
    assert f"the plug-in x = {value} of plug_bad 1.5" in str(caught.value)


def test_a_name_stands_for_one_thing(install):
    for name in ("plug_one", "plug_two"):
        install(name, "make = list\n", f"[nsdbench.things]\nx = {name}:make\ny = {name}:make\n")
    with pytest.raises(ValueError, match="'x' is added by .*plug_one 1.5 and by .*plug_two 1.5"):
        things().get("x")
    with pytest.raises(ValueError, match="'y', which nsdbench has itself; rename it"):
        things(y="nowhere:FAMILY").get("y")


ODD = """
from nsdbench.plugin import CoresetFamily, CoresetSettings, ObjectiveFamily, Settings, StepWork

class OddSettings(Settings):
    weight: float

def work(settings, num_images, num_classes):
    return StepWork(settings.weight * num_images, num_classes, 5, 7)

def build(context, settings):
    return context, settings.weight

OBJECTIVE = ObjectiveFamily(OddSettings, "plug_one:build", work)
CORESET = CoresetFamily(CoresetSettings, "plug_one:build", passes=2)
"""


def test_objectives_and_methods_come_from_plugins(install):
    entry_points = (
        "[nsdbench.objectives]\nodd = plug_one:OBJECTIVE\n[nsdbench.methods]\nx = plug_one\n"
    )
    package = install("plug_one", ODD, entry_points)
    (package / "theirs.toml").write_text(METHOD)
    assert "odd" in objectives.names() and "theirs" in methods.names()
    assert methods.load("theirs").path == package / "theirs.toml"
    assert "plug_one" not in sys.modules
    assert objectives.build({"name": "odd", "weight": 2}, "context") == ("context", 2)


def test_plugins_are_priced_by_what_they_say(install):
    """flops and steps of a step times the iterations; what a step keeps decides the memory."""
    entry_points = (
        "[nsdbench.objectives]\nodd = plug_one:OBJECTIVE\n"
        "[nsdbench.coresets]\nodd = plug_one:CORESET\n[nsdbench.methods]\nx = plug_one\n"
    )
    package = install("plug_one", ODD, entry_points)
    head = 'title = "Theirs"\nextends = "{}"\n[[settings]]\nsource = "test"\n'
    chosen = head.format("herding") + 'coreset = { name = "odd", draw_per_network = false }\n'
    (package / "chosen.toml").write_text('name = "chosen"\n' + chosen)
    learned = head.format("dm") + 'objective = { name = "odd", weight = 1e5 }\n'
    (package / "learned.toml").write_text('name = "learned"\n' + learned)
    spec, size = data.spec("Digits16"), network_size("convnet2-w16", (1, 16, 16), 10)
    cost = {
        method: estimate(
            methods.resolve(method, "Digits16", 1, "smoke"),
            spec, 1, "convnet2-w16", protocols.get("common-10ep"), 2, 1,
        )
        for method in ("chosen", "learned")
    }  # fmt: skip
    work = {method: {part.phase: part for part in found.work} for method, found in cost.items()}
    assert work["chosen"]["distill"].flops == 2 * 2 * 1437 * size.flops
    iterations = 2 * methods.resolve("dm", "Digits16", 1, "smoke").values["optimiser"]["iterations"]
    assert work["learned"]["distill"].flops == iterations * 1e5 * 10 * size.flops
    assert work["learned"]["distill"].steps == iterations * 10


GREY = """
from dataclasses import asdict, dataclass
import torch
from nsdbench.plugin import Parameterization, ParameterizationFamily, Settings

@dataclass(frozen=True)
class Shape:
    name: str
    num_classes: int
    num_elements: int

    @property
    def num_images(self):
        return self.num_classes

class Grey(Parameterization):
    def __init__(self, shape):
        super().__init__()
        self.settings = asdict(shape)
        self.register_buffer("labels", torch.arange(shape.num_classes), persistent=False)
        self.level = torch.nn.Parameter(torch.zeros(shape.num_elements))

class GreySettings(Settings):
    stored: int

def plan(settings, budget):
    return Shape("grey", budget.num_classes, settings.stored)

FAMILY = ParameterizationFamily(GreySettings, "plug_grey:Grey", plan, Shape)
planner_alone = plan
"""


def test_a_parameterization_from_a_plugin_is_planned_built_and_rebuilt(install):
    entry_points = "grey = plug_grey:FAMILY\nalone = plug_grey:planner_alone\n"
    install("plug_grey", GREY, f"[nsdbench.parameterizations]\n{entry_points}")
    assert {"grey", "pixels"} <= set(parameterizations.names())
    spec, limit = data.spec("Digits16"), 2 * 10 * 256
    module = parameterizations.build({"name": "grey", "stored": limit}, spec, 2)
    rebuilt = parameterizations.rebuild(module.settings, limit)
    assert rebuilt.level.shape == module.level.shape == (limit,)
    with pytest.raises(BudgetExceeded, match="'grey' would store 5121 floats, .* allows 5120"):
        parameterizations.plan({"name": "grey", "stored": limit + 1}, spec, 2)
    with pytest.raises(ValueError, match="parameterization 'grey': unknown key `side`"):
        parameterizations.build({"name": "grey", "stored": 1, "side": 3}, spec, 2)
    with pytest.raises(ValueError, match="'grey': unknown side; known: name, num_classes, num_ele"):
        parameterizations.rebuild({"name": "grey", "num_classes": 10, "side": 3}, 5)
    with pytest.raises(ValueError, match="'grey' describes 5 stored numbers .* holds 6"):
        parameterizations.rebuild(module.settings | {"num_elements": 5}, 6)
    with pytest.raises(ValueError, match="gives <function plan.*plugin.ParameterizationFamily"):
        parameterizations.rebuild({"name": "alone"}, 1)


@pytest.mark.parametrize(
    "module", ["distillation.objectives", "sets.parameterizations", "coresets"]
)
def test_every_family_of_ours_is_there_and_found_without_torch(module):
    """Names, families, their models and prices; only what makes the thing may need torch."""
    code = f"""
import sys, nsdbench.{module}.registry as registry
families = {{name: registry._REGISTRY.get(name) for name in registry.names()}}
assert len(families) >= 4 and "torch" not in sys.modules, sorted(families)
for family in families.values():
    assert callable(family.load())
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_estimate_needs_no_torch():
    code = "import sys, nsdbench.bench.cost; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_plugin_offers_every_name_it_lists():
    assert len(plugin.__all__) >= 20
    for name in plugin.__all__:
        assert getattr(plugin, name).__name__ == name or name in ("Count", "Rate")


@pytest.mark.parametrize("value", ["plug_gone", "json.decoder", "plug_gone.part", "a:b"])
def test_a_folder_of_methods_must_be_a_package(install, value):
    install("plug_one", "", f"[nsdbench.things]\nx = {value}\n")
    with pytest.raises(ValueError, match="plug_one 1.5 is registered under nsdbench.things, but"):
        plugin_folders("nsdbench.things")


PARTS = """
from dataclasses import replace
from nsdbench.plugin import DatasetFamily, DatasetSpec, Protocol, Source
SPEC = DatasetSpec("theirs", (1, 8, 8), 2, 4, 2, (0.5,), (0.5,), "crop", 1)
DATASET = DatasetFamily(SPEC, Source(print))
OTHER = DatasetFamily(replace(SPEC, name="misnamed"), Source(print))
PROTOCOL = Protocol("quick", lr=0.5, epochs=3)
STEPS = Protocol("stepwise", epochs=None, steps=7)
"""
ENTERED = """
[nsdbench.datasets]
theirs = plug_parts:DATASET
wrong = plug_parts:OTHER
none = plug_parts:PROTOCOL
SVHN = plug_parts:DATASET
[nsdbench.protocols]
quick = plug_parts:PROTOCOL
stepwise = plug_parts:STEPS
wrong = plug_parts:STEPS
none = plug_parts:SPEC
mtt = plug_parts:PROTOCOL
"""


def test_data_sets_and_protocols_of_a_package_are_known_by_name(install):
    install("plug_parts", PARTS, ENTERED)
    assert data.names()[-3:] == ["none", "theirs", "wrong"]
    assert protocols.names()[-4:] == ["none", "quick", "stepwise", "wrong"]
    assert "plug_parts" not in sys.modules
    assert data.spec("theirs").image_shape == (1, 8, 8)
    assert data.spec("theirs-holdout1-seed0").train_size == 3
    assert catalog.original("theirs") == "theirs"
    assert protocols.get("quick").epochs == 3 and protocols.get("quick-9ep").epochs == 9
    assert protocols.get("quick-9ep").name == "quick-9ep"
    assert protocols.get("stepwise").total_steps(100) == 7


@pytest.mark.parametrize(
    ("look_up", "name", "message"),
    [
        (data.spec, "wrong", "enters as 'wrong' calls itself 'misnamed'"),
        (data.spec, "none", r"gives Protocol\(.* as the data set 'none'; expected .*DatasetFamily"),
        (data.spec, "SVHN", "SVHN = .* of plug_parts 1.5 adds .*which nsdbench has itself"),
        (data.spec, "thiers", "expected one of .*, theirs, .*did you mean theirs"),
        (protocols.get, "wrong", "enters as 'wrong' calls itself 'stepwise'"),
        (
            protocols.get,
            "none",
            r"gives DatasetSpec\(.* as the protocol 'none'; expected",
        ),
        (protocols.get, "mtt", "mtt = .* adds the protocol 'mtt', which nsdbench has itself"),
        (protocols.get, "stepwise-9ep", "'stepwise' counts steps, not epochs"),
        (protocols.get, "quick-0ep", "unknown protocol 'quick-0ep'; known: .*quick"),
    ],
)
def test_data_sets_and_protocols_that_are_wrong(install, look_up, name, message):
    install("plug_parts", PARTS, ENTERED)
    with pytest.raises(ValueError, match=message):
        look_up(name)
