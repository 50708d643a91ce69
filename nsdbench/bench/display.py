"""How a run reports its progress."""

from typing import Protocol

from nsdbench.bench.plan import Task
from nsdbench.bench.record import Record


class Display(Protocol):
    """Is told about every cell of a run."""

    def started(self, task: Task) -> None:
        """Work on a cell begins."""

    def held(self, task: Task, holder: str) -> None:
        """A cell is left for last: somebody works on it ("process 4711 on host")."""

    def progress(self, task: Task, phase: str, done: int, total: int, note: str) -> None:
        """A piece of work of a cell is done."""

    def finished(self, task: Task, record: Record) -> None:
        """A cell has a record."""
