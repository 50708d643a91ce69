"""The status of every cell of some tables, as plain values and as rows to print."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

from nsdbench.bench.record import Record
from nsdbench.bench.tables import Table
from nsdbench.bench.tables.where import keep_where
from nsdbench.report.content import STATUSES, CellReport, collect, distinct

Rows = tuple[tuple[str, ...], list[tuple[str, ...]]]


def summarise(
    tables: Iterable[Table],
    scale: str,
    records: Iterable[Record],
    protocol: str | None = None,
    where: dict[str, list[str]] | None = None,
) -> dict[str, Any]:
    """Find the status of every cell of some tables.

    Args:
        tables: the tables.
        scale: one that all of them have.
        records: as `Store.records` returns them.
        protocol: judges every row but the full data's, instead of what the tables say.
        where: keep only cells whose value of each key is listed, see `tables.where`.

    Returns:
        JSON values: scale; tables, each with name, title, counts by status and its cells; and the
        counts of all distinct cells, since tables share some, with the number of cells of every
        status and reason.

    Raises:
        ValueError: unknown scale or protocol, or a filter value that no cell has.
    """
    records = list(records)
    by_table = [(t, distinct(collect(t, scale, records, protocol))) for t in tables]
    kept = keep_where([cell.entry for _, cells in by_table for cell in cells], where or {})
    keys = {entry.cell for entry in kept}
    parts: list[dict[str, Any]] = []
    for table, cells in by_table:
        shown = [_plain(cell) for cell in cells if cell.entry.cell in keys]
        counts = _counts(cell["status"] for cell in shown)
        parts.append({"name": table.name, "title": table.title, "counts": counts, "cells": shown})
    every = {cell["id"]: cell for part in parts for cell in part["cells"]}.values()
    reasons = Counter((c["status"], c["reason"]) for c in every if c["reason"])
    ordered = sorted(reasons.items(), key=lambda item: (STATUSES.index(item[0][0]), -item[1]))
    return {
        "scale": scale,
        "tables": parts,
        "counts": _counts(cell["status"] for cell in every),
        "reasons": [
            {"status": status, "cells": count, "reason": reason}
            for (status, reason), count in ordered
        ],
    }


def cell_rows(part: dict[str, Any]) -> Rows:
    """Make header and rows of one table of `summarise`."""
    keys = ("id", "row", "status", "reason")
    return ("cell", "row", "status", ""), [tuple(cell[k] for k in keys) for cell in part["cells"]]


def count_rows(summary: dict[str, Any]) -> Rows:
    """Make header and rows of the counts of `summarise`."""
    lines = [(part["name"], part["counts"]) for part in summary["tables"]]
    lines.append(("distinct cells", summary["counts"]))
    rows = [
        (name, str(sum(counts.values())), *(str(counts[status]) for status in STATUSES))
        for name, counts in lines
    ]
    return (f"scale {summary['scale']}", "cells", *STATUSES), rows


def reason_rows(summary: dict[str, Any]) -> Rows:
    """Make header and rows of the reasons of `summarise`."""
    keys = ("status", "cells", "reason")
    return ("why", "cells", ""), [tuple(str(r[k]) for k in keys) for r in summary["reasons"]]


def _plain(cell: CellReport) -> dict[str, Any]:
    """Describe one cell in JSON values."""
    entry, record = cell.entry, cell.record
    return {
        "id": entry.cell.id,
        "row": entry.row.label,
        "dataset": entry.cell.dataset,
        "ipc": entry.cell.ipc,
        "method": entry.cell.method,
        "arch": entry.cell.arch,
        "protocol": entry.cell.protocol,
        "status": cell.status,
        "reason": cell.reason,
        "mean": None if record is None else record.accuracy.mean,
        "n": None if record is None else record.accuracy.n,
    }


def _counts(statuses: Iterable[str]) -> dict[str, int]:
    """Count every status, those that do not occur too."""
    counter = Counter(statuses)
    return {status: counter[status] for status in STATUSES}
