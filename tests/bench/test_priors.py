"""Cells that need a prior: missing with a sentence, or made once, with its cost in every cell."""

import json
import re
from importlib.metadata import EntryPoint

import pytest

from nsdbench import registry
from nsdbench.bench import plan, tables
from nsdbench.bench.cell import Cell
from nsdbench.bench.store import Store
from nsdbench.bench.verdict import Published
from nsdbench.experts import Run
from nsdbench.report import status

TABLE = """
name = "mine"
title = "Mine"
source = "nobody"
[[rows]]
label = "Random"
family = "coreset"
method = "random"
[[rows]]
label = "GLaD"
family = "parametrization"
method = "glad"
[scales.smoke]
protocol = "common-2ep"
seeds = 1
repeats = 1
columns = [{ dataset = "Digits16", ipc = 1, arch = "convnet1-w8" }]
[scales.paper]
protocol = "common"
seeds = 1
repeats = 5
columns = [{ dataset = "ImageNette", ipc = 1, arch = "convnet5-w128" }]
"""
CELL_ID = "Digits16-ipc1-glad-convnet1-w8-common-2ep"
QUICK_SUITE = """
name = "quick"
title = "Quick"
extends = "glad-suite"
[[settings]]
source = "test"
parameterization = { prior_epochs = 1, prior_batch_size = 256, prior_width = 2, layer = -2 }
network = { width = 4, depth = 1 }
experts = { num_experts = 1, epochs = 4, batch_size = 512 }
objective = { syn_steps = 2, expert_epochs = 1, max_start_epoch = 2 }
optimiser = { iterations = 3 }
"""


@pytest.fixture
def folder(tmp_path, monkeypatch, add_to_suite):
    add_to_suite({"mine": TABLE}, {"quick": QUICK_SUITE})
    monkeypatch.setenv("NSDBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NSDBENCH_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def nsdbench(folder, run_command):
    return run_command


@pytest.fixture
def with_prior(monkeypatch):
    """Have an installed package add the published prior, by name at least."""
    entered = registry._entry_points
    entry = EntryPoint("stylegan-xl", "theirs:FAMILY", "nsdbench.priors")
    monkeypatch.setattr(
        registry,
        "_entry_points",
        lambda group: (entry,) if group == "nsdbench.priors" else entered(group),
    )


def test_a_run_lacks_the_published_prior_and_says_what_would_provide_it(nsdbench, folder):
    code, out, _ = nsdbench("plan mine")
    assert code == 0 and "2 cells at scale smoke: 1 todo, 1 data missing." in out
    (sentence,) = re.findall(r"^the prior 'stylegan-xl'.*$", out, flags=re.MULTILINE)
    assert "nsdbench.priors" in sentence and "docs/plugins.md" in sentence
    assert "Digits16 is not on this machine" not in out

    code, out, _ = nsdbench("run mine --where method=glad")
    assert code == 3 and out.rstrip().endswith("0 done, 1 without data")
    assert sentence in out and "Nothing left to do" not in out
    record = Store(folder / "results").read("smoke", CELL_ID)
    assert (record.failure.kind, record.failure.reason) == ("data_missing", sentence)

    code, out, _ = nsdbench("status mine --json")
    (cell,) = [c for c in json.loads(out)["tables"][0]["cells"] if c["method"] == "glad"]
    assert (cell["status"], cell["reason"]) == ("data missing", sentence)
    assert sentence in nsdbench(f"explain {CELL_ID}")[1]
    listed = {m["name"]: m for m in json.loads(nsdbench("list methods --json")[1])["methods"]}
    assert listed["glad"]["status"] == "data missing"
    assert listed["glad"]["missing"] == "prior 'stylegan-xl'"
    assert (listed["glad-suite"]["status"], listed["glad-suite"]["missing"]) == ("runnable", "")
    assert nsdbench("distill --method glad --dataset Digits16 --ipc 1 --out x.safetensors")[0] == 3


def test_the_prior_and_the_data_set_are_told_apart(folder):
    made = plan.make(plan.Choice(["mine"], "paper"), Run(folder / "results"))
    assert [planned.status for planned in made.cells] == ["data missing"] * 2
    assert made.missing_data() == ["ImageNette"]
    assert [bool(planned.needs) for planned in made.cells] == [False, True]
    assert made.cells[1].needs == made.cells[1].reason != made.cells[0].reason


def test_a_package_that_adds_the_prior_makes_the_cell_one_to_measure(folder, with_prior):
    (_, planned) = plan.make(plan.Choice(["mine"]), Run(folder / "results")).cells
    assert (planned.status, planned.needs) == ("todo", "")


def test_table_3_has_no_row_that_is_not_implemented():
    summary = status.summarise([tables.load("table3")], "paper", [])
    assert summary["counts"]["not implemented"] == 0
    assert summary["counts"]["data missing"] == 6
    entries = tables.load("table3").entries("paper")
    glad = {e.cell.dataset: e.published for e in entries if e.row.label == "GLaD"}
    judged_by = "GLaD's own, averaged weights, best on test"
    assert glad["ImageNette"] == Published("ImageNette", 1, "convnet5-w128", 38.7, 1.6, judged_by)
    assert len(glad) == 6 and all(glad.values())
    for label in ("GLaD (suite-trained prior)", "GLaD (random prior)"):
        ours = [e for e in entries if e.row.label == label]
        assert len(ours) == 6 and not any(e.published or e.needs or e.missing for e in ours)
        assert all("another prior" in e.row.note for e in ours)


def test_a_record_holds_the_whole_cost_of_the_prior_once(folder, measure_cell):
    cells = [Cell("Digits16", ipc, "quick", "convnet1-w8", "common-2ep", "smoke") for ipc in (1, 2)]
    records = [measure_cell(cell, folder / "results", seeds=2) for cell in cells]
    costs = [record.cost.seconds["prior"] for record in records]
    assert costs[0] == costs[1] > 0, "the second cell found it, and it counts for both"
    assert len(list((folder / "cache" / "priors").glob("*.safetensors"))) == 1
    for record, ipc in zip(records, (1, 2), strict=True):
        assert record.status == "done", record.failure
        assert record.distillation.prior["name"].startswith("Digits16-")
        assert record.budget.stored_bits == record.budget.limit_bits == 32 * 10 * ipc * 256
        assert set(record.cost.seconds) == {"prior", "experts", "distill", "evaluate"}
