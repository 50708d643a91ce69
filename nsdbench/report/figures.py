"""Draw figures as PNG, with their numbers as CSV: accuracy over two settings; similarity.

Nothing is computed here that a run has not stored; the same files give the same bytes.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nsdbench.bench.figures import PANELS, read_similarity
from nsdbench.bench.record import Record
from nsdbench.files import write_atomically
from nsdbench.report.content import CellReport, collect, figure_stem
from nsdbench.report.writers import comma_separated
from nsdbench.sums import notice

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from nsdbench.bench.tables import Table

_DPI = 120


def write_figures(
    tables: Iterable[Table],
    scale: str,
    records: Sequence[Record],
    folder: Path,
    protocol: str | None = None,
) -> list[Path]:
    """Draw those of some tables that are figures, as far as they are measured.

    Args:
        tables: tables and figures.
        scale: one that all of them have.
        records: as `Store.records` returns them.
        folder: holds the arrays of figures that are not made of cells; PNG and CSV go there too.
        protocol: draws the cells that this protocol judges, instead of what the tables say.

    Returns:
        The files. A figure whose arrays are damaged is left out, with a notice that names the file.
    """
    written = []
    for table in tables:
        stem = table.name
        if table.settings(scale).similarity is not None:
            source = folder / f"{table.name}.npz"
            if not source.exists():
                continue
            try:
                arrays = read_similarity(source)
            except ValueError as error:
                notice(f"no figure of {table.name}: {error}; delete it and run again")
                continue
            png, text = draw_similarity(arrays), similarity_csv(arrays)
        elif table.axes:
            cells = collect(table, scale, records, protocol)
            stem = figure_stem(table, protocol)
            if all(cell.record is None for cell in cells):
                continue
            png, text = draw_over_settings(cells, table.axes), settings_csv(cells, table.axes)
        else:
            continue
        for suffix, content in ((".png", png), (".csv", text.encode())):
            path = folder / f"{stem}{suffix}"
            write_atomically(path, partial(Path.write_bytes, data=content))
            written.append(path)
    return written


def settings_csv(cells: Iterable[CellReport], axes: tuple[str, ...]) -> str:
    """Write one line a cell: what it is, the two settings, and the number if there is one."""
    place, settings = ("dataset", "ipc", "arch", "protocol"), tuple(map(_short, axes))
    rows = []
    for cell in cells:
        row = {name: getattr(cell.entry.cell, name) for name in place} | {"status": cell.status}
        row |= dict(zip(settings, _values(cell, axes), strict=True))
        if cell.record is not None:
            accuracy = cell.record.accuracy
            row |= {"mean": accuracy.mean, "std": accuracy.std, "n": accuracy.n}
        rows.append(row)
    return comma_separated((*place, *settings, "status", "mean", "std", "n"), rows)


def draw_over_settings(cells: Sequence[CellReport], axes: tuple[str, ...]) -> bytes:
    """Draw mean accuracies as a heat map over two settings, a panel a column and protocol.

    Settings are in order, not to scale; combinations that no cell has stay white, those that are
    not measured show a dash, and those that would be measured otherwise now "stale".

    Returns:
        The PNG file.
    """
    panels: dict[tuple, list[CellReport]] = {}
    for cell in cells:
        key = (
            cell.entry.cell.dataset,
            cell.entry.cell.ipc,
            cell.entry.cell.arch,
            cell.entry.cell.protocol,
        )
        panels.setdefault(key, []).append(cell)
    figure = _figure(0.5 + 4.5 * len(panels), 3.8)
    places = figure.subplots(1, len(panels), squeeze=False)[0]
    for place, ((dataset, ipc, arch, protocol), shown) in zip(places, panels.items(), strict=True):
        xs, ys = (sorted({_values(cell, axes)[i] for cell in shown}) for i in (0, 1))
        grid = np.full((len(ys), len(xs)), np.nan)
        for cell in shown:
            x, y = _values(cell, axes)
            column, row = xs.index(x), ys.index(y)
            text = "stale" if cell.status == "stale" else "-"
            if cell.status == "measured" and cell.record is not None:
                grid[row, column] = mean = cell.record.accuracy.mean
                text = f"{mean:.1f}"
            place.text(column, row, text, ha="center", va="center", fontsize=9,
                       bbox={"color": "white", "alpha": 0.6, "pad": 1})  # fmt: skip
        picture = place.imshow(grid, origin="lower", aspect="auto", cmap="viridis")
        place.set_xticks(range(len(xs)), map(str, xs))
        place.set_yticks(range(len(ys)), map(str, ys))
        place.set_xlabel(_short(axes[0]))
        place.set_ylabel(_short(axes[1]))
        place.set_title(f"{dataset}, ipc {ipc}, {arch}, {protocol}", fontsize=9)
        figure.colorbar(picture, ax=place, label="accuracy in %")
    return _png(figure)


def similarity_csv(arrays: dict[str, np.ndarray]) -> str:
    """Write the mean similarity of slices by their distance; of images, over all pairs.

    Columns: dimension, distance |i - j| (empty for images, whose order means nothing), number of
    pairs i < j, mean.
    """
    header, rows = ("dimension", "distance", "pairs", "mean"), []
    for name in PANELS:
        values = arrays[name].astype(np.float64)
        if name == "batch":
            by_distance: dict[Any, np.ndarray] = {"": values[np.triu_indices(len(values), k=1)]}
        else:
            by_distance = {d: np.diagonal(values, d) for d in range(1, len(values))}
        for distance, pairs in by_distance.items():
            line = (name, distance, len(pairs), f"{pairs.mean():.6f}")
            rows.append(dict(zip(header, line, strict=True)))
    return comma_separated(header, rows)


def draw_similarity(arrays: dict[str, np.ndarray]) -> bytes:
    """Draw the similarity matrices of images, rows and columns side by side; returns a PNG."""
    figure = _figure(13, 4.2)
    for place, name in zip(figure.subplots(1, 3), PANELS, strict=True):
        values = arrays[name].astype(np.float64)
        picture = place.imshow(values, vmin=0, vmax=1, cmap="viridis", interpolation="nearest")
        place.set_title(f"{name} ({len(values)})", fontsize=10)
    figure.colorbar(picture, ax=figure.axes, label="cosine similarity", shrink=0.8)
    return _png(figure)


def _values(cell: CellReport, axes: tuple[str, ...]) -> tuple:
    """Return a cell's values of the two settings."""
    settings = cell.entry.recipe.values
    return tuple(settings[section][key] for section, _, key in (a.partition(".") for a in axes))


def _short(axis: str) -> str:
    return axis.partition(".")[2]


def _figure(width: float, height: float) -> Figure:
    """Make an empty figure of a size in inches."""
    from matplotlib.figure import Figure  # takes half a second to import

    return Figure(figsize=(width, height), dpi=_DPI, layout="constrained")


def _png(figure: Figure) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    stream = io.BytesIO()
    FigureCanvasAgg(figure).print_png(stream, metadata={"Software": None})
    return stream.getvalue()
