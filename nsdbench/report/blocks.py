"""Fill the marked blocks of Markdown pages from records, so that no number in them goes stale.

    <!-- nsdbench: accuracies table1 scale=small dataset=FashionMNIST rows="Random|NSD" -->
    (what stands here is replaced)
    <!-- end -->

A block names its kind, tables, and options: `scale`, `protocol`, the keys of `--where`, and `rows`,
labels in the order wanted. The kinds are

    accuracies    a row a method, a column a data set, ipc and network
    beside        the same with the printed number beside every column
    cells         a row a measured cell, with its uncertainty and cost
    spread        a row a cell of several sets, with the spread between them
    difference    the first of two rows less the second, a number within a line

A block none of whose cells is measured stays as it is.
"""

import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from nsdbench.bench import tables
from nsdbench.bench.comparison import num_sets
from nsdbench.bench.record import Record
from nsdbench.bench.tables.where import WHERE_KEYS, keep_where
from nsdbench.errors import nearest
from nsdbench.report.content import CellReport, collect
from nsdbench.report.grids import Grid, labels
from nsdbench.report.writers import pipe_table

_START, _END = "<!-- nsdbench:", "<!-- end -->"
_BLOCK = re.compile(rf"{_START}(?P<order>.*?)-->(?P<content>.*?){_END}", re.DOTALL)


@dataclass(frozen=True)
class Filled:
    """A page with its blocks filled: how many there are, and the orders of those left as they were.

    The text is that of the page where nothing has changed.
    """

    text: str
    num_blocks: int
    left: tuple[str, ...]


def fill(page: str, records: Sequence[Record]) -> Filled:
    """Replace the content of every block of a page.

    Args:
        page: Markdown.
        records: of all scales that blocks ask for.

    Raises:
        ValueError: a block does not end, begins within another, or orders what there is not; the
            message names it.
    """
    left: list[str] = []

    def filled(match: re.Match[str]) -> str:
        order, content = " ".join(match["order"].split()), match["content"]
        if _START in content:
            raise ValueError(f"block {order!r} does not end before the next; put {_END} after it")
        try:
            new = _content(order, records)
        except ValueError as error:
            raise ValueError(f"block {order!r}: {error}") from error
        if new is None:
            left.append(order)
            return match[0]
        return f"{_START}{match['order']}-->{new}{_END}"

    text, count = _BLOCK.subn(filled, page)
    if page.count(_START) != count:
        raise ValueError(f"{page.count(_START)} blocks begin and {count} end with {_END}")
    return Filled(text, count, tuple(left))


def _content(order: str, records: Sequence[Record]) -> str | None:
    """Write what a block orders; None if none of its cells is measured."""
    words = shlex.split(order)
    options = dict(word.split("=", 1) for word in words if "=" in word)
    kind, *names = [word for word in words if "=" not in word] or [""]
    if kind not in _KINDS:
        raise ValueError(f"{kind!r} is no kind of block; choose one of {', '.join(_KINDS)}")
    known = ("scale", "rows", *WHERE_KEYS)
    for key in options:
        if key not in known:
            raise ValueError(f"unknown option {key!r}; known: {', '.join(known)}")
    if not names or "scale" not in options:
        raise ValueError("expected a table and scale=...")
    cells = _cells(names, options, records)
    if all(cell.record is None for cell in cells):
        return None
    return _KINDS[kind](cells)


def _cells(
    names: Sequence[str], options: dict[str, str], records: Sequence[Record]
) -> list[CellReport]:
    """Collect the cells of some tables that a block asks for, each once."""
    scale = options["scale"]
    where = {key: options[key].split("|") for key in WHERE_KEYS if key in options}
    where.pop("protocol", None)
    protocol = options.get("protocol")
    found: dict[str, CellReport] = {}
    for table in tables.choose(names, scale):
        for cell in collect(table, scale, records, protocol):
            found.setdefault(cell.entry.cell.id, cell)
    kept = {entry.cell for entry in keep_where([cell.entry for cell in found.values()], where)}
    cells = [cell for cell in found.values() if cell.entry.cell in kept]
    if "rows" not in options:
        return cells
    wanted = options["rows"].split("|")
    by_label: dict[str, list[CellReport]] = {}
    for cell in cells:
        by_label.setdefault(cell.entry.row.label, []).append(cell)
    for label in wanted:
        if label not in by_label:
            raise ValueError(f"there is no row {label!r}{nearest(label, by_label)}")
    return [cell for label in wanted for cell in by_label[label]]


def _accuracies(cells: list[CellReport]) -> str:
    """Write a row a method."""
    names, rows = _by_method(cells)
    lines = [
        (label, *("" if cell is None else cell.number for cell in line)) for label, line in rows
    ]
    return _table(Grid("", ("method", *names), tuple(lines)))


