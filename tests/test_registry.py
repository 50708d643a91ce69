"""Names that installed packages add: found without an import, loaded on demand, blamed by name."""

import sys

import pytest

from nsdbench import data, methods, registry
from nsdbench.distillation import objectives
from nsdbench.registry import Registry, plugin_folders
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


def test_ours_come_without_plugins():
    things = Registry("thing", "nsdbench.things", {"b": dict, "a": list})
    assert things.names() == ["a", "b"] and things.get("a") is list
    with pytest.raises(ValueError, match="unknown thing 'c'; known: a, b"):
        things.get("c")
    with pytest.raises(ValueError, match="unknown thing None"):
        things.get(None)


def test_a_plugin_is_listed_without_an_import_and_loaded_on_demand(install):
    install("plug_one", "def make(): return 7\n", "[nsdbench.things]\nseven = plug_one:make\n")
    things = Registry("thing", "nsdbench.things", {"a": list})
    assert things.names() == ["a", "seven"] and things.get("a") is list
    assert "plug_one" not in sys.modules
    assert things.get("seven")() == 7


@pytest.mark.parametrize(
    ("code", "value", "message"),
    [
        ("raise OSError('no disk')", "plug_bad:make", "thing 'x': OSError: no disk"),
        ("", "plug_bad:make", "thing 'x': AttributeError: .*make"),
        ("", "plug_gone:make", "thing 'x': ModuleNotFoundError: .*plug_gone"),
        ("make = 3", "plug_bad:make", "gives 3 as the thing 'x'; expected a function or a class"),
    ],
)
def test_a_broken_plugin_is_named_and_harms_nobody_else(install, code, value, message):
    install("plug_bad", code, f"[nsdbench.things]\nx = {value}\n")
    things = Registry("thing", "nsdbench.things", {"a": list})
    assert things.get("a") is list and things.names() == ["a", "x"]
    with pytest.raises(ValueError, match=message) as caught:
        things.get("x")
    assert f"the plug-in x = {value} of plug_bad 1.5" in str(caught.value)


def test_a_name_stands_for_one_thing(install):
    for name in ("plug_one", "plug_two"):
        install(name, "make = list\n", f"[nsdbench.things]\nx = {name}:make\ny = {name}:make\n")
    with pytest.raises(ValueError, match="'x' is added by .*plug_one 1.5 and by .*plug_two 1.5"):
        Registry("thing", "nsdbench.things", {}).get("x")
    with pytest.raises(ValueError, match="'y', which nsdbench has itself; rename it"):
        Registry("thing", "nsdbench.things", {"y": list}).get("y")


def test_objectives_and_methods_come_from_plugins(install):
    entry_points = "[nsdbench.objectives]\nodd = plug_one:build\n[nsdbench.methods]\nx = plug_one"
    package = install("plug_one", "def build(context, settings): return settings\n", entry_points)
    (package / "theirs.toml").write_text(METHOD)
    assert "odd" in objectives.names() and "theirs" in methods.names()
    assert methods.load("theirs").path == package / "theirs.toml"
    assert "plug_one" not in sys.modules
    assert objectives.build({"name": "odd", "weight": 2}, None) == {"weight": 2}


GREY = """
from dataclasses import asdict, dataclass
import torch
from nsdbench.sets.parameterizations import Family, Parameterization, StoragePlan

@dataclass(frozen=True)
class Shape:
    name: str
    num_classes: int
    def build(self):
        return Grey(self)

class Grey(Parameterization):
    def __init__(self, shape):
        super().__init__()
        self.settings = asdict(shape)
        self.register_buffer("labels", torch.arange(shape.num_classes), persistent=False)
        self.level = torch.nn.Parameter(torch.zeros(shape.num_classes))

def plan(image_shape, num_classes, ipc):
    return StoragePlan(Shape("grey", num_classes), num_classes, ipc * num_classes)

FAMILY = Family(plan, Shape)
planner_alone = plan
"""


def test_a_parameterization_from_a_plugin_is_planned_built_and_rebuilt(install):
    entry_points = "grey = plug_grey:FAMILY\nalone = plug_grey:planner_alone\n"
    install("plug_grey", GREY, f"[nsdbench.parameterizations]\n{entry_points}")
    assert {"grey", "pixels"} <= set(parameterizations.names())
    spec = data.spec("Digits16")
    assert parameterizations.plan({"name": "grey"}, spec, 2).percent == 50
    module = parameterizations.build({"name": "grey"}, spec, 2)
    assert parameterizations.rebuild(module.settings).level.shape == module.level.shape == (10,)
    with pytest.raises(ValueError, match="'grey'.*unexpected keyword argument 'side'"):
        parameterizations.build({"name": "grey", "side": 3}, spec, 2)
    with pytest.raises(ValueError, match="the artefact's parameterization 'grey': .*'side'"):
        parameterizations.rebuild({"name": "grey", "num_classes": 10, "side": 3})
    with pytest.raises(ValueError, match="'alone' gives <function plan.*expected a .*Family"):
        parameterizations.rebuild({"name": "alone"})


@pytest.mark.parametrize("value", ["plug_gone", "json.decoder", "plug_gone.part", "a:b"])
def test_a_folder_of_methods_must_be_a_package(install, value):
    install("plug_one", "", f"[nsdbench.things]\nx = {value}\n")
    with pytest.raises(ValueError, match="plug_one 1.5 is entered in nsdbench.things, but"):
        plugin_folders("nsdbench.things")
