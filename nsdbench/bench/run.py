"""Measure the cells of a plan; a bad cell never stops the run."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from nsdbench.bench.claim import Measure, can_stop, record_missing_data
from nsdbench.bench.display import Display
from nsdbench.bench.executors import Executor
from nsdbench.bench.executors.local import ThisProcess
from nsdbench.bench.kept import set_back
from nsdbench.bench.measure import measure as measure_cell
from nsdbench.bench.plan import Plan, Task
from nsdbench.bench.record import Record
from nsdbench.data.fetching.cache import find_cache_dir
from nsdbench.experts import Run
from nsdbench.files import sweep


class TimeUp(KeyboardInterrupt):
    """The time limit of a run is over: it ends as by Ctrl-C, but between two pieces of work."""


@dataclass
class Outcome:
    """How the cells of a plan ended.

    `is_interrupted` says that it was stopped, `is_time_up` that its time limit did.
    """

    done: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    data_missing: list[str] = field(default_factory=list)
    not_implemented: list[str] = field(default_factory=list)
    is_interrupted: bool = False
    is_time_up: bool = False

    @property
    def exit_code(self) -> int:
        """0 all done (or not implemented yet), 3 some failed or lack data, 4 time, 130 Ctrl-C."""
        if self.is_interrupted:
            return 4 if self.is_time_up else 130
        return 3 if self.failed or self.data_missing else 0

    def count(self, task: Task, record: Record) -> None:
        """File a finished cell under done, without data or failed."""
        if record.failure is None:
            self.done.append(task.cell.id)
        elif record.failure.kind == "data_missing":
            self.data_missing.append(task.cell.id)
        else:
            self.failed[task.cell.id] = record.failure.reason


def run_plan(
    plan: Plan,
    run: Run,
    display: Display,
    *,
    executor: Executor | None = None,
    missing: dict[str, str] | None = None,
    measure: Measure = measure_cell,
    seconds: float | None = None,
) -> Outcome:
    """Measure all todo cells of a plan and record those whose data is missing.

    What is kept of cells that start anew is set aside first.

    Args:
        plan: what to measure.
        run: where, with which data, on which device.
        display: is told about every cell.
        executor: measures the cells; None measures them in this process.
        missing: why data sets are missing, by name, in the words of the failure records.
        measure: measures a cell; importable by name, for the processes.
        seconds: the time limit. The run ends before the first piece of work (a step, an expert's
            epoch, a prior, a network that is judged) that would begin after it; what it was at is
            kept, in processes of their own as of the last checkpoint.

    Returns:
        How it went; after Ctrl-C what was finished is recorded and the rest goes on next time.
    """
    deadline = float("inf") if seconds is None else time.monotonic() + seconds
    sweep(_written_folders(run.results))
    outcome = Outcome(
        done=[planned.cell.id for planned in plan.with_status("done")],
        data_missing=[planned.cell.id for planned in plan.with_status("data missing")],
        not_implemented=[planned.cell.id for planned in plan.with_status("not implemented")],
    )
    for planned in plan.with_status("data missing"):
        if planned.task is not None:
            reason = planned.needs or (missing or {}).get(planned.cell.dataset) or planned.reason
            record_missing_data(planned.task, run, reason)
    for planned in plan.with_status("todo"):
        if planned.starts_anew and planned.task is not None:
            set_back(planned.cell, planned.task.recipe, run.results)
    counting = _Counting(outcome, display, deadline)
    try:
        (executor or ThisProcess()).measure_all(plan, run, counting, measure)
    except KeyboardInterrupt as stop:
        outcome.is_interrupted = True
        outcome.is_time_up = isinstance(stop, TimeUp)
    return outcome


def _written_folders(results: Path) -> Iterator[Path]:
    """List the folders that a run writes files to."""
    yield from (results / name for name in ("artefacts", "work", "experts"))
    for kind in ("records", "images", "figures"):
        yield from (results / kind).glob("*")
    if cache := find_cache_dir():
        yield from (cache / name for name in ("zca", "priors", "resized"))
        yield from (cache / "experts").glob("*")


class _Counting:
    """Passes on what a display is told, counts how the cells end, and ends the run in time."""

    def __init__(self, outcome: Outcome, display: Display, deadline: float):
        self._outcome = outcome
        self.held = display.held
        self._display = display
        self._deadline = deadline

    def started(self, task: Task) -> None:
        self._check_time()
        self._display.started(task)

    def progress(self, task: Task, phase: str, done: int, total: int, note: str = "") -> None:
        self._display.progress(task, phase, done, total, note)
        if can_stop(phase, done, total):
            self._check_time()

    def _check_time(self) -> None:
        if time.monotonic() >= self._deadline:
            raise TimeUp

    def finished(self, task: Task, record: Record) -> None:
        self._outcome.count(task, record)
        self._display.finished(task, record)
