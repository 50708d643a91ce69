"""Write tables as one HTML file that needs nothing else: no network, no other file.

A policy in its head lets it run its own script and style and load nothing. All texts are escaped by
the templates.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Container, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nsdbench.bench import tables
from nsdbench.bench.record import Record
from nsdbench.report.page.details import Details, describe
from nsdbench.report.page.view import view
from nsdbench.report.pictures import draw_small, what_is_drawn

if TYPE_CHECKING:
    from nsdbench.report.content import CellReport

_FOLDER = Path(__file__).parent / "templates"
_PER_CLASS = 5  # images of a picture


def page_path(target: Path) -> Path:
    """Return the file of a page: the target if it ends in .html, else index.html in that folder."""
    return target if target.suffix in (".html", ".htm") else target / "index.html"


def render(
    names: Sequence[str] | None,
    scale: str,
    records: Sequence[Record],
    results: Path,
    protocol: str | None = None,
) -> str:
    """Write the page of some tables at one scale.

    Args:
        names: tables; None takes all that have the scale.
        scale: "smoke", "small" or "paper".
        records: as `Store.records` returns them.
        results: the results folder, which holds the decoded images and the arrays of figures. A
            file of images that holds none is named beside its cells.
        protocol: shows the cells that this protocol judges, instead of what the tables say.

    Raises:
        ValueError: unknown table, scale or protocol.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    chosen = tables.choose(names, scale)
    figures = results / "figures" / scale
    views = [view(table, scale, records, figures, protocol) for table in chosen]
    style, script = (_FOLDER / name for name in ("page.css", "page.js"))
    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    rows = [row for shown in views for row in shown.rows]
    pictures = _pictures((row.cell for row in rows), results / "images" / scale)
    return environment.get_template("page.html").render(
        scale=scale,
        views=views,
        details=_details((row.cell for row in rows), pictures),
        pictures=pictures,
        datasets=list(dict.fromkeys(row.cell.entry.cell.dataset for row in rows)),
        sizes=sorted({row.cell.entry.cell.ipc for row in rows} - {0}),
        statuses=list(dict.fromkeys(row.cell.status for row in rows)),
        style=style.read_text(encoding="utf-8"),
        script=script.read_text(encoding="utf-8"),
        style_sum=_sum(style),
        script_sum=_sum(script),
    )


def _details(cells: Iterable[CellReport], pictures: Container[str]) -> list[Details]:
    """Describe every cell once; tables share some."""
    found: dict[str, Details] = {}
    for cell in cells:
        if cell.entry.cell.id not in found:
            name = "" if cell.record is None else cell.record.pictures_name
            found[cell.entry.cell.id] = describe(cell, name if name in pictures else "")
    return list(found.values())


def _pictures(cells: Iterable[CellReport], images: Path) -> dict[str, tuple[str, str]]:
    """Draw the decoded images of measured cells, by name: cells whose sets are one share them."""
    names = dict.fromkeys(cell.record.pictures_name for cell in cells if cell.record is not None)
    sources = {name: images / f"{name}.npz" for name in names}
    return {name: _picture(source) for name, source in sources.items() if source.is_file()}


def _picture(source: Path) -> tuple[str, str]:
    """Return decoded images as the address of a WebP, empty if damaged, and what it shows."""
    try:
        webp = draw_small(source, _PER_CLASS)
    except ValueError as error:
        return "", f"No picture: {error}"
    address = f"data:image/webp;base64,{base64.b64encode(webp).decode()}"
    shown = f"at most {_PER_CLASS} of a class, compressed with loss"
    return address, f"{what_is_drawn(source).capitalize()}; {shown}"


def _sum(path: Path) -> str:
    """Return the sum of a file as a content security policy names it."""
    return f"sha256-{base64.b64encode(hashlib.sha256(path.read_bytes()).digest()).decode()}"
