"""A report as a document: paragraphs, grids of text, notes and pictures, for any writer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nsdbench.bench import divergence
from nsdbench.bench.record import Record
from nsdbench.data.holdout import is_holdout
from nsdbench.errors import counted
from nsdbench.report.content import STATUSES, CellReport, collect, distinct, figure_stem
from nsdbench.report.grids import (
    Grid,
    cell_labels,
    copy_grid,
    cost_grid,
    details_grid,
    listed,
    measured_grid,
    measured_matrices,
    published_grid,
)
from nsdbench.report.pictures import what_is_drawn
from nsdbench.report.sweeps import sweep_grid, sweep_notes

if TYPE_CHECKING:
    from nsdbench.bench.tables import Table


@dataclass(frozen=True)
class Picture:
    """Decoded images of a set: the npz file they are drawn from, a file stem and a caption."""

    source: Path
    stem: str
    caption: str


@dataclass(frozen=True)
class Document:
    """A report of one table at one scale; `name` tells it from others."""

    name: str
    title: str
    paragraphs: tuple[str, ...]
    grids: tuple[Grid, ...]
    unmeasured: tuple[str, ...]
    notes: tuple[str, ...]
    pictures: tuple[Picture, ...] = ()


def build(
    table: Table,
    scale: str,
    records: Iterable[Record],
    picture_source: Path | None = None,
    protocol: str | None = None,
) -> Document:
    """Make the report of a table at one scale.

    Args:
        table: the table.
        scale: one of its scales.
        records: as `Store.records` returns them.
        picture_source: folder of the decoded images (npz files that `Record.pictures_name` names),
            if pictures are wanted.
        protocol: shows the cells that this protocol judges, instead of what the table says.

    Raises:
        ValueError: the table has no such scale, or the protocol is unknown.
    """
    settings = table.settings(scale)
    title = f"{table.name}: {table.title} ({scale})"
    name = f"{figure_stem(table, protocol)}-{scale}"
    cells = collect(table, scale, records, protocol)
    if (images := settings.similarity) is not None:
        text = (
            f"Scale {scale}: {images.num_images} training images of class {images.label} of "
            f"{images.dataset}, drawn in figures/{scale}/{table.name}.png below the results folder."
        )
        paragraphs = (f"Source: {table.source}.", settings.note, text)
        return Document(name, title, tuple(filter(None, paragraphs)), (), (), table.footnotes)
    shown = {cell.entry.row for cell in cells}
    declared = dict.fromkeys(row.sweep or row for row in table.rows if row.minus or row in shown)
    return Document(
        name,
        title,
        _paragraphs(table, scale, cells, protocol),
        (
            *map(measured_grid, measured_matrices(table, settings.columns, cells)),
            *sweep_grid(cells),
            *copy_grid(table, scale, cells),
            *details_grid(cells),
            *cost_grid(cells),
            *published_grid(table, scale, cells),
        ),
        tuple(_unmeasured(cells)),
        (
            *_changed(cells),
            *_diverged(cells),
            *sweep_notes(cells),
            *table.footnotes,
            *(f"{row.label}: {row.note}" for row in declared if row.note),
        ),
        tuple(_pictures(cells, picture_source)) if picture_source is not None else (),
    )


def _paragraphs(
    table: Table, scale: str, cells: list[CellReport], protocol: str | None
) -> tuple[str, ...]:
    """Say what was measured and how."""
    settings = table.settings(scale)
    text = (
        f"Scale {scale}: networks {listed(c.arch for c in settings.columns)}, "
        f"{_judged_by(cells)}, {counted(settings.seeds, 'set')} x "
        f"{counted(settings.repeats, 'network')} a cell."
    )
    own = [row for row in dict.fromkeys(row.sweep or row for row in table.rows) if row.seeds]
    text += "".join(f" {row.label}: {counted(row.seeds or 0, 'set')}." for row in own)
    if any(row.method == "full" for row in table.rows):
        networks = counted(settings.full_repeats, "network")
        text += f" Full data: protocol {settings.full_protocol}, {networks}."
    origin = "Published in" if table.printed else "Source"
    is_held_out = all(is_holdout(column.dataset) for column in settings.columns)
    numbers = "held-out" if is_held_out else "test"
    style = (
        f"Numbers are {numbers} accuracies in per cent after the last epoch, mean ± population "
        "standard deviation over sets x networks; nothing is selected on the test set. "
        "Intervals are Student's t over the means of sets where a cell has several. Where it has "
        "one they are over its networks and leave out the variation between sets, of which the "
        'column "between sets" has an estimate if one was measured (standard deviation in points). '
        "The gain over Random is under the same protocol, data, budget and network, and a dash "
        "where Random is not measured so. Its interval is Welch's, and of one set leaves out the "
        "variation between sets as well; a set that stores more than its budget has more room "
        "than that Random."
    )
    cells = distinct(cells)
    counts = Counter(cell.status for cell in cells)
    statuses = ", ".join(f"{counts[s]} {s}" for s in STATUSES if counts[s])
    text += f" Of {counted(len(cells), 'cell')}: {statuses}."
    if table.axes:
        stem = figure_stem(table, protocol)
        text += f" Drawn in figures/{scale}/{stem}.png below the results folder."
    elif any(row.sweep for row in table.rows):
        text += f" Sweeps over one or two settings are drawn in figures/{scale}."
    return tuple(filter(None, (f"{origin}: {table.source}.", settings.note, text, style)))


def _judged_by(cells: list[CellReport]) -> str:
    """Name the protocol of all rows but the full data's, or each with its rows or its data."""
    rows: dict[str, list[str]] = {}
    data: dict[str, list[str]] = {}
    for entry in (cell.entry for cell in cells if cell.entry.cell.ipc):
        name = entry.cell.protocol
        rows.setdefault(name, []).append(entry.row.label)
        data.setdefault(name, []).append(f"{entry.cell.dataset} ipc {entry.cell.ipc}")
    if len(rows) == 1:
        return f"protocol {next(iter(rows))}"
    is_by_data = len({frozenset(labels) for labels in rows.values()}) == 1
    of = data if is_by_data else rows
    return ", ".join(f"protocol {name} ({listed(words)})" for name, words in of.items())


