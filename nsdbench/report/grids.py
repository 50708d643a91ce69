"""The tables of a report: measured and printed numbers, what is known of every cell, its cost."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nsdbench.bench.comparison import num_sets
from nsdbench.report.content import CellReport, gain, mean_and_std

if TYPE_CHECKING:
    from nsdbench.bench.record import Result
    from nsdbench.bench.tables import Column, Row, Table
    from nsdbench.bench.tables.published import PrintedNumber

_PHASES = {"experts": "experts", "distill": "distillation", "evaluate": "evaluation"}


@dataclass(frozen=True)
class Grid:
    """A titled table of text; the first `num_labels` columns name the row."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    num_labels: int = 1


def measured_grids(
    table: Table, columns: tuple[Column, ...], cells: list[CellReport]
) -> list[Grid]:
    """Make the grids of measured numbers; every cell without one shows its status.

    There is one for each protocol that judges sets, so that no two of them share a column; the
    full data stands in the first, and if its protocol is another, each row names its own.
    """
    by_label = {c.entry.row.label: c.entry.cell.protocol for c in cells if c.entry.cell.ipc}
    judges = list(dict.fromkeys(by_label.values())) or [""]
    grids = []
    for judge in judges:
        rows = [
            row
            for row in table.rows
            if by_label.get(row.minus[0] if row.minus else row.label, judges[0]) == judge
        ]
        title = f"Measured by protocol {judge}" if len(judges) > 1 else "Measured"
        grids.append(_measured_grid(title, rows, columns, cells))
    return grids


def _measured_grid(
    title: str, rows: list[Row], columns: tuple[Column, ...], cells: list[CellReport]
) -> Grid:
    """Make one grid of measured numbers, with the protocols if they are not one."""
    judged_by = {c.entry.row: c.entry.cell.protocol for c in cells if c.entry.row in rows}
    is_mixed = len(set(judged_by.values())) > 1
    lines = []
    for row in rows:
        texts = []
        for column in columns:
            if row.minus is not None:
                texts.append(gain(cells, row.minus, column))
                continue
            texts += [
                cell.number
                for cell in cells
                if cell.entry.row == row and column in cell.entry.columns
            ] or ["-"]
        if row.minus is None and set(texts) == {"-"}:
            continue  # the row has cells at other scales only
        label = row.label.replace("(printed)", "(measured)") if row.minus else row.label
        lines.append((label, *([judged_by.get(row, "-")] if is_mixed else []), *texts))
    names = ("method", "protocol") if is_mixed else ("method",)
    header = (*names, *labels([(c.dataset, c.ipc, c.arch) for c in columns]))
    return Grid(title, header, tuple(lines), num_labels=len(names))


def copy_grid(table: Table, scale: str, cells: list[CellReport]) -> list[Grid]:
    """Make the grid of measured numbers on lossy copies, each beside the printed one."""
    columns = [c for c in table.settings(scale).columns if c.dataset != c.published_dataset]
    if not columns or not table.printed:
        return []
    lines = []
    for row in table.rows:
        texts = []
        for column in columns:
            for cell in cells:
                if cell.entry.row == row and column in cell.entry.columns:
                    texts += [cell.number, cell.published]
        if texts:
            lines.append((row.label, *texts))
    title = "On a lossy copy, beside the published numbers"
    if scale != "paper":
        title += ", which were distilled at the full settings"
    names = labels([(c.dataset, c.ipc, c.arch) for c in columns])
    printed = labels([(c.published_dataset, c.ipc, c.published_arch) for c in columns])
    pairs = zip(names, printed, strict=True)
    header = (text for name, of in pairs for text in (name, f"{of}, published"))
    return [Grid(title, ("method", *header), tuple(lines))]


def published_grid(table: Table, scale: str, cells: list[CellReport]) -> list[Grid]:
    """Make the grid of printed numbers, and say so where they are not those of these cells."""
    if not table.printed:
        return []
    columns = _places(table.settings("paper" if "paper" in table.scales else scale).columns)
    above = _places(table.settings(scale).columns)
    printed: dict[tuple[str, str, int, str], PrintedNumber] = {
        (n.label, n.dataset, n.ipc, n.arch): n for n in reversed(table.printed)
    }
    rows = []
    for row in table.rows:
        texts = []
        for dataset, ipc, arch in columns:
            number = printed.get((row.label, dataset, 0 if row.method == "full" else ipc, arch))
            mean, std = (None, None) if number is None else (number.mean, number.std)
            texts.append("-" if mean is None else mean_and_std(mean, std))
        rows.append((row.label, *texts))
    title = "Published"
    entries = [cell.entry for cell in cells]
    if not any(e.published and e.published.protocol == e.cell.protocol for e in entries):
        title = "Published, judged by other protocols than above: no verdict"
    if scale != "paper":
        title = "Published, distilled at the full settings: no verdict at this scale"
    others = [place for place in above if place not in columns]
    if len(others) == len(above):
        datasets = listed(dataset for dataset, _, _ in columns)
        title = f"Published on {datasets}: other data than above, not to be compared with it"
    elif others:
        title += f"; {listed(dataset for dataset, _, _ in others)} is other data"
    return [Grid(title, ("method", *labels(columns)), tuple(rows))]


