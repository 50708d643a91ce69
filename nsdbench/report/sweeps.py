"""What sweeps came to: the best value of the settings that a row varies, on a hold-out alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from nsdbench.bench.tables import Row, plainly, short
from nsdbench.data.holdout import holdout_name, is_holdout
from nsdbench.report.content import CellReport
from nsdbench.report.grids import Grid, cell_labels, listed

MOST_AXES = 2  # settings of a sweep that a figure shows
_EXAMPLE = (5000, 0)  # size and seed of the hold-outs that our searches take


@dataclass(frozen=True)
class Sweep:
    """The points of a row with a grid in one column and under one protocol, in table order."""

    row: Row
    where: str
    cells: tuple[CellReport, ...]

    @property
    def axes(self) -> tuple[str, ...]:
        """Return the settings that vary, as "section.key"."""
        return tuple(self.row.grid)

    @property
    def dataset(self) -> str:
        """Return the data set that judges."""
        return self.cells[0].entry.cell.dataset

    @property
    def is_on_holdout(self) -> bool:
        """Say whether training images that were set aside judge; else it is a test split."""
        return is_holdout(self.dataset)

    @property
    def measured(self) -> list[CellReport]:
        """Return the points that have a number of today's recipe."""
        return [cell for cell in self.cells if cell.status == "measured" and cell.record]

    @property
    def best(self) -> CellReport | None:
        """Return the point of the highest mean; None of a test split, or of fewer than two."""
        if not self.is_on_holdout or len(self.measured) < 2:
            return None
        return max(self.measured, key=_mean)

    @property
    def ties(self) -> list[CellReport]:
        """Return the points whose difference from the best may be 0: Welch's 95 % interval."""
        best = self.best
        if best is None:
            return []
        return [cell for cell in self.measured if cell is not best and _may_tie(best, cell)]


def sweeps(cells: Iterable[CellReport]) -> list[Sweep]:
    """Gather the points of every sweep of a table, column by column."""
    cells = list(cells)
    found: dict[tuple, list[CellReport]] = {}
    for cell, where in zip(cells, cell_labels(cells), strict=True):
        row, place = cell.entry.row.sweep, cell.entry.cell
        if row is not None:
            key = (where, place.arch, place.protocol, id(row))
            found.setdefault(key, []).append(cell)
    return [
        Sweep(points[0].entry.row.sweep, key[0], tuple(points))
        for key, points in found.items()
        if points[0].entry.row.sweep is not None
    ]


def sweep_grid(cells: Iterable[CellReport]) -> list[Grid]:
    """Make the grid of the best point of every sweep, where it may be named.

    Of a sweep with points that are not measured it says among how many it is the best.
    """
    rows = []
    for sweep in sweeps(cells):
        best = sweep.best
        measured = f"{len(sweep.measured)} of {len(sweep.cells)}"
        named, number, ties = "-", "-", "-"
        if not sweep.is_on_holdout:
            named = "not named: test split"
        elif best is not None and best.record is not None:
            named = values_of(best)
            if len(sweep.measured) < len(sweep.cells):
                named += f" (best of the {measured} measured)"
            number = best.number
            ties = "; ".join(map(values_of, sweep.ties)) or "none"
        over = " and ".join(map(short, sweep.axes))
        rows.append((f"{sweep.row.label} over {over}", sweep.where, named, number, ties, measured))
    header = ("sweep", "cell", "best", "accuracy", "not told apart from it", "measured")
    return [Grid("Sweeps", header, tuple(rows), num_labels=2)] if rows else []


def sweep_notes(cells: Iterable[CellReport]) -> list[str]:
    """Say how the best of sweeps are meant, and why there is none on a test split."""
    found = sweeps(cells)
    notes = []
    if any(sweep.best is not None for sweep in found):
        notes.append(
            "Sweeps: the best has the highest mean on training images that were set aside. What "
            "differs from it by less than Welch's 95 % interval is not told apart from it; of one "
            "set a cell that interval leaves out the spread between sets."
        )
    tests = dict.fromkeys(sweep.dataset for sweep in found if not sweep.is_on_holdout)
    if tests:
        held = listed(holdout_name(name, *_EXAMPLE) for name in tests)
        notes.append(
            f"Sweeps on {listed(tests)}: choosing a setting by its accuracy on a test split is not "
            f"honest, so no best is named. Sweep on a hold-out of training images, as {held}."
        )
    return notes


def is_drawn(cell: CellReport) -> bool:
    """Say whether a cell is a point of a sweep that figures show: over one or two settings."""
    return 1 <= len(cell.entry.row.values) <= MOST_AXES


def values_of(cell: CellReport) -> str:
    """Write a point's values of the settings that vary."""
    values = cell.entry.row.values
    return ", ".join(f"{short(path)} {plainly(value)}" for path, value in values.items())


def _mean(cell: CellReport) -> float:
    return cell.record.accuracy.mean if cell.record is not None else float("-inf")


def _may_tie(best: CellReport, other: CellReport) -> bool:
    """Say whether the difference of two cells may be 0, as far as is known."""
    if best.record is None or other.record is None:
        return False
    interval = (best.record.accuracy.estimate - other.record.accuracy.estimate).interval
    return interval is None or interval[0] <= 0
