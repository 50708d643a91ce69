"""Reports: measured numbers beside published ones, from records and tables alone.

`build` makes a document of a table at one scale; `markdown`, `latex`, `html` and `csv` write it.
The same records give the same bytes.
"""

from nsdbench.report.content import CellReport, collect
from nsdbench.report.document import Document, Picture, build
from nsdbench.report.grids import Grid

__all__ = ["CellReport", "Document", "Grid", "Picture", "build", "collect"]
