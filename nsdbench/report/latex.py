"""Write a report as LaTeX (booktabs), ready to be included in a paper."""

from nsdbench.report.document import Document, Grid

_SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$",
    "<": r"$<$", ">": r"$>$",
}  # fmt: skip


def render(document: Document) -> str:
    """Write a document; it needs \\usepackage{booktabs} and \\usepackage{graphicx}."""
    parts = [f"\\subsection*{{{_escape(document.title)}}}"]
    parts += [_escape(text) for text in document.paragraphs]
    parts += [_table(grid) for grid in document.grids]
    if document.unmeasured:
        parts += ["\\paragraph{Not measured}", _items(document.unmeasured)]
    if document.notes:
        parts += ["\\paragraph{Notes}", _items(document.notes)]
    return "\n\n".join(parts) + "\n"


def _table(grid: Grid) -> str:
    """Write a grid as a table that is scaled to the line width."""
    labels, numbers = grid.num_labels, len(grid.header) - grid.num_labels
    lines = [
        "\\begin{table}[htbp]",
        "\\centering",
        f"\\caption{{{_escape(grid.title)}}}",
        "\\resizebox{\\linewidth}{!}{%",
        f"\\begin{{tabular}}{{{'l' * labels}{'r' * numbers}}}",
        "\\toprule",
        _row(grid.header),
        "\\midrule",
        *(_row(row) for row in grid.rows),
        "\\bottomrule",
        "\\end{tabular}}",
        "\\end{table}",
    ]
    return "\n".join(lines)


def _row(texts: tuple[str, ...]) -> str:
    return " & ".join(map(_escape, texts)) + r" \\"


def _items(texts: tuple[str, ...]) -> str:
    lines = [f"\\item {_escape(text)}" for text in texts]
    return "\n".join(["\\begin{itemize}", *lines, "\\end{itemize}"])


def _escape(text: str) -> str:
    """Write text such that LaTeX prints it as it is."""
    return "".join(_SPECIAL.get(character, character) for character in text)
