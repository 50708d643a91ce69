"""Measure the cells of a plan; a bad cell never stops the run."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from nsdbench.bench.claim import Measure, record_missing_data
from nsdbench.bench.display import Display
from nsdbench.bench.executors import check_jobs, local
from nsdbench.bench.measure import measure as measure_cell
from nsdbench.bench.plan import Plan, Task
from nsdbench.bench.record import Record
from nsdbench.data.fetching.cache import find_cache_dir
from nsdbench.experts import Run
from nsdbench.files import sweep


@dataclass
class Outcome:
    """How the cells of a plan ended."""

    done: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    data_missing: list[str] = field(default_factory=list)
    not_implemented: list[str] = field(default_factory=list)
    is_interrupted: bool = False

    @property
    def exit_code(self) -> int:
        """0 all done (or not implemented yet), 3 some failed or lack data, 130 interrupted."""
        if self.is_interrupted:
            return 130
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
    jobs: int = 1,
    missing: dict[str, str] | None = None,
    measure: Measure = measure_cell,
) -> Outcome:
    """Measure all todo cells of a plan and record those whose data is missing.

    Args:
        plan: what to measure.
        run: where, with which data, on which device.
        display: is told about every cell.
        jobs: cells at the same time, 1 measures in this process.
        missing: why data sets are missing, by name, in the words of the failure records.
        measure: measures a cell; importable by name, for the processes.

    Returns:
        How it went; after Ctrl-C what was finished is recorded and the rest goes on next time.

    Raises:
        ValueError: jobs is below 1 or above the cores of this machine.
    """
    check_jobs(jobs)
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
    counting = _Counting(outcome, display)
    try:
        if jobs == 1:
            local.in_this_process(plan.todo(), run, counting, measure)
        else:
            local.in_processes(plan.todo(), run, counting, measure, jobs)
    except KeyboardInterrupt:
        outcome.is_interrupted = True
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
    """Passes on what a display is told, and counts how the cells end."""

    def __init__(self, outcome: Outcome, display: Display):
        self._outcome = outcome
        self.started = display.started
        self.held = display.held
        self.progress = display.progress
        self._display = display

    def finished(self, task: Task, record: Record) -> None:
        self._outcome.count(task, record)
        self._display.finished(task, record)
