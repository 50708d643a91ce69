"""Measure the cells of a plan: one after another, or several at once in their own processes.

A bad cell never stops the run: what goes wrong in it, up to the death of its process, becomes a
failure record and the next cell starts. Cells that another process works on are left for last.
Processes are spawned, one a cell; jobs x threads never exceed the cores of this machine.
"""

import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Protocol

import torch

from nsdbench.bench import measure as cells
from nsdbench.bench.plan import Plan, PlannedCell
from nsdbench.bench.record import Record
from nsdbench.bench.store import Store
from nsdbench.errors import DataCorrupt

SECONDS_BETWEEN_MESSAGES = 0.2  # of one worker; a fast loop would flood the pipe


class Display(Protocol):
    """What a run tells whoever watches it."""

    def started(self, planned: PlannedCell) -> None: ...

    def progress(
        self, planned: PlannedCell, phase: str, done: int, total: int, note: str
    ) -> None: ...

    def finished(self, planned: PlannedCell, record: Record) -> None: ...


@dataclass(frozen=True)
class Settings:
    """What every cell of a run shares.

    Attributes:
        results: folder of records, checkpoints and distilled sets.
        data_root: folder of data sets that is asked first.
        device: where networks are trained.
        command: the command line, for the records.
        run_cell: measures a cell as `cells.run` does; importable by name, for the processes.
    """

    results: Path
    data_root: Path | None = None
    device: str = "cpu"
    command: str = ""
    run_cell: Callable[..., Record] = cells.run


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


def cores() -> int:
    """Return the CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check_jobs(jobs: int) -> None:
    """Raise ValueError for a number of cells at the same time that this machine cannot have."""
    if not 1 <= jobs <= cores():
        raise ValueError(f"--jobs {jobs}: expected 1 to {cores()}, the cores of this machine")


def run(
    plan: Plan,
    settings: Settings,
    display: Display,
    *,
    jobs: int = 1,
    missing: dict[str, str] | None = None,
) -> Outcome:
    """Measure all todo cells of a plan and record those whose data is missing.

    Args:
        plan: what to measure.
        settings: where, with which data, on which device.
        display: is told about every cell.
        jobs: cells at the same time, 1 measures in this process.
        missing: why data sets are missing, by name, in the words of the failure records.

    Returns:
        How it went; after Ctrl-C what was finished is recorded and the rest goes on next time.

    Raises:
        ValueError: jobs is below 1 or above the cores of this machine.
    """
    check_jobs(jobs)
    outcome = Outcome(
        done=[planned.cell.id for planned in plan.with_status("done")],
        data_missing=[planned.cell.id for planned in plan.with_status("data missing")],
        not_implemented=[planned.cell.id for planned in plan.with_status("not implemented")],
    )
    store = Store(settings.results)
    for planned in plan.with_status("data missing"):
        _record_missing_data(planned, store, (missing or {}).get(planned.cell.dataset))
    measure_all = _in_this_process if jobs == 1 else _in_processes
    try:
        measure_all(plan.with_status("todo"), settings, display, outcome, jobs)
    except KeyboardInterrupt:
        outcome.is_interrupted = True
    return outcome


def measure(
    planned: PlannedCell,
    settings: Settings,
    started: Callable[[], None],
    progress: Callable[..., None],
    *,
    wait_for_others: bool,
) -> Record | None:
    """Measure one cell under its lock and write its record.

    Args:
        planned: the cell.
        settings: of the run.
        started: called once the cell is ours and work begins.
        progress: called as progress(phase, done, total, note).
        wait_for_others: whether to wait if another process has the cell.

    Returns:
        The record, or None if another process has the cell and we do not wait.
    """
    store = Store(settings.results)
    scale, cell_id = planned.cell.scale, planned.cell.id
    with store.lock(scale, cell_id, wait=wait_for_others) as is_ours:
        if not is_ours:
            return None
        try:
            former = store.read(scale, cell_id)
        except DataCorrupt:
            former = None
        asked = (planned.recipe_hash, planned.protocol_hash, planned.seeds, planned.repeats)
        if former is not None and former.is_done(planned.cell, *asked):
            return former  # another process was faster
        started()
        try:
            record = settings.run_cell(
                planned.cell,
                results=settings.results,
                seeds=planned.seeds,
                repeats=planned.repeats,
                data_root=settings.data_root,
                device=settings.device,
                command=settings.command,
                progress=progress,
            )
            store.write(record)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            record = _failure(planned, "error", reason, traceback.format_exc()[-4000:])
            store.write(record)
        return record


def _in_this_process(
    todo: list[PlannedCell], settings: Settings, display: Display, outcome: Outcome, jobs: int
) -> None:
    """Measure the cells one after another."""
    busy = []
    for is_second_pass in (False, True):
        for planned in busy if is_second_pass else todo:

            def started(planned: PlannedCell = planned) -> None:
                display.started(planned)

            def progress(
                phase: str, done: int, total: int, note: str = "", planned: PlannedCell = planned
            ) -> None:
                display.progress(planned, phase, done, total, note)

            record = measure(planned, settings, started, progress, wait_for_others=is_second_pass)
            if record is None:
                busy.append(planned)
            else:
                _count(planned, record, display, outcome)


def _in_processes(
    todo: list[PlannedCell], settings: Settings, display: Display, outcome: Outcome, jobs: int
) -> None:
    """Measure up to `jobs` cells at the same time."""
    context = multiprocessing.get_context("spawn")
    threads = max(1, cores() // jobs)
    waiting = deque((planned, False) for planned in todo)
    running: dict[Connection, tuple[PlannedCell, Any]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                planned, is_second_pass = waiting.popleft()
                ours, theirs = context.Pipe()
                arguments = (planned, settings, theirs, threads, is_second_pass)
                process = context.Process(target=_work, args=arguments, daemon=True)
                process.start()
                theirs.close()
                running[ours] = (planned, process)
            for ready in wait(list(running)):
                planned, process = running[ready]
                try:
                    kind, *content = ready.recv()
                except (EOFError, OSError):  # OSError: it died in the middle of a message
                    process.join()
                    kind, content = "record", [_record_death(planned, process.exitcode, settings)]
                if kind == "started":
                    display.started(planned)
                    continue
                if kind == "progress":
                    display.progress(planned, *content)
                    continue
                del running[ready]
                ready.close()
                process.join()
                if kind == "busy":
                    waiting.append((planned, True))
                else:
                    _count(planned, content[0], display, outcome)
    finally:
        for _, process in running.values():
            process.terminate()
        for _, process in running.values():
            process.join()


def _work(
    planned: PlannedCell,
    settings: Settings,
    pipe: Connection,
    threads: int,
    wait_for_others: bool,
) -> None:
    """Measure one cell in a process of its own; ends at once if the parent is gone."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what Ctrl-C means
    torch.set_num_threads(threads)
    last = -SECONDS_BETWEEN_MESSAGES

    def send(*message: Any) -> None:
        try:
            pipe.send(message)
        except OSError:
            os._exit(1)  # nobody is left to report to; the next run goes on from the checkpoints

    def progress(phase: str, done: int, total: int, note: str = "") -> None:
        nonlocal last
        now = time.monotonic()
        if done >= total or now - last >= SECONDS_BETWEEN_MESSAGES:
            last = now
            send("progress", phase, done, total, note)

    record = measure(
        planned, settings, lambda: send("started"), progress, wait_for_others=wait_for_others
    )
    send(*(("busy",) if record is None else ("record", record)))
    pipe.close()


