"""The tables of a report: measured and printed numbers, what is known of every cell, its cost."""

from collections.abc import Iterable
from dataclasses import dataclass

from nsdbench.bench.tables import Column, Row, Table
from nsdbench.report.content import CellReport, gain, mean_and_std

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
    by_label = {c.entry.row.label: c.entry.protocol for c in cells if c.entry.ipc}
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
    judged_by = {c.entry.row: c.entry.protocol for c in cells if c.entry.row in rows}
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


def published_grid(table: Table, scale: str, cells: list[CellReport]) -> list[Grid]:
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
        datasets = listed(column.dataset for column in columns)
        title = f"Published on {datasets}: other data than above, not to be compared with it"
    header = ("method", *labels([(c.dataset, c.ipc, c.published_arch) for c in columns]))
    return [Grid(title, header, tuple(rows))]


def details_grid(cells: list[CellReport]) -> list[Grid]:
    """Make the grid of all that is known about the measured cells."""
    measured = [cell for cell in cells if cell.record is not None and cell.verdict is not None]
    if not measured:
        return []
    header = (
        "method", "cell", "protocol", "measured", "n", "95 % interval", "published", "difference",
        "verdict", "budget used",
    )  # fmt: skip
    rows = []
    for cell, label in zip(measured, cell_labels(measured), strict=True):
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


def cost_grid(cells: list[CellReport]) -> list[Grid]:
    """Make the grid of what the measured cells took: training, time, memory, and on which device.

    Networks of unequal steps or batches were not trained equally much: a protocol that counts
    epochs gives a set of more images more steps, and a set smaller than a batch is a batch.
    """
    measured = [cell for cell in cells if cell.record is not None]
    if not measured:
        return []
    header = (
        "method", "cell", "protocol", "images", "batch", "steps", *_PHASES.values(),
        "peak memory", "device",
    )  # fmt: skip
    rows = []
    for cell, label in zip(measured, cell_labels(measured), strict=True):
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
                cell.record.get("provenance", {}).get("device") or "-",
            )
        )
    title = "What every measured cell took (images, batch and optimiser steps of one network)"
    return [Grid(title, header, tuple(rows), num_labels=3)]


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
    return labels([(c.entry.dataset, c.entry.ipc, c.entry.arch) for c in cells])


def listed(values: Iterable[str]) -> str:
    """Write distinct values in order, comma separated."""
    return ", ".join(dict.fromkeys(values))
