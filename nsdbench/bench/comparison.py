"""What other cells tell about one: its gain over Random, and the spread between sets."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TypeGuard

from nsdbench import methods
from nsdbench.bench.cell import Cell
from nsdbench.bench.record import Record, Result
from nsdbench.data.catalog import recipe_names
from nsdbench.errors import counted
from nsdbench.evaluation import protocols
from nsdbench.spread import Estimate


def gain_over_random(record: Result, by_cell: Mapping[Cell, Record]) -> Estimate | None:
    """Subtract Random's accuracy under the same protocol, data, budget and network.

    A set over budget has more room than that Random. Networks of equal number start alike on both
    sets, which correlates them by 0.0 to 0.2 in our records: the interval is a little too wide.

    Returns:
        The difference of independent means; None for Random itself and the full data, and where
        Random is not measured, or would be measured otherwise now.
    """
    cell = record.cell
    random = by_cell.get(replace(cell, method="random"))
    if cell.method == "random" or cell.ipc == 0 or not _is_current(random):
        return None
    return record.accuracy.estimate - random.accuracy.estimate


def between_sets(record: Result, records: Iterable[Record]) -> str:
    """Say what is known of the standard deviation between sets, in points.

    Of a cell with one set nothing is; then that of another cell of the same method and scale on
    the same data, or on a hold-out of it, is given as an estimate, if there is one: of the same
    ipc, network and protocol rather than of others. Cells of which a set ran away are left out.
    """
    cell, accuracy = record.cell, record.accuracy
    if cell.ipc == 0:
        return "-"
    if (num_sets(record) or 0) > 1:
        spread = None if _draws_per_network(record) else accuracy.between_sets
        return "in the interval" if spread is None else f"{spread:.1f}"
    others = [
        other
        for other in records
        if isinstance(other, Result)
        and (other.cell.method, other.cell.scale) == (cell.method, cell.scale)
        and recipe_names(other.cell.dataset) & recipe_names(cell.dataset)
        and other.accuracy.between_sets is not None
        and not other.runaway
        and _is_current(other)
    ]
    if not others:
        return "not measured"
    named = ("dataset", "ipc", "arch", "protocol")
    closest = max(
        others, key=lambda r: [getattr(r.cell, key) == getattr(cell, key) for key in named]
    )
    at = closest.cell
    sets = counted(len(closest.accuracy.values), "set")
    where = f"{sets} of {at.dataset} ipc {at.ipc} {at.arch} {at.protocol}"
    return f"about {closest.accuracy.between_sets:.1f} (estimate: {where})"


def num_sets(record: Result) -> int | None:
    """Return the number of distilled or drawn sets of a cell; None for the full data."""
    if record.cell.ipc == 0:
        return None
    return record.accuracy.n if _draws_per_network(record) else len(record.accuracy.values)


def _draws_per_network(record: Result) -> bool:
    """Say whether every network of a cell had a set of its own."""
    return bool(record.recipe.get("coreset", {}).get("draw_per_network", False))


def _is_current(record: Record | None) -> TypeGuard[Result]:
    """Say whether there is a result that a run would measure in the same way now."""
    if not isinstance(record, Result) or not methods.is_described(record.cell.method):
        return False
    cell = record.cell
    recipe = methods.resolve(cell.method, cell.dataset, cell.ipc, cell.scale)
    return not record.change_since(recipe.hash, protocols.get(cell.protocol).hash)
