"""Split the cells of a plan among the jobs of an array, the same way in every one of them.

Cells that share a distilled set, experts or a prior stay together, so that no job waits for, or
repeats, the work of another. The parts are made of all cells, whatever is done already.
"""

import re
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, replace

from nsdbench.bench.cost import Rates
from nsdbench.bench.plan import Plan, PlannedCell
from nsdbench.bench.sharing import shared, whole_work


@dataclass(frozen=True)
class Shard:
    """One part of several: `number` counts from 1 to `count`."""

    number: int
    count: int

    @property
    def is_first(self) -> bool:
        """Say whether what is no cell, the figures of real images, is left to this part."""
        return self.number == 1

    def of(self, plan: Plan) -> Plan:
        """Keep the cells of this part."""
        return plan if self.count == 1 else split(plan, self.count)[self.number - 1]


def split(plan: Plan, count: int) -> list[Plan]:
    """Split a plan into that many parts, each in the order of the plan.

    Groups of cells go, the longest first, to the part that has the least to do (Graham, 1969,
    LPT), by their predicted time on one core.
    """
    loads = [0.0] * count
    kept: list[list[int]] = [[] for _ in range(count)]
    for seconds, places in sorted(_groups(plan.cells), key=lambda group: (-group[0], group[1])):
        least = loads.index(min(loads))
        loads[least] += seconds
        kept[least] += places
    return [replace(plan, cells=tuple(plan.cells[i] for i in sorted(part))) for part in kept]


def parse_shard(text: str) -> Shard:
    """Read "3/8", the third of eight parts.

    Raises:
        ValueError: it is not that, or there is no such part.
    """
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text, re.ASCII)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise ValueError(
            f"--shard {text!r}: expected NUMBER/COUNT with a number from 1 to the count, as 3/8"
        )
    return Shard(int(match[1]), int(match[2]))


def _groups(cells: Sequence[PlannedCell]) -> Iterator[tuple[float, list[int]]]:
    """Group cells that share work; yields the predicted seconds and the places of each group."""
    leader = list(range(len(cells)))  # a forest: follow it to find the group of a cell

    def find(place: int) -> int:
        while leader[place] != place:
            leader[place] = leader[leader[place]]
            place = leader[place]
        return place

    work = [whole_work(planned.task) for planned in cells]
    first: dict[Hashable, int] = {}
    for place, planned in enumerate(cells):
        for key in shared(planned, work[place]):
            one, other = sorted((find(first.setdefault(key, place)), find(place)))
            leader[other] = one
    members: dict[int, list[int]] = {}
    for place in range(len(cells)):
        members.setdefault(find(place), []).append(place)
    one_core = Rates.of_cores(1)
    for places in members.values():
        parts = {part.key: part for place in places for part in work[place]}
        yield sum(part.seconds(one_core) for part in parts.values()), places
