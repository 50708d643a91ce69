"""The tables of a report: measured and printed numbers, what is known of every cell, its cost."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from nsdbench.bench.comparison import num_sets
from nsdbench.data.holdout import is_holdout
from nsdbench.report.content import CellReport, distinct, gain, mean_and_std

if TYPE_CHECKING:
    from nsdbench.bench.record import Result
    from nsdbench.bench.tables import Column, Row, Table
    from nsdbench.bench.tables.published import PrintedNumber

_PHASES = {
    "prior": "prior",
    "experts": "experts",
    "distill": "distillation",
    "evaluate": "evaluation",
}


@dataclass(frozen=True)
class Grid:
    """A titled table of text; the first `num_labels` columns name the row.

    `best` holds the places (row, column) of the highest number of a column, to be set in bold.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    num_labels: int = 1
    best: frozenset[tuple[int, int]] = frozenset()


@dataclass(frozen=True)
class Line:
    """A row of a matrix: in every column a cell, or a text where there is none to measure."""

    label: str
    protocol: str
    values: tuple[CellReport | str, ...]


@dataclass(frozen=True)
class Matrix:
    """The cells of a table that one protocol judges, rows by columns, with the full data's."""

    title: str
    columns: tuple[Column, ...]
    lines: tuple[Line, ...]

    @property
    def names(self) -> list[str]:
        """Name the columns."""
        return labels([(c.dataset, c.ipc, c.arch) for c in self.columns])

    @property
    def is_mixed(self) -> bool:
        """Say whether the full data has a protocol of its own."""
        return len({line.protocol for line in self.lines if line.protocol}) > 1

    @cached_property
    def best(self) -> frozenset[tuple[int, int]]:
        """Find the places (row, column) of the highest numbers, as printed, of every column.

        Numbers that are compared with nothing do not count: the full data's, stale ones, and those
        of sets over their budget; nor do points of a sweep on a test split, where to choose is not
        honest. Of fewer than two numbers none is the best.
        """
        columns = range(len(self.columns))
        return best_places([[_ranked(x.values[c]) for x in self.lines] for c in columns])


def best_places(columns: Sequence[Sequence[float | None]]) -> frozenset[tuple[int, int]]:
    """Find the places (row, column) of the highest numbers, to one decimal, of at least two."""
    places = set()
    for number, column in enumerate(columns):
        known = [round(value, 1) for value in column if value is not None]
        for row, value in enumerate(column):
            if len(known) > 1 and value is not None and round(value, 1) == max(known):
                places.add((row, number))
    return frozenset(places)


def _ranked(value: CellReport | str) -> float | None:
    """Return the mean of a cell that others are compared with."""
    if isinstance(value, str) or value.status != "measured" or value.record is None:
        return None
    is_over = value.record.budget is not None and value.record.budget.is_exceeded
    is_secret = value.entry.row.sweep is not None and not is_holdout(value.entry.cell.dataset)
    is_compared = value.entry.cell.ipc and not is_over and not is_secret
    return value.record.accuracy.mean if is_compared else None


def measured_matrices(
    table: Table, columns: tuple[Column, ...], cells: list[CellReport]
) -> list[Matrix]:
    """Arrange the cells of a table.

    There is a matrix for each protocol that judges sets, so that no two of them share a column. The
    full data and rows without any cell stand in the first. If the full data has another protocol,
    each row names its own.
    """
    sets = [cell for cell in cells if cell.entry.cell.ipc]
    judges = list(dict.fromkeys(cell.entry.cell.protocol for cell in sets)) or [""]
    judged = {cell.entry.row.label for cell in sets}
    matrices = []
    for judge in judges:
        is_first = judge == judges[0]
        own = [c for c in sets if c.entry.cell.protocol == judge]
        if is_first:
            own += [c for c in cells if not c.entry.cell.ipc]
        labels_of_own = {cell.entry.row.label for cell in own}
        rows = [
            row
            for row in _rows(table)
            for label in [row.minus[0] if row.minus else row.label]
            if label in labels_of_own or (is_first and label not in judged)
        ]
        with_cells = {column for cell in own for column in cell.entry.columns}
        places = tuple(c for c in columns if c in with_cells) or columns
        title = f"Measured by protocol {judge}" if len(judges) > 1 else "Measured"
        lines = [_line(row, places, own) for row in rows]
        shown = [
            line
            for line, row in zip(lines, rows, strict=True)
            if row.minus or any(value != "-" for value in line.values)  # else of other scales only
        ]
        matrices.append(Matrix(title, places, tuple(shown)))
    return matrices


