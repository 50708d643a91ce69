"""A report as a document: paragraphs, grids of text, notes and pictures, for any writer."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nsdbench.report.content import (
    STATUSES,
    CellReport,
    collect,
    figure_stem,
    gain,
    mean_and_std,
)
from nsdbench.tables import Column, Table

_PHASES = {"experts": "experts", "distill": "distillation", "evaluate": "evaluation"}


@dataclass(frozen=True)
class Grid:
    """A titled table of text; the first `num_labels` columns name the row."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    num_labels: int = 1


@dataclass(frozen=True)
class Picture:
    """Decoded images of a cell: the npz file they are drawn from, a file stem and a caption."""

    source: Path
    stem: str
    caption: str


@dataclass(frozen=True)
class Document:
    """A report of one table at one scale."""

    title: str
    paragraphs: tuple[str, ...]
    grids: tuple[Grid, ...]
    unmeasured: tuple[str, ...]
    notes: tuple[str, ...]
    pictures: tuple[Picture, ...] = ()


def build(
    table: Table,
    scale: str,
    records: Iterable[dict[str, Any]],
    images: Path | None = None,
    protocol: str | None = None,
) -> Document:
    """Make the report of a table at one scale.

    Args:
        table: the table.
        scale: one of its scales.
        records: as `Store.records` returns them.
        images: folder of the cells' decoded images (<cell id>.npz), if pictures are wanted.
        protocol: shows the cells that this protocol judges, instead of what the table says.

    Raises:
        ValueError: the table has no such scale, or the protocol is unknown.
    """
    settings = table.settings(scale)
    title = f"{table.name}: {table.title} ({scale})"
    if settings.similarity is not None:
        return Document(title, _real_images(table, scale), (), (), table.footnotes)
    cells = collect(table, scale, records, protocol)
    return Document(
        title,
        _paragraphs(table, scale, cells, protocol),
        (
            _measured_grid(table, settings.columns, cells),
            *_details_grid(cells),
            *_cost_grid(cells),
            *_published_grid(table, scale, cells),
        ),
        tuple(_unmeasured(cells)),
        (
            *_changed(cells),
            *table.footnotes,
            *(f"{row.label}: {row.note}" for row in table.rows if row.note),
        ),
        tuple(_pictures(cells, images)) if images is not None else (),
    )


def _real_images(table: Table, scale: str) -> tuple[str, ...]:
    """Say which real images a figure compares."""
    settings = table.settings(scale)
    images = settings.similarity
    text = (
        f"Scale {scale}: {images.num_images} training images of class {images.label} of "
        f"{images.dataset}, drawn in figures/{scale}/{table.name}.png below the results folder."
    )
    return tuple(part for part in (f"Source: {table.source}.", settings.note, text) if part)


def _paragraphs(
    table: Table, scale: str, cells: list[CellReport], protocol: str | None
) -> tuple[str, ...]:
    """Say what was measured and how."""
    settings = table.settings(scale)
    text = (
        f"Scale {scale}: networks {_listed(c.arch for c in settings.columns)}, "
        f"{_judged_by(cells)}, {settings.seeds} sets x {settings.repeats} networks a cell."
    )
    if any(row.method == "full" for row in table.rows):
        text += f" Full data: protocol {settings.full_protocol}, {settings.full_repeats} networks."
    origin = "Published in" if table.printed else "Source"
    style = (
        "Numbers are test accuracies in per cent after the last epoch, mean ± population standard "
        "deviation over sets x networks; nothing is selected on the test set. "
        "The interval treats all sets x networks as independent; where one distilled set serves "
        "several networks it does not cover the variation between sets."
    )
    counts = Counter(cell.status for cell in cells)
    counted = ", ".join(f"{counts[s]} {s}" for s in STATUSES if counts[s])
    text += f" Of {len(cells)} cells: {counted}."
    if table.axes:
        stem = figure_stem(table, protocol)
        text += f" Drawn in figures/{scale}/{stem}.png below the results folder."
    return tuple(
        part for part in (f"{origin}: {table.source}.", settings.note, text, style) if part
    )


def _judged_by(cells: list[CellReport]) -> str:
    """Name the protocol of all rows but the full data's, or each with its rows."""
    rows: dict[str, list[str]] = {}
    for entry in (cell.entry for cell in cells if cell.entry.ipc):
        rows.setdefault(entry.protocol, []).append(entry.row.label)
    if len(rows) == 1:
        return f"protocol {next(iter(rows))}"
    return ", ".join(f"protocol {name} ({_listed(labels)})" for name, labels in rows.items())


def _measured_grid(table: Table, columns: tuple[Column, ...], cells: list[CellReport]) -> Grid:
    """Make the grid of measured numbers; every cell without one shows its status.

    Where not all rows are judged by one protocol, each names its own.
    """
    judged_by = {cell.entry.row: cell.entry.protocol for cell in cells}
    is_mixed = len(set(judged_by.values())) > 1
    rows = []
    for row in table.rows:
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
        rows.append((label, *([judged_by.get(row, "-")] if is_mixed else []), *texts))
    names = ("method", "protocol") if is_mixed else ("method",)
    header = (*names, *_labels([(c.dataset, c.ipc, c.arch) for c in columns]))
    return Grid("Measured", header, tuple(rows), num_labels=len(names))


