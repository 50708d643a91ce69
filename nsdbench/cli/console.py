"""Plain and rich output of the command line: plans, and the progress of a run.

On a terminal a run shows a live line; elsewhere (a log, a pipe) it prints plain lines, one when a
cell starts, one when it ends, and one at most every half minute between.
"""

from __future__ import annotations

import codecs
import io
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from nsdbench.errors import counted
from nsdbench.progress import (
    SECONDS_BETWEEN_LINES,
    Pace,
    duration,
    has_live,
    live_lines,
    time_left,
)

if TYPE_CHECKING:
    from pathlib import Path

    from rich.progress import Progress

    from nsdbench.bench.plan import Plan, Task
    from nsdbench.bench.record import Record
    from nsdbench.bench.run import Outcome

SECONDS_TRUSTED = 60.0  # predicted time that must be measured before it outweighs the prediction
_PLAINLY = "nsdbench.plainly"
_PLAIN_SIGNS = str.maketrans({"\u00b1": "+-", "\u00d7": "x", "\u2013": "-", "\u2026": "..."})
_LOG_WIDTH = 400  # columns where the output is not a terminal: lines are not wrapped


def make_console(*, is_error: bool = False) -> Console:
    """Make the console of a command; wide and plain where the output is not a terminal."""
    # paths and reasons are printed as they are: no markup, no emoji
    console = Console(stderr=is_error, highlight=False, soft_wrap=True, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = _LOG_WIDTH
    return console


def make_printable(*streams: object) -> None:
    """Have streams replace the signs that their encoding lacks: "+-" for the plus-minus sign.

    No result shall be lost because a sign of it cannot be printed.
    """
    codecs.register_error(_PLAINLY, _plainly)
    for stream in streams:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_PLAINLY)


def _plainly(error: UnicodeError) -> tuple[str, int]:
    """Say in ASCII what cannot be encoded (an error handler of `codecs`)."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end].translate(_PLAIN_SIGNS)
    return text.encode("ascii", "backslashreplace").decode(), error.end


def size(num_bytes: float) -> str:
    """Write a number of bytes in the unit that reads best."""
    for unit, length in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if num_bytes >= length:
            return f"{num_bytes / length:.1f} {unit}"
    return f"{num_bytes:.0f} B"


def show_table(console: Console, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print aligned columns without a frame."""
    table = Table(*header, box=None, pad_edge=False, show_edge=False)
    for column in table.columns:
        column.no_wrap = True
    for row in rows:
        table.add_row(*map(Text, row))
    console.print(table)


def show_plan(console: Console, plan: Plan, seconds: Mapping[str, float]) -> None:
    """Print every cell with its status and predicted cost, then what is missing and the totals."""
    rows = []
    for planned in plan.cells:
        estimate = planned.estimate
        costs = ["", "", ""]
        if estimate is not None:
            stored, excess = estimate.stored_bytes, estimate.excess_ipc
            room = "-" if stored is None else size(stored)
            costs = [
                duration(seconds[planned.cell.id]) if planned.cell.id in seconds else "",
                size(estimate.peak_bytes),
                room if excess is None else f"{room} ({excess:.2f} ipc: over budget)",
            ]
        runs = f"{planned.seeds} x {planned.repeats}"
        note = planned.reason if planned.status != "data missing" else ""  # it follows below
        rows.append([planned.cell.id, runs, planned.status, *costs, note])
    header = ["cell", "sets x nets", "status", "time (est.)", "memory (est.)", "stored", ""]
    if rows:
        show_table(console, header, rows)
    for warning in plan.warnings:
        console.print(f"warning: {warning}", style="yellow")
    show_totals(console, plan, seconds)


def show_judged(
    console: Console, names: str, taken_for: str, records: Sequence[Record], results: Path
) -> None:
    """Print what a judged set was taken for, what it stores, and what every cell says of it."""
    from nsdbench.bench.record import Result
    from nsdbench.bench.store import Store
    from nsdbench.report.judged import lines, stored

    console.print(f"{names}: {taken_for}")
    measured = [record for record in records if isinstance(record, Result)]
    if measured:
        console.print(f"  {stored(measured[0])}")
    for note in dict.fromkeys(n for r in measured if r.judged for n in r.judged.notes):
        console.print(f"  note: {note}")
    for record in records:
        cell = record.cell
        console.print(f"{cell.arch}, protocol {cell.protocol}:")
        for line in lines(record):
            console.print(f"  {line}")
        console.print(f"  record {Store(results).path(cell.scale, cell.id)}")


def show_totals(console: Console, plan: Plan, seconds: Mapping[str, float]) -> None:
    """Print how many cells have each status, and the time of those to do."""
    statuses = [planned.status for planned in plan.cells]
    counts = ", ".join(f"{statuses.count(s)} {s}" for s in dict.fromkeys(statuses))
    cells = counted(len(plan.cells), "cell")
    text = f"{cells} at scale {plan.scale}{': ' if counts else ''}{counts}."
    left = sum(seconds[planned.cell.id] for planned in plan.with_status("todo"))
    if left:
        text += f" Estimated time: {duration(left)}, within a factor of three."
    console.print(text)


def show_lines(console: Console, things: Iterable[object]) -> None:
    """Print things as text, one per line."""
    for thing in things:
        console.print(str(thing))


def show_missing(console: Console, plan: Plan, reasons: Mapping[str, str]) -> None:
    """Print why data is missing, once per data set or prior, with every way to provide it."""
    without = plan.with_status("data missing")
    kept = Counter(p.needs or reasons.get(p.cell.dataset) or p.cell.dataset for p in without)
    for reason, cells in kept.items():
        console.print(f"{reason}\n  It keeps {counted(cells, 'cell')} from running.")


