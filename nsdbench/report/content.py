"""What a report says about every cell of a table: its status, number, verdict and cost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nsdbench.bench import divergence
from nsdbench.bench.cell import Cell
from nsdbench.bench.comparison import between_sets, gain_over_random
from nsdbench.bench.record import Record, Result
from nsdbench.bench.verdict import Verdict, verdict
from nsdbench.evaluation import protocols
from nsdbench.spread import Estimate

if TYPE_CHECKING:
    from nsdbench.bench.tables import Column, Entry, Table

STATUSES = ("measured", "stale", "failed", "data missing", "not run", "not implemented")


@dataclass(frozen=True)
class CellReport:
    """One cell of a table: `record` and `verdict` are there where it has a number.

    `status` is one of STATUSES; `reason` says why there is no number, what has changed since it was
    measured, how many of the runs that the table asks for it has, or what ran away ("diverged?").
    `gain` is the accuracy less Random's under the same protocol, data, budget and network, None
    where either is not measured; `between_sets` says what is known of the spread between sets.
    """

    entry: Entry
    status: str
    reason: str = ""
    record: Result | None = None
    verdict: Verdict | None = None
    gain: Estimate | None = None
    between_sets: str = ""

    @property
    def gain_over_random(self) -> str:
        """Write the gain with its 95 % interval, where there are runs enough for one."""
        if self.gain is None:
            return "-"
        ends = self.gain.interval
        text = f"{self.gain.mean:+.1f}"
        return text if ends is None else "{} ({:+.1f} to {:+.1f})".format(text, *ends)

    @property
    def number(self) -> str:
        """Write the measured mean and population std (none of a single run), or the status.

        A set that stores more than its budget says how many images per class would take its room.
        """
        if self.record is None:
            return self.status
        accuracy = self.record.accuracy
        text = mean_and_std(accuracy.mean, accuracy.std if accuracy.n > 1 else None)
        budget = self.record.budget
        if budget is not None and budget.is_exceeded:
            text += f" (stores {self.record.cell.ipc * budget.percent / 100:.2f} ipc)"
        marks = ["stale"] if self.status == "stale" else []
        marks += [divergence.MARK] if self.record.runaway else []
        return f"{text} ({', '.join(marks)})" if marks else text

    @property
    def published(self) -> str:
        """Write the printed number of the same cell, if there is one."""
        printed = self.entry.published
        return "-" if printed is None else mean_and_std(printed.mean, printed.std)


def collect(
    table: Table, scale: str, records: Iterable[Record], protocol: str | None = None
) -> list[CellReport]:
    """Collect what is known about the cells of every measured row, in table order.

    Args:
        table: the table.
        scale: records of other scales are not looked at.
        records: as `Store.records` returns them.
        protocol: judges every row but the full data's, instead of what the table says.

    Raises:
        ValueError: unknown scale or protocol.
    """
    by_cell = {record.cell: record for record in records}
    entries = table.entries(scale, protocol=protocol)
    return [_cell(entry, by_cell) for entry in entries]


def distinct(cells: Iterable[CellReport]) -> list[CellReport]:
    """Keep the first of every cell; rows may share some."""
    found: dict[Cell, CellReport] = {}
    for cell in cells:
        found.setdefault(cell.entry.cell, cell)
    return list(found.values())


def _cell(entry: Entry, by_cell: Mapping[Cell, Record]) -> CellReport:
    """Report one cell."""
    record = by_cell.get(entry.cell)
    if not isinstance(record, Result):
        if missing := entry.missing:
            return CellReport(entry, "not implemented", ", ".join(missing))
        if record is None or record.failure is None:
            return CellReport(entry, "data missing" if entry.needs else "not run", entry.needs)
        status = "data missing" if record.failure.kind == "data_missing" else "failed"
        return CellReport(entry, status, record.failure.line)
    if change := _change_since(entry, record):
        known = between_sets(record, by_cell.values())
        unlike = Verdict("not comparable", change)
        return CellReport(entry, "stale", change, record, unlike, None, known)
    runs = f"{record.seeds} x {record.repeats} of {entry.seeds} x {entry.repeats} runs"
    is_enough = record.seeds >= entry.seeds and record.repeats >= entry.repeats
    return CellReport(
        entry,
        "measured",
        "; ".join(filter(None, ("" if is_enough else runs, _diverged(record)))),
        record,
        verdict(record, entry.published),
        gain_over_random(record, by_cell),
        between_sets(record, by_cell.values()),
    )


def _diverged(record: Result) -> str:
    """Mark a number whose sets ran away while they were learned; empty if they did not."""
    return f"{divergence.MARK}: {record.runaway}" if record.runaway else ""


def _change_since(entry: Entry, record: Result) -> str:
    """Say what has changed since a cell was measured, empty if nothing has."""
    if not entry.is_described:
        return "its method has no file any more"
    return record.change_since(entry.recipe.hash, protocols.get(entry.cell.protocol).hash)


def figure_stem(table: Table, protocol: str | None) -> str:
    """Name the files of a figure; each protocol has its own."""
    return table.name if protocol is None else f"{table.name}-{protocol}"


def gain(cells: list[CellReport], minus: tuple[str, str], column: Column) -> str:
    """Write the difference of two measured rows in one column.

    It is a dash if one is not measured or is stale, or if two protocols judge them.
    """
    measured = [
        (cell.record.accuracy.mean, cell.entry.cell.protocol)
        for label in minus
        for cell in cells
        if cell.entry.row.label == label and column in cell.entry.columns
        if cell.record is not None and cell.status == "measured"
    ]
    is_difference = len(measured) == 2 and measured[0][1] == measured[1][1]
    return f"{measured[0][0] - measured[1][0]:+.1f}" if is_difference else "-"


def mean_and_std(mean: float, std: float | None) -> str:
    """Write a number as the paper does, in per cent with one decimal."""
    return f"{mean:.1f}" if std is None else f"{mean:.1f} ± {std:.1f}"