def _unmeasured(cells: list[CellReport]) -> list[str]:
    """List the cells without a number, by status and reason."""
    groups: dict[tuple[str, str], dict[str, list[str]]] = {}
    for cell, label in zip(cells, cell_labels(cells), strict=True):
        if cell.record is None:
            group = groups.setdefault((cell.status, cell.reason), {})
            group.setdefault(cell.entry.row.label, []).append(label)
    lines = []
    for (status, reason), rows in sorted(groups.items()):
        everywhere = len({tuple(columns) for columns in rows.values()}) == 1
        if everywhere and status in ("not implemented", "not run"):
            names = ", ".join(rows)
        else:
            names = "; ".join(f"{row} ({', '.join(columns)})" for row, columns in rows.items())
        lines.append(f"{status}: {names}" + (f" - {reason}" if reason else ""))
    return lines


def _changed(cells: list[CellReport]) -> list[str]:
    """Name the measured cells that a run would measure otherwise now, by what has changed."""
    groups: dict[str, list[str]] = {}
    for cell, label in zip(cells, cell_labels(cells), strict=True):
        if cell.status == "stale":
            groups.setdefault(cell.reason, []).append(f"{cell.entry.row.label} ({label})")
    return [
        f"Measured, but {reason}, so not comparable: {', '.join(names)}"
        for reason, names in sorted(groups.items())
    ]


def _diverged(cells: list[CellReport]) -> list[str]:
    """Say of the measured cells whose distillation ran away what did."""
    return [
        f"{divergence.MARK} {cell.entry.row.label} ({label}): {cell.record.runaway}"
        for cell, label in zip(cells, cell_labels(cells), strict=True)
        if cell.record is not None and cell.record.runaway
    ]


def _pictures(cells: list[CellReport], folder: Path) -> list[Picture]:
    """Find the decoded images of the measured cells: one picture a set, whoever judges it."""
    pictures: dict[str, Picture] = {}
    for cell in cells:
        stem = "" if cell.record is None else cell.record.pictures_name
        source = folder / f"{stem}.npz"
        if stem and stem not in pictures and source.is_file():
            entry = cell.entry
            what = f"{entry.row.label}, {entry.cell.dataset}, ipc {entry.cell.ipc}"
            pictures[stem] = Picture(source, stem, f"{what}: {what_is_drawn(source)}")
    return list(pictures.values())