def show_outcome(console: Console, outcome: Outcome) -> None:
    """Print how a run ended."""
    for cell_id, reason in outcome.failed.items():
        console.print(f"failed: {cell_id}: {reason}", style="red")
    parts = [f"{len(outcome.done)} done"]
    for count, word in (
        (len(outcome.failed), "failed"),
        (len(outcome.data_missing), "without data"),
        (len(outcome.not_implemented), "not implemented"),
    ):
        parts += [f"{count} {word}"] if count else []
    text = ", ".join(parts)
    if outcome.is_interrupted:
        why = "Time is up" if outcome.is_time_up else "Stopped"
        text = f"{why} ({text}). The same command goes on from here."
    console.print(text)


@contextmanager
def resumable(console: Console) -> Iterator[None]:
    """Have a command that Ctrl-C or SIGTERM stops say that it goes on, and exit with 130."""
    try:
        yield
    except KeyboardInterrupt:
        console.print("Stopped. The same command goes on from here.")
        raise SystemExit(130) from None


@dataclass
class _UnderWay:
    """When a cell started and last told of itself, and when its phase will end at its pace."""

    started: float
    told: float
    phase: str = ""
    pace: Pace | None = None
    end: float = 0.0

    def keep(self, now: float, phase: str, done: int, total: int) -> None:
        """Take note of a piece; the first of a phase took the time since the last one."""
        if self.pace is None or self.phase != phase or done <= self.pace.done:
            self.phase, self.pace = phase, Pace(self.told, done - 1)
        self.told = self.end = now
        if now - self.pace.started >= SECONDS_BETWEEN_LINES:
            self.end += self.pace.left(now, done, total)


class RunDisplay:
    """Show a run while it goes on; use as a context manager."""

    def __init__(self, console: Console, plan: Plan, seconds: Mapping[str, float]) -> None:
        self._console = console
        todo = [task.cell.id for task in plan.todo()]
        self._predicted = {cell_id: seconds[cell_id] for cell_id in todo}
        self._total = len(todo)
        self._finished = 0
        self._under_way: dict[str, _UnderWay] = {}
        self._spent = 0.0
        self._spent_predicted = 0.0
        self._last_line = time.monotonic()
        self._live: Progress | None = None
        self._tasks: dict[str, Any] = {}

    def __enter__(self) -> RunDisplay:
        if has_live(self._console) and self._total:
            self._live = live_lines(self._console)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def started(self, task: Task) -> None:
        """Note that a cell starts."""
        cell_id = task.cell.id
        now = time.monotonic()
        self._under_way[cell_id] = _UnderWay(now, now)
        if self._live is not None:
            self._tasks[cell_id] = self._live.add_task(cell_id, total=None, note="")
        else:
            position = f"[{self._finished + len(self._under_way)}/{self._total}]"
            self._print(f"{position} {cell_id}{self._left()}")

    def held(self, task: Task, holder: str) -> None:
        """Show who works on a cell."""
        self._print(f"    {task.cell.id}: {holder} works on it; left for last")

    def progress(self, task: Task, phase: str, done: int, total: int, note: str = "") -> None:
        """Show where a cell is; without a terminal, at most every half minute."""
        text = f"{phase} {done}/{total} {note}".rstrip()
        self._under_way[task.cell.id].keep(time.monotonic(), phase, done, total)
        if self._live is not None:
            bar = self._tasks[task.cell.id]
            self._live.update(bar, completed=done, total=total, note=text + self._left())
        elif time.monotonic() - self._last_line >= SECONDS_BETWEEN_LINES:
            self._print(f"    {task.cell.id}: {text}{self._left()}")

    def finished(self, task: Task, record: Record) -> None:
        """Show what a cell came to, and learn from it how good the estimates are."""
        from nsdbench.bench.record import Result

        cell_id = task.cell.id
        now = time.monotonic()
        begun = self._under_way.pop(cell_id, None)  # None: another process measured it
        seconds = now - begun.started if begun else 0.0
        self._finished += 1
        self._spent += seconds
        self._spent_predicted += self._predicted.get(cell_id, 0.0)
        if cell_id in self._tasks and self._live is not None:
            self._live.remove_task(self._tasks.pop(cell_id))
        if isinstance(record, Result):
            outcome = f"{record.accuracy} (n = {record.accuracy.n})"
            outcome += f", diverged?: {record.runaway}" if record.runaway else ""
        else:
            outcome = f"failed: {record.failure.line}" if record.failure else "failed"
        self._print(f"    {cell_id}: {outcome}, {duration(seconds)}")

    def _left(self) -> str:
        """Estimate the time left.

        It is what was predicted, corrected by the cells already measured. A cell takes at least
        until the phase that it is in will end at its pace.
        """
        now = time.monotonic()
        trusted = SECONDS_TRUSTED + self._spent_predicted
        factor = (SECONDS_TRUSTED + self._spent) / trusted
        under_way = {
            cell_id: max(
                0.0,
                factor * self._predicted.get(cell_id, 0.0) - (now - cell.started),
                cell.end - now,
            )
            for cell_id, cell in self._under_way.items()
        }
        remaining = sum(self._predicted.values()) - self._spent_predicted
        remaining -= sum(self._predicted.get(cell_id, 0.0) for cell_id in under_way)
        left = factor * max(0.0, remaining) + sum(under_way.values())
        return time_left(left)

    def _print(self, text: str) -> None:
        self._last_line = time.monotonic()
        self._console.print(text)
