"""How long work says how far it is."""

from typing import Protocol


class Progress(Protocol):
    """Called after every piece of work of a phase ("experts", "distill", "evaluate")."""

    def __call__(self, phase: str, done: int, total: int, note: str = "") -> object:
        """Take note that `done` of `total` pieces are finished."""


def silent(phase: str, done: int, total: int, note: str = "") -> None:
    """Report no progress."""
