"""The table for a GPU: its order, and a rehearsal of its commands from first to last cell."""

import sys

import pytest

from nsdbench import methods
from nsdbench.bench import tables
from nsdbench.bench.store import Store
from nsdbench.cli import app

ORDER = [
    ("nsd", 1), ("mtt", 1), ("nsd", 10), ("mtt", 10),
    *(
        (method, ipc)
        for method in (
            "random", "herding", "dm", "dc", "dsa", "idc", "rtp", "frepo", "dct", "ldct",
        )
        for ipc in (1, 10)
    ),
    ("full", 0),
]  # fmt: skip
TRAJECTORY = {
    "experts.epochs": 1, "experts.num_experts": 1, "objective.expert_epochs": 1,
    "objective.max_start_epoch": 1, "objective.syn_steps": 2,
}  # fmt: skip
# What makes a cell of a second or so; two iterations of everything that is distilled.
SMALLER = {
    **dict.fromkeys(("nsd", "mtt", "dct", "ldct"), TRAJECTORY),
    "herding": {"experts.epochs": 1},
    "rtp": {"objective.syn_steps": 2},
}


@pytest.mark.parametrize("scale", ["paper", "smoke"])
def test_cells_come_in_the_order_worth_their_time(scale):
    entries = tables.load("cifar10-jpeg").entries(scale)
    assert [(entry.cell.method, entry.cell.ipc) for entry in entries] == ORDER
    assert all(entry.is_described and not entry.missing for entry in entries)


def test_at_scale_paper_every_cell_is_the_published_one_on_a_copy():
    for entry in tables.load("cifar10-jpeg").entries("paper"):
        cell, printed = entry.cell, entry.published
        assert (cell.dataset, cell.arch) == ("CIFAR10-JPEG", "convnet3-w128")
        assert (printed.dataset, printed.ipc, printed.arch) == ("CIFAR10", cell.ipc, cell.arch)
        number = {("nsd", 1): 68.5, ("ldct", 1): 62.3, ("dct", 10): 69.5, ("full", 0): 84.8}
        assert printed.mean == number.get((cell.method, cell.ipc), printed.mean)


@pytest.mark.parametrize("name", methods.names())
def test_experts_reach_every_target(name):
    """Recipes at scale paper record no later epochs than they need on CIFAR10, and no fewer."""
    for ipc in (1, 10, 50):
        values = methods.resolve(name, "CIFAR10", ipc, "paper").values
        objective, experts = values.get("objective", {}), values.get("experts", {})
        if "max_start_epoch" in objective:
            last = objective["max_start_epoch"] - 1 + objective["expert_epochs"]
            assert experts["epochs"] >= last, f"{name} at ipc {ipc}"


def rehearsal():
    """Write the shipped table for tiny runs: the same rows, each with smaller settings."""
    lines = ['name = "rehearsal"', 'title = "Rehearsal"', 'source = "the shipped table"']
    for row in tables.load("cifar10-jpeg").rows:
        lines += ["[[rows]]", f'label = "{row.label}"', f'family = "{row.family}"']
        lines.append(f'method = "{row.method}"')
        if row.when.ipc:
            lines.append(f"when = {{ ipc = {list(row.when.ipc)} }}")
        smaller = dict(SMALLER.get(row.method, {}))
        if row.method != "full" and methods.load(row.method).kind == "distillation":
            smaller["optimiser.iterations"] = 2
        if smaller:
            settings = ", ".join(f'"{key}" = {value}' for key, value in smaller.items())
            lines.append(f"set = {{ {settings} }}")
    lines += ["[scales.smoke]", 'protocol = "common-2ep"', 'full_protocol = "full-1ep"']
    lines += ["seeds = 1", "repeats = 1", "columns = ["]
    lines += [f'  {{ dataset = "Digits16", ipc = {n}, arch = "convnet2-w16" }},' for n in (1, 10)]
    return "\n".join([*lines, "]"])


@pytest.mark.slow
def test_a_rehearsal_under_a_time_limit_from_the_first_cell_to_the_last(
    tmp_path, monkeypatch, capsys
):
    """Stopped by its limit again and again, the same command ends with every cell, in order."""
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "rehearsal.toml").write_text(rehearsal())
    monkeypatch.setenv("NSDBENCH_TABLES", str(tmp_path / "tables"))
    monkeypatch.setenv("NSDBENCH_CACHE", str(tmp_path / "cache"))
    results = tmp_path / "results"

    def nsdbench(*words):
        monkeypatch.setattr(sys, "argv", ["nsdbench", *words, "--results", str(results)])
        with pytest.raises(SystemExit) as stopped:
            app.main()
        return stopped.value.code or 0

    done, codes = [], []
    for limit in ("1s", "3s", "10s", "20m"):
        codes.append(nsdbench("run", "rehearsal", "--time-limit", limit))
        found, warnings = Store(results).records()
        assert warnings == [] and {record.status for record in found} <= {"done"}
        done.append({record.cell.id for record in found})
        if codes[-1] == 0:
            break
    assert codes[0] == 4 and codes[-1] == 0 and done == sorted(done, key=len)
    assert "Time is up" in capsys.readouterr().out
    records = sorted(found, key=lambda record: record.provenance.finished)
    ended = [(record.cell.method.partition("+")[0], record.cell.ipc) for record in records]
    at = {record.cell: record.provenance.finished for record in found}
    stamps = [at[entry.cell] for entry in tables.load("rehearsal").entries("smoke")]
    assert sorted(ended) == sorted(ORDER) and stamps == sorted(stamps)

    assert nsdbench("experts", "manifest") == 0
    sets = list((results / "artefacts").glob("*.safetensors"))
    assert len(sets) >= len(ORDER) - 1 and max(path.stat().st_size for path in sets) < 2e6
    manifests = list((results / "experts").glob("*.json"))
    assert manifests and max(path.stat().st_size for path in manifests) < 1e5
    assert nsdbench("report", "rehearsal", "--csv") == 0
