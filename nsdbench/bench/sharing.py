"""What cells share: priors, experts and distilled sets, which are made once for all of them."""

from collections.abc import Hashable, Iterator, Sequence

from nsdbench.bench.cost import Estimate, Work, estimate
from nsdbench.bench.plan import PlannedCell, Task
from nsdbench.data import spec
from nsdbench.errors import NsdbenchError


def whole_work(task: Task | None) -> Sequence[Work]:
    """Predict the whole work of a cell, as if nothing were done; empty where nobody can."""
    cost = None if task is None else whole_estimate(task)
    return () if cost is None else cost.work


def whole_estimate(task: Task) -> Estimate | None:
    """Predict what a cell costs, as if nothing were done; None where nobody can."""
    cell = task.cell
    try:
        return estimate(
            task.recipe, spec(cell.dataset), cell.ipc, cell.arch, task.protocol, task.seeds,
            task.repeats,
        )  # fmt: skip
    except (NsdbenchError, ValueError, KeyError):  # the run records why
        return None


def shared(planned: PlannedCell, work: Sequence[Work]) -> Iterator[tuple[str, Hashable]]:
    """Name what a cell may share with others.

    Args:
        planned: the cell.
        work: of `whole_work`.

    Yields:
        What it is ("prior", "experts" or "set"), and a key that is equal for cells that share it.
    """
    yield from ((part.phase, part.key) for part in work if part.phase in ("prior", "experts"))
    if planned.task is not None:
        recipe = planned.task.recipe
        yield "set", (recipe.hash, planned.cell.dataset, planned.cell.ipc, recipe.method)
