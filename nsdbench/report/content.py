"""What a report says about every cell of a table: its status, number, verdict and cost."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from nsdbench.bench.store import change_since
from nsdbench.bench.tables import Column, Entry, Table
from nsdbench.bench.verdict import Verdict, verdict
from nsdbench.evaluation import protocols

STATUSES = ("measured", "stale", "failed", "data missing", "not run", "not implemented")
_KEY = ("dataset", "ipc", "method", "arch", "protocol", "scale")


@dataclass(frozen=True)
class CellReport:
    """One cell of a table: `record` and `verdict` are there where it has a number.

    `status` is one of STATUSES; `reason` says why there is no number, what has changed since it was
    measured, or how many of the runs that the table asks for it has.
    """

    entry: Entry
    status: str
    reason: str = ""
    record: dict[str, Any] | None = None
    verdict: Verdict | None = None

    @property
    def number(self) -> str:
        """Write the measured mean and population std (none of a single run), or the status."""
        if self.record is None:
            return self.status
        accuracy = self.record["accuracy"]
        text = mean_and_std(accuracy["mean"], accuracy["std"] if accuracy["n"] > 1 else None)
        return f"{text} (stale)" if self.status == "stale" else text

    @property
    def published(self) -> str:
        """Write the printed number of the same cell, if there is one."""
        printed = self.entry.published
        return "-" if printed is None else mean_and_std(printed.mean, printed.std)

    @property
    def budget_percent(self) -> float | None:
        """Return the share of the budget that is stored, in per cent."""
        budget = (self.record or {}).get("budget") or {}
        stored, limit = budget.get("stored_bits"), budget.get("limit_bits")
        return 100 * stored / limit if stored is not None and limit else None

    @property
    def images(self) -> int | None:
        """Return the number of images the networks were trained on."""
        record = self.record or {}
        decoded = (record.get("budget") or {}).get("decoded_images")
        return decoded if decoded is not None else record.get("training", {}).get("num_images")

    @property
    def batch(self) -> int | None:
        """Return the images of a full batch: the protocol's, or all of a smaller set."""
        size = (self.record or {}).get("protocol", {}).get("batch_size")
        return None if size is None or self.images is None else min(size, self.images)

    @property
    def steps(self) -> int | None:
        """Return the optimiser steps of one network."""
        return (self.record or {}).get("training", {}).get("steps")

    @property
    def seconds(self) -> float | None:
        """Return the time of all phases together."""
        phases = (self.record or {}).get("cost", {}).get("seconds")
        return sum(phases.values()) if phases else None


def collect(
    table: Table, scale: str, records: Iterable[dict[str, Any]], protocol: str | None = None
) -> list[CellReport]:
    """Find out what is known about every measured row's cells, in table order.

    Args:
        table: the table.
        scale: records of other scales are not looked at.
        records: as `Store.records` returns them.
        protocol: judges every row but the full data's, instead of what the table says.

    Raises:
        ValueError: unknown scale or protocol.
    """
    by_key = {tuple(record["cell"][key] for key in _KEY): record for record in records}
    entries = table.entries(scale, protocol=protocol)
    return [_cell(entry, by_key.get(entry.key)) for entry in entries]


def _cell(entry: Entry, record: dict[str, Any] | None) -> CellReport:
    """Report one cell."""
    if record is None or record["status"] == "failed":
        if missing := entry.missing:
            return CellReport(entry, "not implemented", ", ".join(missing))
    if record is None:
        return CellReport(entry, "not run")
    if record["status"] == "failed":
        failure = record["failure"]
        reason = failure["reason"].splitlines()[0] if failure["reason"] else failure["kind"]
        status = "data missing" if failure["kind"] == "data_missing" else "failed"
        return CellReport(entry, status, reason)
    change = _change_since(entry, record)
    if change:
        return CellReport(entry, "stale", change, record, Verdict("not comparable", change))
    runs = f"{record['seeds']} x {record['repeats']} of {entry.seeds} x {entry.repeats} runs"
    is_enough = record["seeds"] >= entry.seeds and record["repeats"] >= entry.repeats
    compared = verdict(record, entry.published)
    return CellReport(entry, "measured", "" if is_enough else runs, record, compared)


def _change_since(entry: Entry, record: dict[str, Any]) -> str:
    """Say what has changed since a cell was measured, empty if nothing has."""
    if not entry.is_described:
        return "its method has no file any more"
    return change_since(record, entry.recipe.hash, protocols.get(entry.protocol).hash)


def figure_stem(table: Table, protocol: str | None) -> str:
    """Name the files of a figure; each protocol has its own."""
    return table.name if protocol is None else f"{table.name}-{protocol}"


def gain(cells: list[CellReport], minus: tuple[str, str], column: Column) -> str:
    """Write the difference of two measured rows in one column.

    It is a dash if one is not measured or is stale, or if two protocols judge them.
    """
    means, judged_by = [], set()
    for label in minus:
        for cell in cells:
            is_meant = cell.entry.row.label == label and column in cell.entry.columns
            if is_meant and cell.status == "measured":
                means.append(cell.record["accuracy"]["mean"])
                judged_by.add(cell.entry.protocol)
    is_difference = len(means) == 2 and len(judged_by) == 1
    return f"{means[0] - means[1]:+.1f}" if is_difference else "-"


def mean_and_std(mean: float, std: float | None) -> str:
    """Write a number as the paper does, in per cent with one decimal."""
    return f"{mean:.1f}" if std is None else f"{mean:.1f} ± {std:.1f}"
