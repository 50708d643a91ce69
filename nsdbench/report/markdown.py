"""Write a report as GitHub-flavoured Markdown."""

from collections.abc import Mapping

from nsdbench.report.document import Document, Grid


def render(document: Document, files: Mapping[str, str] | None = None) -> str:
    """Write a document.

    Args:
        document: the report.
        files: path of every drawn picture by its stem; pictures that are not drawn are left out.
    """
    parts = [f"## {document.title}", *document.paragraphs]
    for grid in document.grids:
        parts += [f"### {grid.title}", _table(grid)]
    if document.unmeasured:
        parts += ["### Not measured", _bullets(document.unmeasured)]
    shown = [picture for picture in document.pictures if picture.stem in (files or {})]
    if shown:
        parts.append("### Decoded images")
        parts += [f"![{picture.caption}]({files[picture.stem]})" for picture in shown]
    if document.notes:
        parts += ["### Notes", _bullets(document.notes)]
    return "\n\n".join(parts) + "\n"


def _table(grid: Grid) -> str:
    """Write a grid with columns padded to equal width, so that it reads as plain text too."""
    rows = [[_escape(text) for text in row] for row in (grid.header, *grid.rows)]
    widths = [max(3, *(len(row[i]) for row in rows)) for i in range(len(grid.header))]

    def line(row: list[str]) -> str:
        cells = [
            text.ljust(width) if i < grid.num_labels else text.rjust(width)
            for i, (text, width) in enumerate(zip(row, widths, strict=True))
        ]
        return f"| {' | '.join(cells)} |"

    rule = [
        "-" * width if i < grid.num_labels else "-" * (width - 1) + ":"
        for i, width in enumerate(widths)
    ]
    return "\n".join([line(rows[0]), f"| {' | '.join(rule)} |", *map(line, rows[1:])])


def _bullets(texts: tuple[str, ...]) -> str:
    return "\n".join(f"- {text}" for text in texts)


def _escape(text: str) -> str:
    """Keep text from ending a table cell."""
    return text.replace("|", "\\|").replace("\n", " ")
