"""Measure a cell under its lock, so that two processes never work on the same one.

What goes wrong in a cell, up to the death of its process, becomes its failure record.
"""

import signal
import traceback
from collections.abc import Callable

from nsdbench.bench.plan import Task
from nsdbench.bench.record import Record
from nsdbench.bench.store import Store
from nsdbench.errors import DataCorrupt
from nsdbench.experts import Run
from nsdbench.sums import set_aside

Measure = Callable[[Task, Run], Record]


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
        run: where, and who is told of progress.
        measure: measures it, as `measure.measure` does.
        started: called once the cell is ours and work begins.
        wait_for_others: whether to wait if another process has the cell.

    Returns:
        The record, or None if another process has the cell and we do not wait.
    """
    store = Store(run.results)
    scale, cell_id = task.cell.scale, task.cell.id
    with store.lock(scale, cell_id, wait=wait_for_others) as is_ours:
        if not is_ours:
            return None
        try:
            existing = store.read(scale, cell_id)
        except DataCorrupt as damage:
            set_aside(store.path(scale, cell_id), damage)
            existing = None
        if task.is_done(existing):
            return existing  # another process was faster
        started()
        try:
            record = measure(task, run)
            store.write(record)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            record = _failure(task, "error", reason, traceback.format_exc()[-4000:])
            store.write(record)
        return record


def record_missing_data(task: Task, run: Run, reason: str) -> None:
    """Record that a cell lacks its data, unless another process works on it."""
    _write_unless_taken(task, run, _failure(task, "data_missing", reason))


def record_death(task: Task, exit_code: int | None, run: Run) -> Record:
    """Record that the process of a cell ended without a word, unless another run has the cell."""
    reason = f"its process ended with exit code {exit_code}"
    kind = "error"
    if exit_code is not None and exit_code < 0:
        reason = f"its process was killed by signal {-exit_code}"
        if -exit_code == signal.SIGKILL:
            kind, reason = "memory", f"{reason}, as the system does when memory runs out"
    record = _failure(task, kind, reason)
    _write_unless_taken(task, run, record)
    return record


def _write_unless_taken(task: Task, run: Run, record: Record) -> None:
    store = Store(run.results)
    with store.lock(task.cell.scale, task.cell.id, wait=False) as is_ours:
        if is_ours:
            store.write(record)


def _failure(task: Task, kind: str, reason: str, traceback: str = "") -> Record:
    """Make the failure record of a planned cell."""
    return Record.failed(
        task.cell,
        kind,
        reason,
        traceback=traceback,
        recipe=task.recipe,
        protocol=task.protocol,
        seeds=task.seeds,
        repeats=task.repeats,
    )