def _rows(table: Table) -> list[Row]:
    """Return the first row of every label: rows of one label share a line, in other columns."""
    first: dict[str, Row] = {}
    for row in table.rows:
        first.setdefault(row.label, row)
    return list(first.values())


def _line(row: Row, columns: tuple[Column, ...], cells: list[CellReport]) -> Line:
    """Arrange one row."""
    if row.minus is not None:
        gains = tuple(gain(cells, row.minus, column) for column in columns)
        return Line(row.label.replace("(printed)", "(measured)"), "", gains)
    own = [cell for cell in cells if cell.entry.row.label == row.label]
    return Line(
        row.label,
        next((cell.entry.cell.protocol for cell in own), ""),
        tuple(next((x for x in own if column in x.entry.columns), "-") for column in columns),
    )


def measured_grid(matrix: Matrix) -> Grid:
    """Write the numbers of a matrix; every cell without one shows its status."""
    names = ("method", "protocol") if matrix.is_mixed else ("method",)
    rows = []
    for line in matrix.lines:
        texts = (value if isinstance(value, str) else value.number for value in line.values)
        rows.append((line.label, *([line.protocol or "-"] if matrix.is_mixed else []), *texts))
    best = frozenset((row, len(names) + column) for row, column in matrix.best)
    return Grid(matrix.title, (*names, *matrix.names), tuple(rows), len(names), best)


def copy_grid(table: Table, scale: str, cells: list[CellReport]) -> list[Grid]:
    """Make the grid of measured numbers on lossy copies, each beside the printed one."""
    columns = [c for c in table.settings(scale).columns if c.dataset != c.published_dataset]
    if not columns or not table.printed:
        return []
    lines = []
    for row in _rows(table):
        own = [cell for cell in cells if cell.entry.row.label == row.label]
        shown = [next((x for x in own if column in x.entry.columns), None) for column in columns]
        pairs = [("-", "-") if x is None else (x.number, x.published) for x in shown]
        if any(shown):
            lines.append((row.label, *(text for pair in pairs for text in pair)))
    title = "On a lossy copy, beside the published numbers"
    if scale != "paper":
        title += ", which were distilled at the full settings"
    names = labels([(c.dataset, c.ipc, c.arch) for c in columns])
    printed = labels([(c.published_dataset, c.ipc, c.published_arch) for c in columns])
    header = (
        text for name, of in zip(names, printed, strict=True) for text in (name, f"{of}, published")
    )
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
    rows, ranked = [], []
    for row in _rows(table):
        texts, means = [], []
        for dataset, ipc, arch in columns:
            number = printed.get((row.label, dataset, 0 if row.method == "full" else ipc, arch))
            mean, std = (None, None) if number is None else (number.mean, number.std)
            texts.append("-" if mean is None else mean_and_std(mean, std))
            means.append(None if row.minus or row.method == "full" else mean)
        rows.append((row.label, *texts))
        ranked.append(means)
    places = best_places(list(zip(*ranked, strict=True)))
    best = frozenset((row, column + 1) for row, column in places)
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
    return [Grid(title, ("method", *labels(columns)), tuple(rows), best=best)]


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
    epochs gives a set of more images more steps, and a set smaller than a batch is a batch. There
    is a column of priors where a cell has one.
    """
    measured = _measured(cells)
    has_prior = any("prior" in record.cost.seconds for _, record, _ in measured)
    phases = {key: name for key, name in _PHASES.items() if has_prior or key != "prior"}
    header = (
        "method", "cell", "protocol", "images", "batch", "steps", *phases.values(),
        "peak memory", "device",
    )  # fmt: skip
    rows = []
    for _, record, where in measured:
        counts = (record.images, record.batch, record.training.steps)
        seconds = [record.cost.seconds.get(phase) for phase in phases]
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
    known = distinct(cells)
    return [
        (cell, cell.record, (cell.entry.row.label, name, cell.entry.cell.protocol))
        for cell, name in zip(known, cell_labels(known), strict=True)
        if cell.record is not None
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
