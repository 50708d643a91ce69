"""Draw figures for a page and for a paper, with their numbers as CSV.

One kind is accuracy over two settings, the other similarity. Nothing is computed here that a run
has not stored; the same files give the same bytes.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
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

FORMATS = ("png", "pdf", "svg")
_DPI = 200
_PANEL = (3.3, 2.6)  # inches; two stand side by side on a page of text
_THIRD = (2.2, 2.0)  # inches; three do
_STYLE: dict[Any, Any] = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "pdf.fonttype": 42,  # TrueType: publishers refuse the default
    "svg.hashsalt": "nsdbench",
}
# What would make the same figure other bytes.
_METADATA: dict[str, dict[str, Any]] = {
    "png": {"Software": None},
    "pdf": {"Creator": None, "Producer": None, "CreationDate": None},
    "svg": {"Creator": None, "Date": None},
}
_DARK = 0.6  # of the colour map, below which white is the more readable ink
_AXES = {"batch": "image", "height": "row of pixels", "width": "column of pixels"}
_SIGNS = {"t1": "$t_1$", "t3": "$t_3 = t_4$"}  # of settings, as the paper writes them


@dataclass(frozen=True)
class Drawing:
    """A figure and its numbers as CSV; `stem` names their files."""

    stem: str
    figure: Figure
    csv: str

    def render(self, form: str) -> bytes:
        """Write the figure as one of FORMATS."""
        from matplotlib import rc_context

        stream = io.BytesIO()
        with rc_context(_STYLE):
            self.figure.savefig(stream, format=form, dpi=_DPI, metadata=_METADATA[form])
        return stream.getvalue()

    def data_address(self) -> str:
        """Write the figure as an SVG within its address, for an HTML page."""
        return f"data:image/svg+xml;base64,{base64.b64encode(self.render('svg')).decode()}"


def draw_figure(
    table: Table,
    scale: str,
    records: Iterable[Record],
    folder: Path,
    protocol: str | None = None,
) -> Drawing | None:
    """Draw a table that is a figure, as far as it is measured.

    Args:
        table: a table or figure.
        scale: one that it has.
        records: as `Store.records` returns them.
        folder: holds the arrays of figures that are not made of cells.
        protocol: draws the cells that this protocol judges, instead of what the table says.

    Returns:
        None of a table that is no figure, is not measured, or whose arrays are damaged; then a
        notice names their file.
    """
    if table.settings(scale).similarity is not None:
        source = folder / f"{table.name}.npz"
        if not source.exists():
            return None
        try:
            arrays = read_similarity(source)
        except ValueError as error:
            notice(f"no figure of {table.name}: {error}; delete it and run again")
            return None
        return Drawing(table.name, draw_similarity(arrays), similarity_csv(arrays))
    if not table.axes:
        return None
    cells = collect(table, scale, records, protocol)
    if all(cell.record is None for cell in cells):
        return None
    figure, numbers = draw_over_settings(cells, table.axes), settings_csv(cells, table.axes)
    return Drawing(figure_stem(table, protocol), figure, numbers)


def write_figures(
    tables: Iterable[Table],
    scale: str,
    records: Sequence[Record],
    folder: Path,
    protocol: str | None = None,
) -> list[Path]:
    """Write the figures among some tables as files, each as PNG, PDF, SVG and CSV.

    Args:
        tables, scale, records, protocol: as of `draw_figure`.
        folder: holds the arrays of figures that are not made of cells; the files go there too.

    Returns:
        The files.
    """
    written = []
    for table in tables:
        drawing = draw_figure(table, scale, records, folder, protocol)
        if drawing is None:
            continue
        contents = {form: drawing.render(form) for form in FORMATS} | {"csv": drawing.csv.encode()}
        for suffix, content in contents.items():
            path = folder / f"{drawing.stem}.{suffix}"
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


def draw_over_settings(cells: Sequence[CellReport], axes: tuple[str, ...]) -> Figure:
    """Draw mean accuracies as a heat map over two settings, a panel a column and protocol.

    Settings are in order, not to scale; combinations that no cell has stay white, those that are
    not measured show a dash, and those that would be measured otherwise now "stale".
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
    figure = _figure(_PANEL[0] * len(panels), _PANEL[1])
    places = figure.subplots(1, len(panels), squeeze=False)[0]
    for place, ((dataset, ipc, arch, protocol), shown) in zip(places, panels.items(), strict=True):
        xs, ys = (sorted({_values(cell, axes)[i] for cell in shown}) for i in (0, 1))
        grid = np.full((len(ys), len(xs)), np.nan)
        texts = {}
        for cell in shown:
            x, y = _values(cell, axes)
            text = "stale" if cell.status == "stale" else "-"
            if cell.status == "measured" and cell.record is not None:
                grid[ys.index(y), xs.index(x)] = mean = cell.record.accuracy.mean
                text = f"{mean:.1f}"
            texts[ys.index(y), xs.index(x)] = text
        picture = place.imshow(grid, origin="lower", aspect="auto", cmap="viridis")
        for (row, column), text in texts.items():
            shade = picture.norm(grid[row, column])  # not a number on white paper
            ink = "white" if shade < _DARK else "black"
            place.text(column, row, text, ha="center", va="center", color=ink)
        place.set_xticks(range(len(xs)), map(str, xs))
        place.set_yticks(range(len(ys)), map(str, ys))
        place.set_xlabel(_sign(axes[0]))
        place.set_ylabel(_sign(axes[1]))
        place.set_title(f"{dataset}, ipc {ipc}\n{arch}, {protocol}")
        figure.colorbar(picture, ax=place, label="test accuracy in %")
    return figure


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


def draw_similarity(arrays: dict[str, np.ndarray]) -> Figure:
    """Draw the similarity matrices of images, rows and columns side by side."""
    figure = _figure(_THIRD[0] * len(PANELS), _THIRD[1])
    places = figure.subplots(1, len(PANELS))
    for place, name in zip(places, PANELS, strict=True):
        values = arrays[name].astype(np.float64)
        picture = place.imshow(values, vmin=0, vmax=1, cmap="viridis")
        place.set_title(f"{name} ({len(values)})")
        place.set_xlabel(_AXES[name])
        place.set_ylabel(_AXES[name])
        place.locator_params(nbins=4, integer=True)
    figure.colorbar(picture, ax=list(places), label="cosine similarity", shrink=0.7)
    return figure


def _values(cell: CellReport, axes: tuple[str, ...]) -> tuple:
    """Return a cell's values of the two settings."""
    settings = cell.entry.recipe.values
    return tuple(settings[section][key] for section, _, key in (a.partition(".") for a in axes))


def _short(axis: str) -> str:
    return axis.partition(".")[2]


def _sign(axis: str) -> str:
    return _SIGNS.get(_short(axis), _short(axis))


def _figure(width: float, height: float) -> Figure:
    """Make an empty figure of a size in inches."""
    from matplotlib import rc_context  # takes half a second to import
    from matplotlib.figure import Figure

    with rc_context(_STYLE):
        return Figure(figsize=(width, height), dpi=_DPI, layout="constrained")
