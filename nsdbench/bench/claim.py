"""Measure a cell under its lock, so that two processes never work on the same one.

What goes wrong in a cell, up to the death of its process, becomes its failure record.
"""

import signal
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from nsdbench.bench.facts import Cost
from nsdbench.bench.plan import Task
from nsdbench.bench.record import Record
from nsdbench.bench.store import Store
from nsdbench.errors import DataCorrupt
from nsdbench.experts import Progress, Run
from nsdbench.sums import set_aside

Measure = Callable[[Task, Run], Record]


class CellTimeUp(KeyboardInterrupt):
    """The time limit of a cell is over: its work ends as by Ctrl-C, and the next cell begins."""


def can_stop(phase: str, done: int, total: int) -> bool:
    """Say whether work that is stopped here goes on from here.

    A prior would start anew, and behind the last network only a record is left to write.
    """
    return phase != "prior" and (phase, done) != ("evaluate", total)


def measure_claimed(
    task: Task,
    run: Run,
    measure: Measure,
    started: Callable[[], None],
    *,
    wait_for_others: bool,
) -> Record | None:
    """Measure one cell under its lock and write its record.

    Args:
        task: the cell.
        run: where, who is told of progress, and how long the cell may take.
        measure: measures it, as `measure.measure` does.
        started: called once the cell is ours and work begins.
        wait_for_others: whether to wait if another process has the cell.

    Returns:
        The record, or None if another process has the cell and we do not wait. See `attempt`.
    """
    with claimed(task, run, wait=wait_for_others) as (is_ours, record):
        if is_ours and record is None:
            started()
            record = attempt(task, run, lambda *about: _written(measure(*about), run))
            if record.failure is not None:
                _written(record, run)
        return record


def _written(record: Record, run: Run) -> Record:
    Store(run.results).write(record)
    return record


@contextmanager
def claimed(task: Task, run: Run, *, wait: bool) -> Iterator[tuple[bool, Record | None]]:
    """Hold a cell against other processes.

    Args:
        task: the cell.
        run: where.
        wait: whether to wait if another process has the cell.

    Yields:
        Whether the cell is ours, and its record if another process has made it meanwhile.
    """
    store = Store(run.results)
    scale, cell_id = task.cell.scale, task.cell.id
    with store.lock(scale, cell_id, wait=wait) as is_ours:
        existing = None
        if is_ours:
            try:
                existing = store.read(scale, cell_id)
            except DataCorrupt as damage:
                set_aside(store.path(scale, cell_id), damage)
        yield is_ours, existing if task.is_done(existing) else None


def attempt(task: Task, run: Run, measure: Measure) -> Record:
    """Measure a cell; what goes wrong becomes the record of a failure, which is not written here.

    A cell whose time is up fails between two pieces of work; what is done is kept, and measuring it
    again goes on from there.
    """
    begun = time.monotonic()
    try:
        return measure(task, replace(run, progress=_limited(run, begun)))
    except CellTimeUp as limit:
        cost = Cost(seconds={"total": time.monotonic() - begun})
        return failure(task, "time", str(limit), cost=cost)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        return failure(task, "error", reason, traceback=traceback.format_exc()[-4000:])


def _limited(run: Run, begun: float) -> Progress:
    """Have progress end a cell whose time is up."""
    if (limit := run.cell_seconds) is None:
        return run.progress

    def progress(phase: str, done: int, total: int, note: str = "") -> None:
        run.progress(phase, done, total, note)
        if time.monotonic() - begun >= limit and can_stop(phase, done, total):
            raise CellTimeUp(
                f"its time limit of {limit:g} s ended at {phase} {done}/{total}; the next run goes "
                "on from there"
            )

    return progress


def record_missing_data(task: Task, run: Run, reason: str) -> None:
    """Record that a cell lacks its data, unless another process works on it."""
    _write_unless_taken(task, run, failure(task, "data_missing", reason))


def record_death(task: Task, exit_code: int | None, run: Run) -> Record:
    """Record that the process of a cell ended without a word, unless another run has the cell."""
    reason = f"its process ended with exit code {exit_code}"
    kind = "error"
    if exit_code is not None and exit_code < 0:
        reason = f"its process was killed by signal {-exit_code}"
        if -exit_code == signal.SIGKILL:
            kind, reason = "memory", f"{reason}, as the system does when memory runs out"
    record = failure(task, kind, reason)
    _write_unless_taken(task, run, record)
    return record


def _write_unless_taken(task: Task, run: Run, record: Record) -> None:
    store = Store(run.results)
    with store.lock(task.cell.scale, task.cell.id, wait=False) as is_ours:
        if is_ours:
            store.write(record)


def failure(task: Task, kind: str, reason: str, **fields: Any) -> Record:
    """Make the failure record of a planned cell; `fields` are others of `Record.failed`."""
    return Record.failed(
        task.cell,
        kind,
        reason,
        recipe=task.recipe,
        protocol=task.protocol,
        seeds=task.seeds,
        repeats=task.repeats,
        **fields,
    )