def _end_with_parent() -> None:
    """Wait for the end of the parent and end this process; the next run goes on from its work."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _count(planned: PlannedCell, record: Record, display: Display, outcome: Outcome) -> None:
    """File a finished cell under done or failed."""
    if record.failure is None:
        outcome.done.append(planned.cell.id)
    elif record.failure.kind == "data_missing":
        outcome.data_missing.append(planned.cell.id)
    else:
        outcome.failed[planned.cell.id] = record.failure.reason
    display.finished(planned, record)


def _failure(planned: PlannedCell, kind: str, reason: str, traceback: str = "") -> Record:
    """Make the failure record of a planned cell."""
    return Record.failed(
        planned.cell, kind, reason, traceback=traceback,
        recipe_hash=planned.recipe_hash, protocol_hash=planned.protocol_hash,
        seeds=planned.seeds, repeats=planned.repeats,
    )  # fmt: skip


def _record_missing_data(planned: PlannedCell, store: Store, reason: str | None) -> None:
    """Record that a cell lacks its data, unless another process works on it."""
    with store.lock(planned.cell.scale, planned.cell.id, wait=False) as is_ours:
        if is_ours:
            store.write(_failure(planned, "data_missing", reason or planned.reason))


def _record_death(planned: PlannedCell, exit_code: int | None, settings: Settings) -> Record:
    """Record that the process of a cell ended without a word, unless another run has the cell."""
    reason = f"its process ended with exit code {exit_code}"
    kind = "error"
    if exit_code is not None and exit_code < 0:
        reason = f"its process was killed by signal {-exit_code}"
        if -exit_code == signal.SIGKILL:
            kind, reason = "memory", f"{reason}, as the system does when memory runs out"
    record = _failure(planned, kind, reason)
    store = Store(settings.results)
    with store.lock(planned.cell.scale, planned.cell.id, wait=False) as is_ours:
        if is_ours:
            store.write(record)
    return record
