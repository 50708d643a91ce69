"""Draw figures for a page and for a paper, with their numbers as CSV.

One kind is accuracy over one or two settings, the other similarity. Nothing is computed here that a
run has not stored; the same files give the same bytes.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial, wraps
from itertools import chain, cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec

import numpy as np

from nsdbench.bench.figures import PANELS, read_similarity
from nsdbench.bench.record import Record
from nsdbench.bench.tables import plainly, short
from nsdbench.data.holdout import is_holdout
from nsdbench.files import write_atomically
from nsdbench.report.content import CellReport, collect, figure_stem
from nsdbench.report.sweeps import MOST_AXES
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
_MARKERS = "osD^v<>"
_ASIDE = 0.06  # of the distance between two values
_AXES = {"batch": "image", "height": "row of pixels", "width": "column of pixels"}
_SIGNS = {"t1": "$t_1$", "t3": "$t_3 = t_4$"}  # of settings, as the paper writes them


P = ParamSpec("P")


def _styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Have a function draw in our style, which texts take when they are made."""

    @wraps(draw)
    def styled(*args: P.args, **kwargs: P.kwargs) -> Figure:
        from matplotlib import rc_context  # takes half a second to import

        with rc_context(_STYLE):
            return draw(*args, **kwargs)

    return styled


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


def draw_figures(
    table: Table,
    scale: str,
    records: Iterable[Record],
    folder: Path,
    protocol: str | None = None,
) -> list[Drawing]:
    """Draw a table that is a figure, and sweeps over one or two settings, as far as measured.

    Args:
        table: a table or figure.
        scale: one that it has.
        records: as `Store.records` returns them.
        folder: holds the arrays of figures that are not made of cells.
        protocol: draws the cells that this protocol judges, instead of what the table says.

    Returns:
        None of what is no figure, is not measured, or whose arrays are damaged; then a notice names
        their file. Sweeps over the same settings share a drawing.
    """
    if table.settings(scale).similarity is not None:
        source = folder / f"{table.name}.npz"
        if not source.exists():
            return []
        try:
            arrays = read_similarity(source)
        except ValueError as error:
            notice(f"no figure of {table.name}: {error}; delete it and run again")
            return []
        return [Drawing(table.name, draw_similarity(arrays), similarity_csv(arrays))]
    cells = collect(table, scale, records, protocol)
    stem = figure_stem(table, protocol)
    groups: dict[tuple[str, ...], list[CellReport]] = {}
    for cell in cells:
        if cell.entry.row.sweep:
            groups.setdefault(tuple(cell.entry.row.sweep.grid), []).append(cell)
    parts = [(f"{stem}-{'-'.join(axes)}".replace(".", "-"), axes, x) for axes, x in groups.items()]
    if table.axes:
        parts.insert(0, (stem, table.axes, cells))
    return [
        Drawing(name, _draw_settings(shown, axes), settings_csv(shown, axes))
        for name, axes, shown in parts
        if len(axes) <= MOST_AXES and any(cell.record is not None for cell in shown)
    ]


def _draw_settings(cells: Sequence[CellReport], axes: tuple[str, ...]) -> Figure:
    return draw_over_setting(cells) if len(axes) == 1 else draw_over_settings(cells, axes)


def write_figures(
    tables: Iterable[Table],
    scale: str,
    records: Sequence[Record],
    folder: Path,
    protocol: str | None = None,
) -> list[Path]:
    """Write the figures among some tables as files, each as PNG, PDF, SVG and CSV.

    Args:
        tables, scale, records, protocol: as of `draw_figures`.
        folder: holds the arrays of figures that are not made of cells; the files go there too.

    Returns:
        The files.
    """
    written = []
    drawn = (draw_figures(table, scale, records, folder, protocol) for table in tables)
    for drawing in chain.from_iterable(drawn):
        contents = {form: drawing.render(form) for form in FORMATS} | {"csv": drawing.csv.encode()}
        for suffix, content in contents.items():
            path = folder / f"{drawing.stem}.{suffix}"
            write_atomically(path, partial(Path.write_bytes, data=content))
            written.append(path)
    return written


def settings_csv(cells: Iterable[CellReport], axes: tuple[str, ...]) -> str:
    """Write one line a cell: what it is, the settings, and the number if there is one."""
    place, settings = ("dataset", "ipc", "arch", "protocol"), tuple(map(short, axes))
    rows = []
    for cell in cells:
        row = {name: getattr(cell.entry.cell, name) for name in place} | {"status": cell.status}
        row |= dict(zip(settings, _values(cell, axes), strict=True)) | {"row": _line(cell)}
        if cell.record is not None:
            accuracy = cell.record.accuracy
            row |= {"mean": accuracy.mean, "std": accuracy.std, "n": accuracy.n}
            row |= dict(zip(("ci95_low", "ci95_high"), accuracy.interval or (), strict=False))
        rows.append(row)
    numbers = ("mean", "std", "n", "ci95_low", "ci95_high")
    return comma_separated(("row", *place, *settings, "status", *numbers), rows)


