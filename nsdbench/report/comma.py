"""Write the cells of a report as CSV: one line a cell, measured or not, full precision."""

import csv
import io
from collections.abc import Iterable

from nsdbench.report.content import CellReport

HEADER = (
    "table", "row", "family", "dataset", "ipc", "method", "arch", "protocol", "scale", "status",
    "reason", "mean", "std", "ci95_low", "ci95_high", "n", "published_mean", "published_std",
    "difference", "verdict", "stored_bits", "limit_bits", "images", "batch", "steps",
    "seconds", "peak_bytes", "commit",
)  # fmt: skip


def render(tables: Iterable[tuple[str, list[CellReport]]]) -> str:
    """Write the cells of some tables, given as (table name, cells)."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(HEADER)
    for name, cells in tables:
        for cell in cells:
            writer.writerow(["" if value is None else value for value in _line(name, cell)])
    return stream.getvalue()


def _line(name: str, cell: CellReport) -> list:
    """Return the values of one cell in the order of the header."""
    entry, record, published = cell.entry, cell.record or {}, cell.entry.published
    accuracy = record.get("accuracy", {})
    low, high = accuracy.get("ci95") or (None, None)
    budget = record.get("budget") or {}
    return [
        name, entry.row.label, entry.row.family, *entry.key, cell.status, cell.reason,
        accuracy.get("mean"), accuracy.get("std"), low, high, accuracy.get("n"),
        published.mean if published else None, published.std if published else None,
        cell.verdict.difference if cell.verdict else None,
        str(cell.verdict) if cell.verdict else None,
        budget.get("stored_bits"), budget.get("limit_bits"), cell.images, cell.batch,
        cell.steps, cell.seconds, record.get("cost", {}).get("peak_bytes"),
        record.get("provenance", {}).get("commit"),
    ]  # fmt: skip
