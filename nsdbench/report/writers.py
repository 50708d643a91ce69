"""Write reports as markdown, LaTeX, CSV or JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nsdbench.bench import tables
from nsdbench.bench.comparison import num_sets
from nsdbench.bench.record import Record
from nsdbench.files import write_atomically
from nsdbench.report import judged
from nsdbench.report.content import CellReport, collect
from nsdbench.report.document import Document, build
from nsdbench.report.grids import Grid
from nsdbench.report.pictures import draw_images
from nsdbench.report.sweeps import sweep_grid

if TYPE_CHECKING:
    from nsdbench.bench.tables import Table

KINDS = ("markdown", "latex", "csv", "json")
_HEADER = (
    "table", "row", "family", "dataset", "ipc", "method", "arch", "protocol", "scale", "status",
    "reason", "mean", "std", "ci95_low", "ci95_high", "sets", "n", "between_sets",
    "gain_over_random", "gain_low", "gain_high", "published_mean", "published_std", "difference",
    "verdict", "stored_bits", "limit_bits", "images", "batch", "steps",
    "seconds", "peak_bytes", "commit",
)  # fmt: skip


def write(
    names: Sequence[str] | None,
    scale: str,
    records: Sequence[Record],
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
        kind: one of KINDS.
        picture_source: folder of the decoded images (npz).
        picture_folder: where they are drawn as PNG files, which Markdown shows; None draws none. A
            file that holds no images is named in the notes.
        protocol: shows the cells that this protocol judges, instead of what the tables say.

    Returns:
        The text.

    Raises:
        ValueError: unknown table, scale, kind or protocol.
    """
    if kind not in KINDS:
        raise ValueError(f"unknown report {kind!r}; choose one of {', '.join(KINDS)}")
    chosen = tables.choose(names, scale)
    if kind == "csv":
        cells = [(t.name, cell) for t in chosen for cell in collect(t, scale, records, protocol)]
        return comma_separated(_HEADER, (_line(*cell) for cell in cells))
    if kind == "json":
        parts = [_part(table, scale, records, protocol) for table in chosen]
        return json.dumps({"scale": scale, "tables": parts}, indent=2) + "\n"
    documents = [build(table, scale, records, picture_source, protocol) for table in chosen]
    files: dict[str, str] = {}
    if picture_folder is not None:
        documents, files = save_pictures(documents, picture_folder)
    if kind == "latex":
        return "\n".join(map(latex, documents))
    return "\n".join(markdown(document, files) for document in documents)