@_styled
def draw_over_setting(cells: Sequence[CellReport]) -> Figure:
    """Draw points of sweeps over one setting as lines, with 95 % intervals where they are known.

    There is a panel a column and protocol, and in it a line a sweep. Values are in order, not to
    scale. What is not measured, or would be measured otherwise now, is left out.
    """
    axes = tuple(cells[0].entry.row.values)
    panels = _panels(cells, lambda cell: "")
    figure = _figure(_PANEL[0] * len(panels), _PANEL[1])
    places = figure.subplots(1, len(panels), squeeze=False)[0]
    for place, ((_, title, unit), shown) in zip(places, panels.items(), strict=True):
        xs = _ordered(_values(cell, axes)[0] for cell in shown)
        lines: dict[str, list[CellReport]] = {}
        for cell in shown:
            lines.setdefault(_line(cell), []).append(cell)
        for number, ((label, line), marker) in enumerate(zip(lines.items(), cycle(_MARKERS))):
            known = [(c, c.record.accuracy) for c in line if c.record and c.status == "measured"]
            known.sort(key=lambda pair: xs.index(_values(pair[0], axes)[0]))
            aside = _ASIDE * (number - (len(lines) - 1) / 2)  # so that bars do not hide each other
            at = [xs.index(_values(cell, axes)[0]) + aside for cell, _ in known]
            means = [accuracy.mean for _, accuracy in known]
            ends = [accuracy.interval or (accuracy.mean, accuracy.mean) for _, accuracy in known]
            below = [mean - low for mean, (low, _) in zip(means, ends, strict=True)]
            above = [high - mean for mean, (_, high) in zip(means, ends, strict=True)]
            place.errorbar(at, means, (below, above), label=label, marker=marker, capsize=2)
        place.set_xticks(range(len(xs)), map(plainly, xs))
        place.set_xlabel(_sign(axes[0]))
        place.set_ylabel(unit)
        place.set_title(title)
        place.margins(x=0.1)
        place.grid(axis="y", linewidth=0.4, alpha=0.5)
        place.legend(fontsize=6)
    return figure


@_styled
def draw_over_settings(cells: Sequence[CellReport], axes: tuple[str, ...]) -> Figure:
    """Draw mean accuracies as a heat map over two settings, a panel a column, protocol and sweep.

    Settings are in order, not to scale; combinations that no cell has stay white, those that are
    not measured show a dash, and those that would be measured otherwise now "stale".
    """
    panels = _panels(cells, _line)
    figure = _figure(_PANEL[0] * len(panels), _PANEL[1])
    places = figure.subplots(1, len(panels), squeeze=False)[0]
    for place, ((line, title, accuracy), shown) in zip(places, panels.items(), strict=True):
        xs, ys = (_ordered(_values(cell, axes)[i] for cell in shown) for i in (0, 1))
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
        place.set_xticks(range(len(xs)), map(plainly, xs))
        place.set_yticks(range(len(ys)), map(plainly, ys))
        place.set_xlabel(_sign(axes[0]))
        place.set_ylabel(_sign(axes[1]))
        place.set_title("\n".join(filter(None, (line, title))))
        figure.colorbar(picture, ax=place, label=accuracy)
    return figure


def _panels(
    cells: Iterable[CellReport], line: Callable[[CellReport], str]
) -> dict[tuple[str, str, str], list[CellReport]]:
    """Share cells out to panels: by line, and by title and the kind of accuracy of their column."""
    panels: dict[tuple[str, str, str], list[CellReport]] = {}
    for cell in cells:
        at = cell.entry.cell
        title = f"{at.dataset}, ipc {at.ipc}\n{at.arch}, {at.protocol}"
        kind = "held-out" if is_holdout(at.dataset) else "test"
        panels.setdefault((line(cell), title, f"{kind} accuracy in %"), []).append(cell)
    return panels


def _line(cell: CellReport) -> str:
    """Name the sweep of a point, empty for any other cell."""
    return cell.entry.row.sweep.label if cell.entry.row.sweep else ""


def _ordered(values: Iterable[Any]) -> list[Any]:
    """Return distinct numbers by size, words as they come."""
    found = list(dict.fromkeys(values))
    is_numbers = all(isinstance(value, int | float) for value in found)
    return sorted(found) if is_numbers else found


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


@_styled
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
    """Return a cell's values of some settings."""
    if cell.entry.row.sweep:
        return tuple(cell.entry.row.values[axis] for axis in axes)
    settings = cell.entry.recipe.values
    return tuple(settings[section][key] for section, _, key in (a.partition(".") for a in axes))


def _sign(axis: str) -> str:
    return _SIGNS.get(short(axis), short(axis))


def _figure(width: float, height: float) -> Figure:
    """Make an empty figure of a size in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=_DPI, layout="constrained")
