"""The TOML loader: order of blocks, inheritance, sources, hashes, and its errors."""

import copy
import dataclasses
import hashlib
import json
import subprocess
import sys

import pytest

from nsdbench import methods
from nsdbench.errors import NotImplementedYet
from nsdbench.experts import ExpertRecipe
from nsdbench.methods import schema

BASE = """
name = "base"
title = "Base"
kind = "distillation"
source = "somebody, 2020"
[[settings]]
source = "paper, table 1"
[settings.objective]
name = "trajectory"
syn_steps = 50
[settings.optimiser]
iterations = 5000
[[settings]]
when = { scale = ["smoke", "small"], ipc = 1 }
source = "our choice: quick"
[settings.optimiser]
iterations = 20
"""
OBJECTIVE = '[settings.objective]\nname = "trajectory"\nsyn_steps = 50'
CHILD = """
name = "child"
title = "Child"
extends = "base"
[[settings]]
source = "child paper"
[settings.objective]
syn_steps = 60
[[settings]]
when = { dataset = "Digits16" }
source = "our choice: small images"
[settings.objective]
syn_steps = 10
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Return a user folder holding `base` and `child`."""
    (tmp_path / "base.toml").write_text(BASE)
    (tmp_path / "child.toml").write_text(CHILD)
    monkeypatch.setenv(methods.FOLDERS_VARIABLE, str(tmp_path))
    return tmp_path


def test_blocks_apply_in_order_and_keep_their_sources(folder):
    recipe = methods.resolve("child", "Digits16", 1, "smoke")
    assert recipe.values == {
        "objective": {"name": "trajectory", "syn_steps": 10},
        "optimiser": {"iterations": 20},
    }
    assert recipe.sources == {
        "objective.name": "paper, table 1 [base.toml]",
        "objective.syn_steps": "our choice: small images [child.toml: dataset=Digits16]",
        "optimiser.iterations": "our choice: quick [base.toml: scale=smoke|small, ipc=1]",
    }
    assert (recipe.title, recipe.kind) == ("Child", "distillation")


@pytest.mark.parametrize(
    ("cell", "steps", "iterations"),
    [
        (("Digits16", 10, "smoke"), 10, 5000),
        (("CIFAR10", 1, "paper"), 60, 5000),
        (("CIFAR10", 1, "small"), 60, 20),
    ],
)
def test_conditions(folder, cell, steps, iterations):
    values = methods.resolve("child", *cell).values
    assert values["objective"]["syn_steps"] == steps
    assert values["optimiser"]["iterations"] == iterations


def test_hash_covers_name_and_values_only(folder):
    recipe = methods.resolve("base", "Digits16", 1, "smoke")
    canonical = json.dumps({"method": "base", "values": recipe.values}, sort_keys=True)
    canonical = canonical.replace(", ", ",").replace(": ", ":")
    assert recipe.hash == hashlib.sha256(canonical.encode()).hexdigest()
    same = methods.resolve("base", "CIFAR10", 1, "small")
    assert same.hash == recipe.hash and methods.resolve("base", "X", 10, "small").hash != same.hash
    other_source = (folder / "base.toml").read_text().replace("our choice: quick", "elsewhere")
    (folder / "base.toml").write_text(other_source)
    assert methods.resolve("base", "Digits16", 1, "smoke").hash == recipe.hash


def test_overrides_win_and_say_so(folder):
    recipe = methods.resolve("base", "X", 1, "smoke", {"optimiser.iterations": 3})
    assert recipe.values["optimiser"]["iterations"] == 3
    assert recipe.sources["optimiser.iterations"] == "given by the user for this run"
    with pytest.raises(ValueError, match="override: unknown key `optimiser.lr`; known: .*momentum"):
        methods.resolve("base", "X", 1, "smoke", {"optimiser.lr": 3})
    for wrong in ("iterations", "optimizer.iterations", "optimiser.", "optimiser.a.b"):
        with pytest.raises(ValueError, match="section.key"):
            methods.resolve("base", "X", 1, "smoke", {wrong: 3})


def test_a_setting_that_is_missing_is_named(folder):
    recipe = methods.resolve("child", "CIFAR10", 1, "smoke")
    with pytest.raises(ValueError, match="'child' on CIFAR10, ipc 1, scale smoke has no `network`"):
        recipe.values["network"]
    with pytest.raises(ValueError, match="has no `optimiser.lr_syn`; set it in a ..settings.."):
        recipe.values["optimiser"]["lr_syn"]
    assert "network" not in recipe.values and recipe.values["optimiser"].get("lr_syn") is None
    assert json.loads(json.dumps(recipe.values)) == recipe.values == copy.deepcopy(recipe.values)


