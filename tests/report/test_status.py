"""The status of every cell: none is left out, whatever is known about it."""

from dataclasses import replace

import pytest

from nsdbench.bench import tables
from nsdbench.bench.record import Record
from nsdbench.evaluation import protocols
from nsdbench.report import status
from nsdbench.report.content import STATUSES
from nsdbench.spread import summary

TABLES = [f"table{number}" for number in range(1, 7)]


def summarise(scale="paper", records=(), names=TABLES, **options):
    """Summarise some tables."""
    return status.summarise(map(tables.load, names), scale, records, **options)


def nsd(ipc):
    """Return a cell of Table 1, CIFAR10, as the table declares it and as a record holds it."""
    (entry,) = [
        entry
        for entry in tables.load("table1").entries("paper")
        if (entry.cell.dataset, entry.cell.method, entry.cell.ipc) == ("CIFAR10", "nsd", ipc)
    ]
    return entry, entry.cell


@pytest.mark.parametrize("scale", tables.SCALES)
def test_every_cell_of_every_table_has_one_status(scale):
    found = summarise(scale)
    every = set()
    for part in found["tables"]:
        entries = tables.load(part["name"]).entries(scale)
        assert [cell["id"] for cell in part["cells"]] == [entry.cell.id for entry in entries]
        expected = [
            "not implemented" if entry.missing else "data missing" if entry.needs else "not run"
            for entry in entries
        ]
        assert [cell["status"] for cell in part["cells"]] == expected
        assert sum(part["counts"].values()) == len(entries)
        assert tuple(part["counts"]) == STATUSES
        every |= {entry.cell for entry in entries}
    assert [part["name"] for part in found["tables"]] == TABLES
    assert sum(found["counts"].values()) == len(every)


def test_every_status_is_told_apart():
    (measured, cell), (stale, stale_cell), (failed, failed_cell) = map(nsd, (1, 10, 50))
    done = Record.done(
        cell,
        recipe_hash=measured.recipe.hash,
        protocol_hash=protocols.get("common").hash,
        seeds=1,
        repeats=5,
        accuracy=summary([[68.0, 69.0, 70.0, 71.0, 72.0]]),
    )
    records = [
        done,
        done.model_copy(update={"cell": stale_cell, "recipe_hash": "another"}),
        Record.failed(failed_cell, "memory", "killed by signal 9\nand more"),
        Record.failed(replace(cell, method="mtt"), "data_missing", "no CIFAR10 here"),
    ]
    found = summarise(records=records, names=["table1", "table6"])
    cells = {cell["id"]: cell for part in found["tables"] for cell in part["cells"]}
    for entry, expected in (
        (measured, ("measured", "")),
        (stale, ("stale", "its recipe has changed since")),
        (failed, ("failed", "killed by signal 9")),
    ):
        assert (cells[entry.cell.id]["status"], cells[entry.cell.id]["reason"]) == expected
    assert (cells[measured.cell.id]["mean"], cells[measured.cell.id]["n"]) == (70.0, 5)
    missing = cells[measured.cell.id.replace("nsd", "mtt")]
    assert missing["status"] == "data missing" and missing["mean"] is None
    counts = [part["counts"]["measured"] for part in found["tables"]]
    assert counts == [1, 1] and found["counts"]["measured"] == 1  # the tables share the cell
    assert found["reasons"] == [
        {"status": "stale", "cells": 1, "reason": "its recipe has changed since"},
        {"status": "failed", "cells": 1, "reason": "killed by signal 9"},
        {"status": "data missing", "cells": 1, "reason": "no CIFAR10 here"},
    ]
    assert status.reason_rows(found)[1][0] == ("stale", "1", "its recipe has changed since")
    header, rows = status.count_rows(found)
    assert header == ("scale paper", "cells", *STATUSES)
    assert [row[0] for row in rows] == ["table1", "table6", "distinct cells"]
    assert rows[1][2:4] == ("1", "1")  # of NSD: ipc 1 measured, ipc 10 stale


def test_a_protocol_and_filters_choose_cells():
    where = {"arch": ["vgg11"], "method": ["nsd"]}
    found = summarise(names=["table5"], protocol="common-equal-steps", where=where)
    (cell,) = found["tables"][0]["cells"]
    assert cell["id"] == "CIFAR10-ipc10-nsd-vgg11-common-equal-steps"
    assert cell["status"] == "not run"
    with pytest.raises(ValueError, match="matches no cell"):
        summarise(where={"method": ["sorcery"]})
    one_table_is_enough = summarise(names=["table1", "table3"], where={"dataset": ["ImageNette"]})
    assert [len(part["cells"]) > 0 for part in one_table_is_enough["tables"]] == [False, True]