def save_pictures(
    documents: Iterable[Document], folder: Path
) -> tuple[list[Document], dict[str, str]]:
    """Draw the pictures of some reports as PNG files in a folder, which is made.

    Returns:
        The reports, in which a picture whose file is damaged has become a note; and the path of
        every drawn picture by its stem.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files: dict[str, str] = {}
    faults: dict[str, str] = {}
    noted = []
    for document in documents:
        for picture in document.pictures:
            if picture.stem in files or picture.stem in faults:
                continue
            path = folder / f"{picture.stem}.png"
            try:
                png = draw_images(picture.source)
            except ValueError as error:
                faults[picture.stem] = f"No picture of {picture.stem}: {error}"
            else:
                write_atomically(path, partial(Path.write_bytes, data=png))
                files[picture.stem] = str(path)
        missing = [faults[x.stem] for x in document.pictures if x.stem in faults]
        noted.append(replace(document, notes=(*document.notes, *missing)))
    return noted, files


def write_judged(records: Sequence[Record], kind: str = "markdown") -> str:
    """Write the report of all judged sets as one of KINDS.

    Raises:
        ValueError: unknown kind.
    """
    if kind not in KINDS:
        raise ValueError(f"unknown report {kind!r}; choose one of {', '.join(KINDS)}")
    if kind == "csv":
        return comma_separated(judged.HEADER, judged.rows(records))
    if kind == "json":
        return json.dumps({"judged": judged.rows(records)}, indent=2) + "\n"
    document = judged.build(records)
    return latex(document) if kind == "latex" else markdown(document)


def markdown(document: Document, files: Mapping[str, str] | None = None) -> str:
    """Write a document as GitHub-flavoured Markdown.

    Args:
        document: the report.
        files: path of every drawn picture by its stem; pictures that are not drawn are left out.
    """
    parts = [f"## {document.title}", *document.paragraphs]
    for grid in document.grids:
        parts += [f"### {grid.title}", pipe_table(grid)]
    if document.unmeasured:
        parts += ["### Not measured", "\n".join(f"- {text}" for text in document.unmeasured)]
    shown = [picture for picture in document.pictures if files and picture.stem in files]
    if shown and files:
        parts.append("### Decoded images")
        parts += [f"![{picture.caption}]({files[picture.stem]})" for picture in shown]
    if document.notes:
        parts += ["### Notes", "\n".join(f"- {text}" for text in document.notes)]
    return "\n\n".join(parts) + "\n"


def pipe_table(grid: Grid) -> str:
    """Write a grid as a table of GitHub-flavoured Markdown: labels left, numbers right."""
    from tabulate import tabulate

    safe = [[text.replace("|", "\\|") for text in row] for row in (grid.header, *grid.rows)]
    numbers = len(grid.header) - grid.num_labels
    sides = ("left",) * grid.num_labels + ("right",) * numbers
    return tabulate(safe[1:], safe[0], "pipe", colalign=sides, disable_numparse=True)


def latex(document: Document) -> str:
    """Write a document as LaTeX; it needs \\usepackage{booktabs} and \\usepackage{graphicx}.

    A table is named by its document and its title: tab:table1-small-measured.
    """
    parts = [f"\\subsection*{{{latex_escape(document.title)}}}"]
    parts += map(latex_escape, document.paragraphs)
    parts += (_latex_table(document, grid) for grid in document.grids)
    for title, texts in (("Not measured", document.unmeasured), ("Notes", document.notes)):
        if texts:
            items = [f"\\item {latex_escape(text)}" for text in texts]
            listed = ["\\begin{itemize}", *items, "\\end{itemize}"]
            parts += [f"\\paragraph{{{title}}}", "\n".join(listed)]
    return "\n\n".join(parts) + "\n"


def _latex_table(document: Document, grid: Grid) -> str:
    """Write a grid as a table of booktabs, the best of a column in bold."""

    def line(texts: Iterable[str]) -> str:
        return f"{' & '.join(texts)} \\\\"

    rows = []
    for number, row in enumerate(grid.rows):
        texts = ["--" if text == "-" else latex_escape(text) for text in row]
        for column, text in enumerate(texts):
            if (number, column) in grid.best:
                texts[column] = f"\\textbf{{{text}}}"
        rows.append(line(texts))
    sides = "l" * grid.num_labels + "r" * (len(grid.header) - grid.num_labels)
    return "\n".join(
        (
            "\\begin{table}[htbp]",
            "\\centering",
            f"\\caption{{{latex_escape(f'{document.title}. {grid.title}.')}}}",
            f"\\label{{tab:{document.name}-{_slug(grid.title)}}}",
            "\\resizebox{\\ifdim\\width>\\linewidth\\linewidth\\else\\width\\fi}{!}{%",
            f"\\begin{{tabular}}{{{sides}}}",
            "\\toprule",
            line(map(latex_escape, grid.header)),
            "\\midrule",
            *rows,
            "\\bottomrule",
            "\\end{tabular}}",
            "\\end{table}",
        )
    )


def _slug(title: str) -> str:
    """Name a grid by the words of its title before any comma, colon or bracket."""
    return re.sub("[^a-z0-9]+", "-", re.split("[,:(]", title)[0].strip().lower())


def latex_escape(text: str) -> str:
    """Write text such that LaTeX prints it as it is."""
    from tabulate import LATEX_ESCAPE_RULES

    rules = LATEX_ESCAPE_RULES | {"±": r"$\pm$"}
    return "".join(rules.get(character, character) for character in text)


def _part(
    table: Table, scale: str, records: Sequence[Record], protocol: str | None
) -> dict[str, Any]:
    """Return what the CSV says of every cell of a table as JSON values; null is what is unknown."""
    document = build(table, scale, records, protocol=protocol)
    cells = collect(table, scale, records, protocol)
    lines = [_line(table.name, cell) for cell in cells]
    return {
        "name": table.name,
        "title": table.title,
        "paragraphs": document.paragraphs,
        "cells": [{key: line.get(key) for key in _HEADER[1:]} for line in lines],
        "sweeps": [
            dict(zip(g.header, row, strict=True)) for g in sweep_grid(cells) for row in g.rows
        ],
        "notes": document.notes,
    }


def comma_separated(header: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """Write rows as CSV in full precision; what a row does not have is an empty field.

    Text that a spreadsheet would take for a formula gets an apostrophe before it.
    """
    from pandas import DataFrame  # takes a third of a second to import

    lines = [{key: _as_text(value) for key, value in row.items()} for row in rows]
    frame = DataFrame(lines, columns=list(header), dtype=object)
    return frame.to_csv(index=False, lineterminator="\n")


def _as_text(value: Any) -> Any:
    """Mark text that begins as a formula does; numbers stay."""
    is_formula = isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r"))
    return f"'{value}" if is_formula else value


def _line(name: str, cell: CellReport) -> dict[str, Any]:
    """Return what the CSV says of one cell; what is not known is left out."""
    entry, record, published = cell.entry, cell.record, cell.entry.published
    line: dict[str, Any] = {"table": name, "row": entry.row.label, "family": entry.row.family}
    line |= asdict(entry.cell) | {"status": cell.status, "reason": cell.reason}
    if published is not None:
        line |= {"published_mean": published.mean, "published_std": published.std}
    if record is None:
        return line
    low, high = record.accuracy.interval or (None, None)
    line |= {
        "mean": record.accuracy.mean,
        "std": record.accuracy.std,
        "ci95_low": low,
        "ci95_high": high,
        "sets": num_sets(record),
        "n": record.accuracy.n,
        "between_sets": record.accuracy.between_sets,
        "images": record.images,
        "batch": record.batch,
        "steps": record.training.steps,
        "seconds": record.cost.total_seconds,
        "peak_bytes": record.cost.peak_bytes,
        "commit": record.provenance.commit,
    }
    if cell.gain is not None:
        low, high = cell.gain.interval or (None, None)
        line |= {"gain_over_random": cell.gain.mean, "gain_low": low, "gain_high": high}
    if cell.verdict is not None:
        line |= {"difference": cell.verdict.difference, "verdict": str(cell.verdict)}
    if record.budget is not None:
        bits = {"stored_bits": record.budget.stored_bits, "limit_bits": record.budget.limit_bits}
        line |= bits
    return line