def test_another_objective_starts_its_section_afresh(folder):
    """What one objective is told is not passed on to another; equal names keep their settings."""
    block = """
[[settings]]
source = "ours"
[settings.objective]
name = "NAME"
weight = 2
"""
    for name, expected in (
        ("means", {"name": "means", "weight": 2}),
        ("trajectory", {"name": "trajectory", "weight": 2, "syn_steps": 60}),
    ):
        (folder / "child.toml").write_text(CHILD + block.replace("NAME", name))
        recipe = methods.resolve("child", "CIFAR10", 1, "smoke")
        assert recipe.values["objective"] == expected
        paths = {f"objective.{key}" for key in expected} | {"optimiser.iterations"}
        assert set(recipe.sources) == paths
    overrides = {"objective.weight": 3, "objective.name": "means"}
    recipe = methods.resolve("child", "CIFAR10", 1, "smoke", overrides)
    assert recipe.values["objective"] == {"name": "means", "weight": 3}
    network = {"network.name": "resnet18", "network.width": 8}
    with_network = methods.resolve("child", "X", 1, "smoke", network)
    assert with_network.values["network"] == {"name": "resnet18", "width": 8}


def test_unknown_method_is_not_implemented_yet(folder):
    with pytest.raises(NotImplementedYet, match="'dream' is not implemented; available: .*base"):
        methods.load("dream")
    orphan = CHILD.replace('"child"', '"orphan"').replace("base", "gone")
    (folder / "orphan.toml").write_text(orphan)
    with pytest.raises(NotImplementedYet, match="'gone' .extended by 'orphan'."):
        methods.load("orphan")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('title = "Base"', 'titel = "Base"', "unknown key `titel`"),
        ('name = "base"\n', 'name = "bass"\n', "`name` is 'bass' but the file is called base"),
        ('kind = "distillation"', 'kind = "magic"', "`kind` is 'magic'; expected one of"),
        ('source = "somebody, 2020"', "", "`source` is missing; cite"),
        (
            "[settings.optimiser]",
            "[settings.optimizer]",
            "unknown key `optimizer`; known: .*did you mean optimiser",
        ),
        (
            "when = { scale",
            "when = { size",
            "block 2: unknown key `when.size`; known: scale, dataset, ipc",
        ),
        ("ipc = 1 }", 'ipc = "1" }', "item 1 of `when.ipc` is '1'; expected a whole number of"),
        ('source = "paper, table 1"', "", "settings block 1: `source` is missing"),
        (OBJECTIVE, "objective = 3", "block 1: `objective` is 3; expected a table"),
        ("[[settings]]", "[settings]", "not valid TOML|expected a list"),
        ("syn_steps = 50", "syn_steps = ", "not valid TOML"),
        ("iterations = 20", "iteration = 20", "block 2: unknown key `optimiser.iteration`; known"),
        ("[settings.objective]", "[settings.training]", "unknown key `training`"),
        ("[settings.objective]", "[settings.experts]", "key `experts.name`; known: buffer, num_ex"),
    ],
)
def test_errors_name_the_file_and_the_key(folder, old, new, message):
    assert old in BASE
    (folder / "base.toml").write_text(BASE.replace(old, new))
    with pytest.raises(ValueError, match=message) as caught:
        methods.load("base")
    assert "base.toml" in str(caught.value)


def test_files_of_other_editors_are_read(folder):
    recipe = methods.resolve("base", "X", 1, "smoke")
    (folder / "base.toml").write_bytes(b"\xef\xbb\xbf" + BASE.replace("\n", "\r\n").encode())
    assert methods.resolve("base", "X", 1, "smoke").hash == recipe.hash


