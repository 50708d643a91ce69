"""list and explain: everything there is, and where every value comes from."""

import json
import re

import pytest

from nsdbench import methods, models
from nsdbench.bench import tables
from nsdbench.data import names as dataset_names
from nsdbench.student import unroll
from tests.cli.texts import CELL_ID, ODD


def test_list_shows_everything_there_is(nsdbench):
    code, out, _ = nsdbench("list")
    assert code == 0
    for name in (*methods.names(), *dataset_names(), *tables.names(), "common-equal-steps"):
        assert re.search(rf"^{re.escape(name)}\b", out, flags=re.MULTILINE), name
    assert re.search(r"^dream +not implemented|^dream\b", out, flags=re.MULTILINE)
    assert "resnet18_ap[-w<width>]" in out and "folder:PATH[@SIZE]" in out
    assert nsdbench("list archs")[1].startswith("archs:")


def test_list_says_what_every_method_is_made_of_and_what_is_missing(nsdbench, folder):
    (folder / "methods" / "odd.toml").write_text(ODD)
    code, out, _ = nsdbench("list methods --json")
    assert code == 0
    listed = {method["name"]: method for method in json.loads(out)["methods"]}
    declared = {row.method for name in tables.names() for row in tables.load(name).rows}
    assert set(listed) == {*methods.names(), *declared} - {None}
    for name, method in listed.items():
        if name not in methods.names():
            assert method["status"] == "not implemented" and method["title"]
            assert method["missing"].startswith("no file describes it; named by ")
        elif name != "odd":
            expected = (
                ("data missing", "prior 'stylegan-xl'") if name == "glad" else ("runnable", "")
            )
            assert (method["status"], method["missing"]) == expected, name
            assert method["title"] and method["kind"] and method["source"]
    assert listed["dream"]["missing"] == "no file describes it; named by mine"
    parts = ("kind", "parameterization", "objective", "selection")
    for name, expected in (
        ("nsd", ("distillation", "spectral", "trajectory", "")),
        ("mtt", ("distillation", "pixels", "trajectory", "")),
        ("k-center", ("coreset", "", "", "k-center")),
        ("full", ("full", "", "", "")),
        ("odd", ("distillation", "pixels, quilt", "", "")),
    ):
        assert tuple(listed[name][part] for part in parts) == expected
    assert listed["odd"]["missing"] == ("parameterization 'quilt', a name in the section objective")
    assert listed["odd"]["status"] == "not implemented"
    shown = nsdbench("list methods")[1]
    assert re.search(r"^nsd +NSD +distillation +spectral +trajectory +runnable", shown, re.M)


def test_list_names_no_setting_that_a_protocol_has_not(nsdbench):
    out = nsdbench("list protocols")[1]
    assert "None" not in out and re.search(r"^mtt +lr learned step size, batch_size 256", out, re.M)
    assert re.search(r"^common-equal-steps +lr 0.01, .* steps 5000, augment True *$", out, re.M)


def test_explain_gives_every_value_its_source(nsdbench):
    code, out, _ = nsdbench("explain table1 --scale paper --where method=nsd,dataset=CIFAR10,ipc=1")
    recipe = methods.resolve("nsd", "CIFAR10", 1, "paper")
    assert code == 0 and recipe.hash in out
    for path, source in recipe.sources.items():
        section, key = path.split(".")
        value = json.dumps(recipe.values[section][key])
        (line,) = [line for line in out.splitlines() if line.split()[:1] == [path]]
        assert value in line and line.endswith(source)
    network = models.from_id("convnet3-w128", in_channels=3, image_size=32, num_classes=10)
    code_path = unroll.code_path(network, "exact")
    assert f"unrolled gradient: mode exact, {code_path} code path on the CPU" in out
    assert "source:" in out
    same = nsdbench("explain CIFAR10-ipc1-nsd-convnet3-w128-common")[1]
    assert same == out
    assert "'dream' is not implemented" in nsdbench("explain mine --where method=dream")[1]
    judged = nsdbench("explain CIFAR10-ipc1-frepo-convnet3-w128-frepo")[1]
    assert "judged by  convnet_frepo3-w128-nonorm" in judged
    assert "distils with convnet_frepo3-w128-bn" in judged


@pytest.mark.parametrize("command", ["plan", "explain"])
def test_a_set_over_its_budget_is_announced(nsdbench, command):
    """4,620 floats where ipc 1 allows 2,560."""
    code, out, _ = nsdbench(f"{command} table1 --where method=haba,dataset=Digits16,ipc=1")
    assert code == 0 and "(1.80 ipc: over budget)" in out
    assert "over budget" not in nsdbench(f"{command} table1 --where method=mtt,ipc=1")[1]


@pytest.mark.parametrize("option", ["--scale paper", "--where ipc=10", "--protocol dc"])
def test_a_cell_id_leaves_nothing_to_choose(nsdbench, option):
    code, out, err = nsdbench(f"explain {CELL_ID} {option}")
    assert (code, out) == (2, "")
    assert err.startswith(
        f"error: {option.split()[0]} goes with a table, and '{CELL_ID}' is not a table"
    )


def test_no_set_is_judged_by_a_protocol_of_the_full_data(nsdbench):
    other = CELL_ID.replace("common-2ep", "full-2ep")
    for line, message in (
        (f"explain {other}", f"no table declares the cell '{other}'"),
        ("plan mine --protocol full-2ep", "'full-2ep' is for the full data"),
    ):
        code, _, err = nsdbench(line)
        assert code == 2 and message in err
