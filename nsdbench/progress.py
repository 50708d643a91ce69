"""How long work shows where it is, with an estimate of the time left, and its curves.

On a terminal and in a notebook (which needs the package ipywidgets) there is a bar a phase;
elsewhere, in a log or a pipe, there are plain lines, one when a phase starts and one at most every
half minute. Curves go to TensorBoard's event files where a folder is named.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Live
    from rich.progress import TaskID

SECONDS_BETWEEN_LINES = 30.0  # of plain lines
_LEAST_LEFT = 1.0  # seconds below which no time left is shown


class Progress(Protocol):
    """Called after every piece of work of a phase: "experts", "distill", "evaluate"."""

    def __call__(self, phase: str, done: int, total: int, note: str = "") -> object:
        """Take note that `done` of `total` pieces are finished."""


Shown = Progress | Literal["bar"] | None  # what public functions take for their `progress`


def silent(phase: str, done: int, total: int, note: str = "") -> None:
    """Report no progress."""


@contextmanager
def reporting(progress: Shown) -> Iterator[Progress]:
    """Yield what to call after every piece of work.

    Args:
        progress: "bar" for bars or lines on the standard error stream, None for nothing, or
            whatever is to be called.

    Raises:
        ValueError: another word.
    """
    if progress is None:
        yield silent
    elif progress == "bar":
        with Bars() as bars:
            yield bars
    elif callable(progress):
        yield progress
    else:
        raise ValueError(
            f'progress is {progress!r}; expected "bar", None, or a function of (phase, done, '
            "total, note)"
        )


class Curve(Protocol):
    """Called with every value of a curve."""

    def __call__(self, name: str, value: float, step: int) -> object:
        """Take note of the value of a curve at a step."""


@contextmanager
def curves(folder: Path | None, first: int = 1) -> Iterator[Curve | None]:
    """Yield what to call with every value of a curve; TensorBoard shows the folder.

    Args:
        folder: of the event file; None keeps nothing, and yields None.
        first: the step that comes next; what a run has written before it was interrupted, from
            there on, is hidden.

    Raises:
        ValueError: TensorBoard is not installed.
    """
    if folder is None:
        yield None
        return
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ValueError(
            f"curves need TensorBoard, which cannot be loaded ({error}); "
            "pip install 'nsdbench[tensorboard]'"
        ) from error
    with SummaryWriter(folder, purge_step=first if first > 1 else None) as writer:
        yield writer.add_scalar


def duration(seconds: float) -> str:
    """Write a time in the unit that reads best: 8 s, 3.5 min, 2.1 h, 4.0 d."""
    for unit, length in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 1.5 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"


def time_left(seconds: float) -> str:
    """Write the time left at the end of a line, nothing of less than a second."""
    return f", about {duration(seconds)} left" if seconds >= _LEAST_LEFT else ""


def has_live(console: Console) -> bool:
    """Say whether a console can show lines that change: a terminal, or a notebook with widgets."""
    return console.is_terminal or (console.is_jupyter and find_spec("ipywidgets") is not None)


def live_lines(console: Console) -> Live:
    """Make lines that change: what, a bar, a note."""
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Live

    note = TextColumn("{task.fields[note]}", markup=False)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(bar_width=20), note)
    return Live(*columns, console=console, transient=True)


@dataclass(frozen=True)
class Pace:
    """When a phase was first seen, with how many pieces done: a resumed one has more than none."""

    started: float
    done: int

    def left(self, now: float, done: int, total: int) -> float:
        """Estimate the seconds left from the pieces that were done since; 0 before the first."""
        if done <= self.done:
            return 0.0
        return (now - self.started) * (total - done) / (done - self.done)


@dataclass(frozen=True)
class _Phase:
    """The pace of a phase; its bar, if there are bars."""

    pace: Pace
    bar: TaskID | None


class Bars:
    """Progress of one piece of work, phase by phase; use as a context manager, and call it.

    Args:
        console: where to show it; None takes the standard error stream.
    """

    def __init__(self, console: Console | None = None) -> None:
        from rich.console import Console as MadeConsole

        self._console = console or MadeConsole(stderr=True, highlight=False, markup=False)
        self._live: Live | None = None
        self._phases: dict[str, _Phase] = {}
        self._last_line = time.monotonic()

    def __enter__(self) -> Bars:
        if has_live(self._console):
            self._live = live_lines(self._console)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def __call__(self, phase: str, done: int, total: int, note: str = "") -> None:
        """Show where a phase is."""
        now = time.monotonic()
        is_new = phase not in self._phases
        if is_new:
            bar = self._live.add_task(phase, note="") if self._live else None
            self._phases[phase] = _Phase(Pace(now, done), bar)
        known = self._phases[phase]
        text = f"{done}/{total} {note}".rstrip() + time_left(known.pace.left(now, done, total))
        if self._live is not None and known.bar is not None:
            self._live.update(known.bar, completed=done, total=total, note=text)
        elif is_new or now - self._last_line >= SECONDS_BETWEEN_LINES:
            self._last_line = now
            self._console.print(f"{phase} {text}", markup=False, highlight=False, soft_wrap=True)