def _beside(cells: list[CellReport]) -> str:
    """Write a row a method, measured and printed numbers side by side."""
    names, rows = _by_method(cells)
    header = ["method"]
    for name in names:
        header += [name, "published"]
    lines = []
    for label, line in rows:
        texts = [label]
        for cell in line:
            texts += ["", ""] if cell is None else [cell.number, cell.published]
        lines.append(tuple(texts))
    return _table(Grid("", tuple(header), tuple(lines)))


def _by_method(
    cells: list[CellReport],
) -> tuple[list[str], list[tuple[str, list[CellReport | None]]]]:
    """Name the columns of cells, and arrange those of every method of which one is measured.

    The full data stands in the first column of its data and network.
    """
    places = [(c.entry.cell.dataset, c.entry.cell.ipc, c.entry.cell.arch) for c in cells]
    columns = [place for place in dict.fromkeys(places) if place[1]]
    rows: dict[str, dict[tuple[str, int, str], CellReport]] = {}
    for cell, place in zip(cells, places, strict=True):
        if not place[1]:
            place = next((c for c in columns if (c[0], c[2]) == (place[0], place[2])), place)
        rows.setdefault(cell.entry.row.label, {})[place] = cell
    is_one_place = len({(dataset, arch) for dataset, _, arch in columns}) == 1
    header = [_images(ipc) for _, ipc, _ in columns] if is_one_place else labels(columns)
    measured = {c.entry.row.label for c in cells if c.record is not None}
    lines = [
        (label, [known.get(column) for column in columns])
        for label, known in rows.items()
        if label in measured
    ]
    return header, lines


def _images(ipc: int) -> str:
    return "1 image per class" if ipc == 1 else f"{ipc} images per class"


def _measured_cells(cells: list[CellReport]) -> str:
    """Write a row a measured cell."""
    header = (
        "method", "ipc", "accuracy, %", "95 % interval", "gain over Random", "sets", "n",
        "budget used", "images", "distillation", "evaluation", "peak memory", "on",
    )  # fmt: skip
    lines = []
    for cell in cells:
        record = cell.record
        if record is None:
            continue
        interval, budget, cost = record.accuracy.interval, record.budget, record.cost
        seconds = [cost.seconds.get(phase, 0.0) for phase in ("distill", "evaluate")]
        lines.append(
            (
                cell.entry.row.label,
                str(record.cell.ipc or "all"),
                cell.number,
                "-" if interval is None else "{:.1f} to {:.1f}".format(*interval),
                cell.gain_over_random,
                str(num_sets(record) or "-"),
                str(record.accuracy.n),
                "-" if budget is None else f"{budget.percent:.1f} %",
                "-" if record.images is None else f"{record.images:,}",
                *(f"{value:.0f} s" if value >= 0.5 else "-" for value in seconds),
                "-" if cost.peak_bytes is None else f"{cost.peak_bytes / 2**20:,.0f} MiB",
                record.provenance.device or "-",
            )
        )
    return _table(Grid("", header, tuple(lines)))


def _spread(cells: list[CellReport]) -> str:
    """Write a row a cell of several sets with several networks each."""
    header = ("method", "data set", "ipc", "network", "sets x networks", "between sets, points")
    lines = []
    for cell in cells:
        record = cell.record
        spread = None if record is None else record.accuracy.between_sets
        if record is None or spread is None:
            continue
        at, sets = record.cell, len(record.accuracy.values)
        where = (cell.entry.row.label, at.dataset, str(at.ipc), at.arch)
        lines.append((*where, f"{sets} x {record.accuracy.n / sets:g}", f"{spread:.1f}"))
    if not lines:
        return "\n\nIt was measured for no cell yet.\n\n"
    return _table(Grid("", header, tuple(lines)))


def _difference(cells: list[CellReport]) -> str:
    """Write how much one cell is above another, without a sign."""
    records = [cell.record for cell in cells]
    if len(records) != 2 or any(cell.status != "measured" for cell in cells):
        found = ", ".join(f"{cell.entry.cell.id} ({cell.status})" for cell in cells)
        raise ValueError(f"a difference is one of two measured cells, these are {found}")
    first, second = (record.accuracy.mean for record in records if record is not None)
    return f"{first - second:.1f}"


_KINDS: dict[str, Callable[[list[CellReport]], str]] = {
    "accuracies": _accuracies,
    "beside": _beside,
    "cells": _measured_cells,
    "spread": _spread,
    "difference": _difference,
}


def _table(grid: Grid) -> str:
    return f"\n\n{pipe_table(grid)}\n\n"
