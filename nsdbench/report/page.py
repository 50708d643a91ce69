"""Write reports as one self-contained HTML file."""

import base64
from collections.abc import Iterable, Mapping
from html import escape

from nsdbench.report.document import Document
from nsdbench.report.grids import Grid

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; padding: 0 1rem }
table { border-collapse: collapse; margin: .5rem 0 1.5rem; font-variant-numeric: tabular-nums }
th, td { padding: .2rem .7rem; border-bottom: 1px solid #ccc; text-align: right }
th { border-bottom: 2px solid #666 }
.label { text-align: left }
.scroll { overflow-x: auto }
img { image-rendering: pixelated; max-width: 100% }
"""


def render(documents: Iterable[Document], pictures: Mapping[str, bytes] | None = None) -> str:
    """Write documents one after another.

    Args:
        documents: the reports.
        pictures: PNG data by picture stem; pictures that are not given are left out.
    """
    bodies = [_body(document, pictures or {}) for document in documents]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>nsdbench report</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(bodies)
        + "\n</body>\n</html>\n"
    )


def _body(document: Document, pictures: Mapping[str, bytes]) -> str:
    """Write one report."""
    parts = [f"<h2>{escape(document.title)}</h2>"]
    parts += [f"<p>{escape(text)}</p>" for text in document.paragraphs]
    for grid in document.grids:
        parts += [f"<h3>{escape(grid.title)}</h3>", _table(grid)]
    if document.unmeasured:
        parts += ["<h3>Not measured</h3>", _items(document.unmeasured)]
    shown = [picture for picture in document.pictures if picture.stem in pictures]
    if shown:
        parts.append("<h3>Decoded images</h3>")
    for picture in shown:
        data = base64.b64encode(pictures[picture.stem]).decode()
        caption = escape(picture.caption)
        image = f'<img alt="{caption}" src="data:image/png;base64,{data}">'
        parts.append(f"<figure>{image}<figcaption>{caption}</figcaption></figure>")
    if document.notes:
        parts += ["<h3>Notes</h3>", _items(document.notes)]
    return "\n".join(parts)


def _table(grid: Grid) -> str:
    """Write a grid."""

    def row(tag: str, texts: tuple[str, ...]) -> str:
        cells = [
            f"<{tag}{' class=label' if i < grid.num_labels else ''}>{escape(text)}</{tag}>"
            for i, text in enumerate(texts)
        ]
        return f"<tr>{''.join(cells)}</tr>"

    body = "\n".join(row("td", texts) for texts in grid.rows)
    head = row("th", grid.header)
    return (
        f'<div class="scroll"><table>\n<thead>{head}</thead>\n<tbody>\n{body}\n</tbody>\n'
        "</table></div>"
    )


def _items(texts: tuple[str, ...]) -> str:
    return "<ul>\n" + "\n".join(f"<li>{escape(text)}</li>" for text in texts) + "\n</ul>"