def _published_grid(table: Table, scale: str, cells: list[CellReport]) -> list[Grid]:
    """Make the grid of printed numbers, and say so where they are not those of these cells."""
    if not table.printed:
        return []
    columns = table.settings("paper" if "paper" in table.scales else scale).columns
    rows = []
    for row in table.rows:
        texts = []
        for column in columns:
            ipc = 0 if row.method == "full" else column.ipc
            where = (row.label, column.dataset, ipc, column.published_arch)
            found = [n for n in table.printed if (n.label, n.dataset, n.ipc, n.arch) == where]
            mean = found[0].mean if found else None
            texts.append("-" if mean is None else mean_and_std(mean, found[0].std))
        rows.append((row.label, *texts))
    title = "Published"
    printed = [cell.entry for cell in cells if cell.entry.published]
    if not any(entry.published.protocol == entry.protocol for entry in printed):
        title = "Published, judged by other protocols than above: no verdict"
    if scale != "paper":
        title = "Published, distilled at the full settings: no verdict at this scale"
    if columns != table.settings(scale).columns:
        datasets = _listed(column.dataset for column in columns)
        title = f"Published on {datasets}: other data than above, not to be compared with it"
    header = ("method", *_labels([(c.dataset, c.ipc, c.published_arch) for c in columns]))
    return [Grid(title, header, tuple(rows))]


def _details_grid(cells: list[CellReport]) -> list[Grid]:
    """Make the grid of all that is known about the measured cells."""
    measured = [cell for cell in cells if cell.record is not None and cell.verdict is not None]
    if not measured:
        return []
    header = (
        "method", "cell", "protocol", "measured", "n", "95 % interval", "published", "difference",
        "verdict", "budget used",
    )  # fmt: skip
    rows = []
    for cell, label in zip(measured, _cell_labels(measured), strict=True):
        accuracy, verdict = cell.record["accuracy"], cell.verdict
        interval = accuracy["ci95"]
        rows.append(
            (
                cell.entry.row.label,
                label,
                cell.entry.protocol,
                cell.number,
                str(accuracy["n"]),
                "-" if interval is None else f"{interval[0]:.1f} to {interval[1]:.1f}",
                cell.published,
                "-" if verdict.difference is None else f"{verdict.difference:+.1f}",
                str(verdict),
                "-" if cell.budget_percent is None else f"{cell.budget_percent:.1f} %",
            )
        )
    return [Grid("Every measured cell", header, tuple(rows), num_labels=3)]


def _cost_grid(cells: list[CellReport]) -> list[Grid]:
    """Make the grid of what the measured cells took: training, time and memory.

    Networks of unequal steps or batches were not trained equally much: a protocol that counts
    epochs gives a set of more images more steps, and a set smaller than a batch is a batch.
    """
    measured = [cell for cell in cells if cell.record is not None]
    if not measured:
        return []
    header = (
        "method", "cell", "protocol", "images", "batch", "steps", *_PHASES.values(),
        "peak memory",
    )  # fmt: skip
    rows = []
    for cell, label in zip(measured, _cell_labels(measured), strict=True):
        cost = cell.record.get("cost", {})
        seconds = [cost.get("seconds", {}).get(phase) for phase in _PHASES]
        peak = cost.get("peak_bytes")
        rows.append(
            (
                cell.entry.row.label,
                label,
                cell.entry.protocol,
                *("-" if x is None else str(x) for x in (cell.images, cell.batch, cell.steps)),
                *("-" if value is None else f"{value:.0f} s" for value in seconds),
                "-" if peak is None else f"{peak / 2**20:.0f} MiB",
            )
        )
    title = "What every measured cell took (images, batch and optimiser steps of one network)"
    return [Grid(title, header, tuple(rows), num_labels=3)]


def _unmeasured(cells: list[CellReport]) -> list[str]:
    """List the cells without a number, by status and reason."""
    groups: dict[tuple[str, str], dict[str, list[str]]] = {}
    for cell, label in zip(cells, _cell_labels(cells), strict=True):
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
    for cell, label in zip(cells, _cell_labels(cells), strict=True):
        if cell.status == "stale":
            groups.setdefault(cell.reason, []).append(f"{cell.entry.row.label} ({label})")
    return [
        f"Measured, but {reason}, so not comparable: {', '.join(names)}"
        for reason, names in sorted(groups.items())
    ]


def _pictures(cells: list[CellReport], images: Path) -> list[Picture]:
    """Find the decoded images of the measured cells."""
    found = []
    for cell in cells:
        if cell.record is None:
            continue
        stem = cell.record["cell"]["id"]
        source = images / f"{stem}.npz"
        if source.is_file():
            entry = cell.entry
            caption = f"{entry.row.label}, {entry.dataset}, ipc {entry.ipc}: decoded images"
            found.append(Picture(source, stem, caption))
    return found


def _labels(keys: list[tuple[str, int, str]]) -> list[str]:
    """Name columns by data set and ipc, and by network where that tells them apart."""
    archs: dict[tuple[str, int], set[str]] = {}
    for dataset, ipc, arch in keys:
        archs.setdefault((dataset, ipc), set()).add(arch)
    names = []
    for dataset, ipc, arch in keys:
        name = f"{dataset} full" if ipc == 0 else f"{dataset} ipc {ipc}"
        names.append(f"{name} {arch}" if len(archs[dataset, ipc]) > 1 else name)
    return names


def _cell_labels(cells: list[CellReport]) -> list[str]:
    """Name the columns that cells stand in."""
    return _labels([(c.entry.dataset, c.entry.ipc, c.entry.arch) for c in cells])


def _listed(values: Iterable[str]) -> str:
    """Write distinct values in order, comma separated."""
    return ", ".join(dict.fromkeys(values))
