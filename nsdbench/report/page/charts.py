"""The geometry of the page's charts, in the units of their SVG; templates draw them.

Accuracies are dots with error bars, a row a method and a panel a column of a table. A loss curve is
a line that breaks where the loss was not finite.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nsdbench.report.sweeps import is_drawn

if TYPE_CHECKING:
    from nsdbench.report.content import CellReport
    from nsdbench.report.grids import Matrix

# Of a panel, in units of about a pixel at the width of a phone.
_WIDTH = 440
_ROW = 24
_TOP = 8
_AXIS = 26
_CHARACTER = 7  # of the labels' font, on average
_LONGEST_LABEL = 24  # characters
_NUMBER = 88  # room for "81.6 ± 0.3" at the right
_MOST_TICKS = 6
_CURVE = (360, 120)


@dataclass(frozen=True)
class Dot:
    """A number and the ends of its error bar; equal where it has none."""

    x: float
    low: float
    high: float
    text: str


@dataclass(frozen=True)
class Mark:
    """A row of a panel: a method with its measured and its published number, where there is one."""

    label: str
    full_label: str
    y: int
    measured: Dot | None
    published: Dot | None
    is_best: bool
    is_stale: bool


@dataclass(frozen=True)
class Panel:
    """The numbers of one column of a table over one axis of accuracy."""

    title: str
    dataset: str
    ipc: int
    height: int
    left: int
    right: int
    ticks: tuple[tuple[float, str], ...]
    marks: tuple[Mark, ...]
    width: int = _WIDTH

    @property
    def bottom(self) -> int:
        """Return where the axis lies."""
        return self.height - _AXIS


@dataclass(frozen=True)
class Curve:
    """A loss over iterations: paths of its unbroken parts, and the values at the frame's ends."""

    paths: tuple[str, ...]
    highest: str
    lowest: str
    first: int
    last: int
    width: int = _CURVE[0]
    height: int = _CURVE[1]


def panels(matrix: Matrix) -> list[Panel]:
    """Lay out a panel for every column of a matrix in which something is measured or printed.

    Points of sweeps that have a figure of their own are left out.
    """
    found = []
    for number, column in enumerate(matrix.columns):
        rows = [
            (cell, (index, number) in matrix.best)
            for index, line in enumerate(matrix.lines)
            if not isinstance(cell := line.values[number], str) and _ends(cell)
            if not is_drawn(cell)
        ]
        if rows:
            title = matrix.names[number]
            if column.published_dataset != column.dataset:
                title += f" (published: {column.published_dataset})"
            found.append(_panel(title, column.dataset, column.ipc, rows))
    return found


def _panel(title: str, dataset: str, ipc: int, rows: list[tuple[CellReport, bool]]) -> Panel:
    """Lay out one panel."""
    ticks = _ticks([end for cell, _ in rows for end in _ends(cell)])
    labels = [_short(cell.entry.row.label) for cell, _ in rows]
    left, right = 12 + _CHARACTER * max(map(len, labels)), _WIDTH - _NUMBER

    def place(value: float) -> float:
        return round(left + (value - ticks[0]) / (ticks[-1] - ticks[0]) * (right - left), 1)

    marks = []
    for index, (label, (cell, is_best)) in enumerate(zip(labels, rows, strict=True)):
        measured = published = None
        if cell.record is not None:
            mean = cell.record.accuracy.mean
            low, high = cell.record.accuracy.interval or (mean, mean)
            measured = Dot(place(mean), place(low), place(high), cell.number)
        if (printed := cell.entry.published) is not None:
            std = printed.std or 0.0
            ends = (place(printed.mean - std), place(printed.mean + std))
            published = Dot(place(printed.mean), *ends, cell.published)
        y = _TOP + _ROW * index + _ROW // 2
        is_stale = cell.status == "stale"
        marks.append(Mark(label, cell.entry.row.label, y, measured, published, is_best, is_stale))
    height = _TOP + _ROW * len(rows) + _AXIS
    written = tuple((place(tick), f"{tick:g}") for tick in ticks)
    return Panel(title, dataset, ipc, height, left, right, written, tuple(marks))


def _ends(cell: CellReport) -> list[float]:
    """List the ends of a cell's numbers with their error bars."""
    ends: list[float] = []
    if cell.record is not None:
        mean = cell.record.accuracy.mean
        ends += cell.record.accuracy.interval or (mean,)
    if (printed := cell.entry.published) is not None:
        std = printed.std or 0.0
        ends += (printed.mean - std, printed.mean + std)
    return ends


def _ticks(values: Sequence[float]) -> list[float]:
    """Choose at least two round numbers that enclose some values."""
    low, high = min(values), max(values)
    for step in (1, 2, 5, 10, 20):
        first, last = math.floor(low / step), math.ceil(high / step)
        if last - first < _MOST_TICKS:
            break
    return [float(step * tick) for tick in range(first, max(last, first + 1) + 1)]


def _short(label: str) -> str:
    return label if len(label) <= _LONGEST_LABEL else label[: _LONGEST_LABEL - 1] + "…"


def curve(points: Iterable[tuple[int, float | None]]) -> Curve | None:
    """Lay out a loss curve; None where fewer than two values of it are finite."""
    known = list(points)
    finite = [(iteration, loss) for iteration, loss in known if loss is not None]
    if len(finite) < 2 or finite[0][0] == finite[-1][0]:
        return None
    first, last = known[0][0], known[-1][0]
    low, high = min(loss for _, loss in finite), max(loss for _, loss in finite)
    width, height = _CURVE
    parts: list[list[str]] = [[]]
    for iteration, loss in known:
        if loss is None:
            parts.append([])
            continue
        x = (iteration - first) / (last - first) * width
        y = height / 2 if high == low else (high - loss) / (high - low) * height
        parts[-1].append(f"{x:.1f},{y:.1f}")
    paths = tuple(f"M{' '.join(part)}" for part in parts if part)
    return Curve(paths, f"{high:.3g}", f"{low:.3g}", first, last)
