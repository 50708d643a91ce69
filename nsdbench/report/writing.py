"""Write the reports of several tables in one format."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nsdbench.bench import tables
from nsdbench.report import comma as csv
from nsdbench.report import latex, markdown
from nsdbench.report import page as html
from nsdbench.report import pictures as figures
from nsdbench.report.content import collect
from nsdbench.report.document import Document, build


def write(
    names: Sequence[str] | None,
    scale: str,
    records: Sequence[dict[str, Any]],
    kind: str = "markdown",
    picture_source: Path | None = None,
    picture_folder: Path | None = None,
    protocol: str | None = None,
) -> str:
    """Write reports of tables at one scale.

    Args:
        names: tables; None takes all that have the scale.
        scale: "smoke", "small" or "paper".
        records: as `Store.records` returns them.
        kind: "markdown", "latex", "csv" or "html".
        picture_source: folder of the decoded images (npz), if pictures are wanted.
        picture_folder: where PNG files are drawn; None draws none (HTML carries its own).
        protocol: shows the cells that this protocol judges, instead of what the tables say.

    Returns:
        The text.

    Raises:
        ValueError: unknown table, scale, kind or protocol, or a damaged file of images.
    """
    chosen = tables.choose(names, scale)
    if kind == "csv":
        return csv.render(
            (table.name, collect(table, scale, records, protocol)) for table in chosen
        )
    documents = [build(table, scale, records, picture_source, protocol) for table in chosen]
    pictures = _draw(documents, picture_folder)
    if kind == "html":
        return html.render(documents, pictures)
    if kind == "latex":
        return "\n".join(latex.render(document) for document in documents)
    if kind != "markdown":
        raise ValueError(f"unknown report {kind!r}; choose markdown, latex, csv or html")
    files = {stem: f"{picture_folder}/{stem}.png" for stem in pictures} if picture_folder else {}
    return "\n".join(markdown.render(document, files) for document in documents)


def _draw(documents: Sequence[Document], folder: Path | None) -> dict[str, bytes]:
    """Draw every picture once; into files too, if there is a folder for them."""
    drawn: dict[str, bytes] = {}
    for picture in (picture for document in documents for picture in document.pictures):
        if picture.stem not in drawn:
            drawn[picture.stem] = figures.draw_images(picture.source, picture.caption)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        for stem, png in drawn.items():
            (folder / f"{stem}.png").write_bytes(png)
    return drawn
