"""What the page shows of a table: its cells in rows and columns, in charts, and one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nsdbench.bench.record import Record
from nsdbench.report.content import CellReport, collect, distinct
from nsdbench.report.document import build
from nsdbench.report.figures import draw_figures
from nsdbench.report.grids import (
    Grid,
    Matrix,
    cell_labels,
    cost_grid,
    measured_matrices,
    published_grid,
)
from nsdbench.report.page.charts import Panel, panels
from nsdbench.report.sweeps import sweep_grid

if TYPE_CHECKING:
    from nsdbench.bench.tables import Table


@dataclass(frozen=True)
class Row:
    """A cell of a table in a line of its own."""

    cell: CellReport
    where: str
    is_best: bool

    @property
    def words(self) -> str:
        """Return what a search finds the row by."""
        cell = self.cell.entry.cell
        row = self.cell.entry.row
        words = (row.label, row.family, cell.id, self.cell.status, str(self.cell.verdict or ""))
        return " ".join(words).lower()

    @property
    def verdict_kind(self) -> str:
        """Name the style of the verdict: its first word; empty where nothing is printed."""
        if self.cell.verdict is None or self.cell.entry.published is None:
            return ""
        return self.cell.verdict.word.split()[0]


@dataclass(frozen=True)
class TableView:
    """A table of the page.

    Attributes:
        name, title: of the table.
        paragraphs: where its numbers come from, and how they were measured.
        matrices: its cells in rows and columns, each with the panels of its chart.
        rows: its cells one by one.
        sweeps: what the sweeps came to.
        others: further tables of text, that are closed at first.
        figures: SVG files as data addresses.
        notes: what to know of the numbers.
    """

    name: str
    title: str
    paragraphs: tuple[str, ...]
    matrices: tuple[tuple[Matrix, tuple[Panel, ...]], ...]
    rows: tuple[Row, ...]
    sweeps: tuple[Grid, ...]
    others: tuple[Grid, ...]
    figures: tuple[str, ...]
    notes: tuple[str, ...]


def view(
    table: Table, scale: str, records: Sequence[Record], figures: Path, protocol: str | None
) -> TableView:
    """Arrange what is known of a table at one scale.

    Args:
        table: the table.
        scale: one of its scales.
        records: as `Store.records` returns them.
        figures: folder of the arrays of figures that are not made of cells.
        protocol: shows the cells that this protocol judges, instead of what the table says.
    """
    document = build(table, scale, records, protocol=protocol)
    drawings = draw_figures(table, scale, records, figures, protocol)
    drawn = tuple(drawing.data_address() for drawing in drawings)
    if table.settings(scale).similarity is not None:
        return TableView(
            table.name, table.title, document.paragraphs, (), (), (), (), drawn, document.notes
        )
    cells = collect(table, scale, records, protocol)
    matrices = measured_matrices(table, table.settings(scale).columns, cells)
    best = {
        id(matrix.lines[row].values[column]) for matrix in matrices for row, column in matrix.best
    }
    shown = distinct(cells)
    rows = [
        Row(cell, where, id(cell) in best)
        for cell, where in zip(shown, cell_labels(shown), strict=True)
    ]
    charts = [() if table.axes else tuple(panels(matrix)) for matrix in matrices]
    return TableView(
        table.name,
        table.title,
        document.paragraphs,
        tuple(zip(matrices, charts, strict=True)),
        tuple(rows),
        tuple(sweep_grid(cells)),
        (*published_grid(table, scale, cells), *cost_grid(cells)),
        drawn,
        document.notes,
    )
