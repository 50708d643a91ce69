"""In which order cells begin: those whose work others wait for first, and nothing is made twice."""

from collections.abc import Hashable, Sequence

from nsdbench.bench.plan import PlannedCell
from nsdbench.bench.sharing import shared, whole_work

# What a cell has made, or found, when it reports a piece of work of a phase.
_MADE = {"distill": ("prior", "experts"), "evaluate": ("prior", "experts", "set")}


class Order:
    """Hands out cells; those that share work wait until the first of them has made it.

    A cell that fails before leaves the work to the next one.

    Args:
        cells: what is to do. Those that keep more others waiting come first.
    """

    def __init__(self, cells: Sequence[PlannedCell]) -> None:
        self._shares = {
            planned.cell.id: list(shared(planned, whole_work(planned.task))) for planned in cells
        }
        sharing: dict[Hashable, int] = {}
        for things in self._shares.values():
            for thing in things:
                sharing[thing] = sharing.get(thing, 0) + 1
        self._waiting = sorted(
            cells,
            key=lambda planned: -sum(sharing[thing] for thing in self._shares[planned.cell.id]),
        )
        self._made: set[Hashable] = set()
        self._makers: dict[Hashable, str] = {}

    def __bool__(self) -> bool:
        """Say whether a cell has not begun."""
        return bool(self._waiting)

    def next(self) -> PlannedCell | None:
        """Return a cell that may begin; None while all that are left wait for others."""
        for planned in self._waiting:
            things = [x for x in self._shares[planned.cell.id] if x not in self._made]
            if not any(thing in self._makers for thing in things):
                self._makers.update(dict.fromkeys(things, planned.cell.id))
                self._waiting.remove(planned)
                return planned
        return None

    def progressed(self, cell_id: str, phase: str) -> None:
        """Take note of a piece of work: what comes before its phase is made."""
        kinds = _MADE.get(phase, ())
        self._made.update(thing for thing in self._shares[cell_id] if thing[0] in kinds)

    def ended(self, cell_id: str, is_done: bool) -> None:
        """Take note of the end of a cell; what it has not made is left to others."""
        if is_done:
            self._made.update(self._shares[cell_id])
        self._makers = {thing: who for thing, who in self._makers.items() if who != cell_id}

    def again(self, planned: PlannedCell) -> None:
        """Put a cell back that could not begin."""
        self.ended(planned.cell.id, is_done=False)
        self._waiting.append(planned)
