"""Results as data: every number of the records, under its own name."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import nsdbench
from nsdbench.bench.store import Store

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "results"
MODULES = sorted(path.stem for path in (ROOT / "nsdbench" / "report").glob("*.py"))
# What takes long to load; a report loads those it needs when it needs them.
HEAVY = {"torch", "matplotlib", "scipy", "sklearn", "pandas", "tabulate", "PIL"}


@pytest.fixture(scope="module")
def measured():
    return [record for record in Store(RESULTS).records("small")[0] if record.status == "done"]


def test_a_row_a_cell(measured):
    frame = nsdbench.records(RESULTS, "small")
    assert len(frame) == len(measured) and frame["id"].is_unique
    for (_, row), record in zip(frame.iterrows(), measured, strict=True):
        assert row["id"] == record.cell.id
        assert (row["dataset"], row["ipc"], row["protocol"]) == (
            record.cell.dataset, record.cell.ipc, record.cell.protocol,
        )  # fmt: skip
        assert (row["mean"], row["std"], row["n"]) == (
            record.accuracy.mean, record.accuracy.std, record.accuracy.n,
        )  # fmt: skip
        assert (row["ci95_low"], row["ci95_high"]) == record.accuracy.ci95
        assert row["training.steps"] == record.training.steps
        assert row["cost.seconds.evaluate"] == record.cost.seconds["evaluate"]
        assert row["provenance.commit"] == record.provenance.commit
        assert row["provenance.device"] == record.provenance.device
        assert row["protocol.lr"] == record.protocol["lr"]
        if record.budget is None:
            assert row.isna()["budget.stored_bits"]
        else:
            assert row["budget.stored_bits"] == record.budget.stored_bits
        for section, settings in record.recipe.items():
            for key, value in settings.items():
                assert value is None or row[f"recipe.{section}.{key}"] == value
    assert "budget" not in frame and not frame.columns.duplicated().any()


def test_a_row_a_network(measured):
    frame = nsdbench.records(RESULTS, "small", by="network")
    assert len(frame) == sum(record.accuracy.n for record in measured)
    means = frame.groupby("id")["accuracy"].mean()
    for record in measured:
        assert means[record.cell.id] == pytest.approx(record.accuracy.mean, rel=1e-12)
    keys = frame[["id", "set", "network"]]
    assert not keys.duplicated().any() and "mean" not in frame


def test_what_is_no_result_is_left_out(tmp_path):
    folder = tmp_path / "records" / "small"
    folder.mkdir(parents=True)
    path = min((RESULTS / "records" / "small").glob("*.json"))
    shutil.copy(path, folder)
    (folder / "broken.json").write_text("{")
    with pytest.warns(UserWarning, match="broken.json is not a record"):
        frame = nsdbench.records(tmp_path)
    assert list(frame["id"]) == [path.stem]
    assert len(nsdbench.records(tmp_path, "paper")) == 0
    with pytest.raises(ValueError, match='\'seed\'; expected "cell" or "network"'):
        nsdbench.records(tmp_path, by="seed")


@pytest.mark.parametrize("module", MODULES)
def test_importing_reports_loads_nothing_heavy(module):
    name = f"nsdbench.report.{module}".removesuffix(".__init__")
    program = f"import sys, {name}; print(*sorted({{m.partition('.')[0] for m in sys.modules}}))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert not HEAVY & set(done.stdout.split())