def _places(columns: Iterable[Column]) -> list[tuple[str, int, str]]:
    """List where the numbers of columns are printed: data set, ipc and network."""
    places = ((c.published_dataset, c.ipc, c.published_arch) for c in columns)
    return list(dict.fromkeys(places))


def details_grid(cells: list[CellReport]) -> list[Grid]:
    """Make the grid of all that is known about the measured cells."""
    header = (
        "method", "cell", "protocol", "measured", "sets", "n", "95 % interval", "between sets",
        "gain over Random", "published", "difference", "verdict", "budget used",
    )  # fmt: skip
    rows = []
    for cell, record, where in _measured(cells):
        verdict, interval = cell.verdict, record.accuracy.interval
        difference = verdict.difference if verdict is not None else None
        percent = record.budget.percent if record.budget is not None else None
        rows.append(
            (
                *where,
                cell.number,
                str(num_sets(record) or "-"),
                str(record.accuracy.n),
                "-" if interval is None else "{:.1f} to {:.1f}".format(*interval),
                cell.between_sets,
                cell.gain_over_random,
                cell.published,
                "-" if difference is None else f"{difference:+.1f}",
                str(verdict),
                "-" if percent is None else f"{percent:.1f} %",
            )
        )
    return [Grid("Every measured cell", header, tuple(rows), num_labels=3)] if rows else []


def cost_grid(cells: list[CellReport]) -> list[Grid]:
    """Make the grid of what the measured cells took: training, time, memory, and on which device.

    Networks of unequal steps or batches were not trained equally much: a protocol that counts
    epochs gives a set of more images more steps, and a set smaller than a batch is a batch.
    """
    header = (
        "method", "cell", "protocol", "images", "batch", "steps", *_PHASES.values(),
        "peak memory", "device",
    )  # fmt: skip
    rows = []
    for _, record, where in _measured(cells):
        counts = (record.images, record.batch, record.training.steps)
        seconds = [record.cost.seconds.get(phase) for phase in _PHASES]
        peak = record.cost.peak_bytes
        rows.append(
            (
                *where,
                *("-" if count is None else str(count) for count in counts),
                *("-" if value is None else f"{value:.0f} s" for value in seconds),
                "-" if peak is None else f"{peak / 2**20:.0f} MiB",
                record.provenance.device or "-",
            )
        )
    title = "What every measured cell took (images, batch and optimiser steps of one network)"
    return [Grid(title, header, tuple(rows), num_labels=3)] if rows else []


def _measured(cells: list[CellReport]) -> list[tuple[CellReport, Result, tuple[str, str, str]]]:
    """Return the cells that have a number, its record, and the labels of their rows."""
    measured = [(cell, cell.record) for cell in cells if cell.record is not None]
    names = cell_labels([cell for cell, _ in measured])
    return [
        (cell, record, (cell.entry.row.label, name, cell.entry.cell.protocol))
        for (cell, record), name in zip(measured, names, strict=True)
    ]


def labels(keys: list[tuple[str, int, str]]) -> list[str]:
    """Name columns by data set and ipc, and by network where that tells them apart."""
    archs: dict[tuple[str, int], set[str]] = {}
    for dataset, ipc, arch in keys:
        archs.setdefault((dataset, ipc), set()).add(arch)
    names = []
    for dataset, ipc, arch in keys:
        name = f"{dataset} full" if ipc == 0 else f"{dataset} ipc {ipc}"
        names.append(f"{name} {arch}" if len(archs[dataset, ipc]) > 1 else name)
    return names


def cell_labels(cells: list[CellReport]) -> list[str]:
    """Name the columns that cells stand in."""
    return labels([(c.entry.cell.dataset, c.entry.cell.ipc, c.entry.cell.arch) for c in cells])


def listed(values: Iterable[str]) -> str:
    """Write distinct values in order, comma separated."""
    return ", ".join(dict.fromkeys(values))