def test_a_file_is_parsed_once_and_again_when_it_changes(folder, monkeypatch):
    first = methods.load("child")
    with monkeypatch.context() as patched:
        patched.setattr("tomllib.loads", lambda text: pytest.fail("parsed again"))
        assert methods.load("child") == first
    (folder / "base.toml").write_text(BASE.replace("5000", "50000"))
    assert methods.resolve("child", "X", 10, "paper").values["optimiser"]["iterations"] == 50000


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "iterations = 20",
            "iterations = -1",
            "`optimiser.iterations` is -1; .* of at least 1 and",
        ),
        ("iterations = 20", "iterations = 1_000_000_000", "at most 1000000$"),
        ("iterations = 20", "lr_syn = 1e308", r"`optimiser.lr_syn` is 1e\+308; .* at most 1000000"),
        ("iterations = 20", "lr_syn = nan", "`optimiser.lr_syn` is nan; expected a finite number"),
        ("iterations = 20", f"lr_syn = 1{'0' * 400}", "`optimiser.lr_syn` is 1000.*; expected a"),
        ("syn_steps = 50", "rate = inf", "`objective.rate`: inf is not a setting; expected a"),
        ("syn_steps = 50", "on = 1979-05-27", "`objective.on`: datetime.* is not a setting"),
        ("syn_steps = 50", f"x = {'[' * 5000}", "not valid TOML"),
        ('name = "trajectory"', "name = 3", "`objective.name` is 3; expected text"),
        ("iterations = 20", "[settings.network]\nwidth = 1_000_000_000_000", "at most 65536"),
        ("iterations = 20", "[settings.experts]\nbatch_size = 0", "is 0; .* of at least 1"),
        ("ipc = 1 }", "ipc = [] }", "`when.ipc` is .*; expected a list of at least 1"),
        ('"small"]', '"smal"]', "item 2 of `when.scale` is 'smal'; .*; did you mean small"),
    ],
)
def test_absurd_settings_are_refused(folder, old, new, message):
    assert old in BASE
    (folder / "base.toml").write_text(BASE.replace(old, new, 1))
    with pytest.raises(ValueError, match=message) as caught:
        methods.load("base")
    assert "base.toml" in str(caught.value)


@pytest.mark.parametrize("value", [None, float("nan"), "3", True, 1.0])
def test_absurd_overrides_are_refused(folder, value):
    with pytest.raises(ValueError, match="override: `optimiser.iterations` is .*a whole number"):
        methods.resolve("base", "X", 1, "smoke", {"optimiser.iterations": value})


def test_a_long_line_of_methods_is_followed(folder):
    parent = "base"
    for number in range(1200):
        text = f'name = "m{number}"\ntitle = "M"\nextends = "{parent}"\n'
        parent = f"m{number}"
        (folder / f"{parent}.toml").write_text(text)
    recipe = methods.resolve(parent, "X", 10, "smoke")
    assert recipe.values == methods.resolve("base", "X", 10, "smoke").values


def test_methods_and_tables_need_no_torch():
    program = (
        "import sys; from nsdbench import methods; from nsdbench.bench import tables; "
        "methods.resolve('nsd', 'CIFAR10', 1, 'paper').hash; tables.load; "
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_circles_duplicates_and_missing_folders(folder, tmp_path, monkeypatch):
    (folder / "base.toml").write_text(BASE.replace("kind", 'extends = "child"\nkind', 1))
    with pytest.raises(ValueError, match="circle: child -> base -> child"):
        methods.load("child")
    second = tmp_path / "second"
    second.mkdir()
    (second / "child.toml").write_text(CHILD)
    monkeypatch.setenv(methods.FOLDERS_VARIABLE, f"{folder}:{second}")
    with pytest.raises(ValueError, match="described twice"):
        methods.names()
    monkeypatch.setenv(methods.FOLDERS_VARIABLE, str(tmp_path / "absent"))
    with pytest.raises(ValueError, match="absent, which is not a folder"):
        methods.names()


def test_expert_settings_are_those_of_the_expert_recipe():
    fields = [field.name for field in dataclasses.fields(ExpertRecipe)]
    assert [*schema.Experts.__annotations__] == ["buffer", *fields]


def test_nsd_starts_as_the_paper_says_but_at_scale_small():
    for dataset, scale in (("CIFAR10", "paper"), ("Digits16", "smoke")):
        assert "init" not in methods.resolve("nsd", dataset, 1, scale).values["parameterization"]
    small = methods.resolve("nsd", "FashionMNIST", 1, "small").values["parameterization"]
    assert small["init"] == "real"


def test_every_shipped_method_resolves_everywhere():
    for name in methods.names():
        for scale in ("smoke", "small", "paper"):
            recipe = methods.resolve(name, "CIFAR10", 1, scale)
            paths = {f"{s}.{k}" for s, keys in recipe.values.items() for k in keys}
            assert paths == set(recipe.sources) and all(recipe.sources.values())
