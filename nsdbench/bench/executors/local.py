"""Measure cells on this machine: one after another, or several at once in their own processes.

Cells that another process works on are left for last. Processes are spawned, one a cell; processes
x threads never exceed the cores of this machine.
"""

import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from typing import Any

import torch

from nsdbench.bench import executors
from nsdbench.bench.claim import Measure, measure_claimed, record_death
from nsdbench.bench.display import Display
from nsdbench.bench.executors import Executor
from nsdbench.bench.plan import Plan, Task
from nsdbench.bench.store import Store
from nsdbench.experts import Run
from nsdbench.sums import show_notices

SECONDS_BETWEEN_MESSAGES = 0.2  # of one worker; a fast loop would flood the pipe


@dataclass(frozen=True)
class ThisProcess:
    """Measure cells one after another, in this process."""

    def measure_all(self, plan: Plan, run: Run, display: Display, measure: Measure) -> None:
        """Measure the cells that are to do, see `Executor`."""
        busy: list[Task] = []
        for is_second_pass in (False, True):
            for task in busy if is_second_pass else plan.todo():

                def started(task: Task = task) -> None:
                    display.started(task)

                def progress(
                    phase: str, done: int, total: int, note: str = "", task: Task = task
                ) -> None:
                    display.progress(task, phase, done, total, note)

                record = measure_claimed(
                    task,
                    replace(run, progress=progress),
                    measure,
                    started,
                    wait_for_others=is_second_pass,
                )
                if record is None:
                    busy.append(task)
                    display.held(task, _holder(task, run))
                else:
                    display.finished(task, record)


@dataclass(frozen=True)
class Processes:
    """Measure several cells at the same time, each in a process of its own.

    Attributes:
        devices: one cell at a time on each: "cpu" twice is two cells on this machine's cores.
    """

    devices: tuple[str, ...]

    def measure_all(self, plan: Plan, run: Run, display: Display, measure: Measure) -> None:
        """Measure the cells that are to do, see `Executor`."""
        context = multiprocessing.get_context("spawn")
        threads = max(1, executors.cores() // len(self.devices))
        waiting = deque((task, False) for task in plan.todo())
        free = deque(self.devices)
        running: dict[Connection, tuple[Task, Any, str]] = {}
        try:
            while waiting or running:
                while waiting and free:
                    task, is_second_pass = waiting.popleft()
                    device = free.popleft()
                    ours, theirs = context.Pipe()
                    of_device = replace(run, device=device)
                    arguments = (task, of_device, measure, theirs, threads, is_second_pass)
                    process = context.Process(target=_work, args=arguments, daemon=True)
                    process.start()
                    theirs.close()
                    running[ours] = (task, process, device)
                for ready in wait(list(running)):
                    assert isinstance(ready, Connection)  # as all that is waited for
                    task, process, device = running[ready]
                    try:
                        kind, *content = ready.recv()
                    except (EOFError, OSError):  # OSError: it died in the middle of a message
                        process.join()
                        kind, content = "record", [record_death(task, process.exitcode, run)]
                    if kind == "started":
                        display.started(task)
                        continue
                    if kind == "progress":
                        display.progress(task, *content)
                        continue
                    del running[ready]
                    ready.close()
                    process.join()
                    free.append(device)
                    if kind == "busy":
                        waiting.append((task, True))
                        display.held(task, _holder(task, run))
                    else:
                        display.finished(task, content[0])
        finally:
            for _, process, _ in running.values():
                process.terminate()
            for _, process, _ in running.values():
                process.join()


def executor(jobs: int = 1, devices: Sequence[str] = (), device: str = "cpu") -> Executor:
    """Choose how cells are measured on this machine.

    Args:
        jobs: cells at the same time on one device; 1 measures in this process.
        devices: measures one cell at a time on each of these instead.
        device: of `jobs`.

    Raises:
        ValueError: both are given, or more than this machine has cores.
    """
    if devices and jobs != 1:
        raise ValueError(f"--jobs {jobs}: --devices measures one cell a device; leave one out")
    option, count = ("--devices", len(devices)) if devices else ("--jobs", jobs)
    if not 1 <= count <= executors.cores():
        raise ValueError(
            f"{option} {','.join(devices) or jobs}: expected 1 to {executors.cores()}, the cores "
            "of this machine"
        )
    if not devices and jobs == 1:
        return ThisProcess()
    return Processes(tuple(devices) or (device,) * jobs)


def _holder(task: Task, run: Run) -> str:
    return Store(run.results).holder(task.cell.scale, task.cell.id)


def _work(
    task: Task,
    run: Run,
    measure: Measure,
    pipe: Connection,
    threads: int,
    wait_for_others: bool,
) -> None:
    """Measure one cell in a process of its own; ends at once if the parent is gone."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    show_notices()
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

    record = measure_claimed(
        task,
        replace(run, progress=progress),
        measure,
        lambda: send("started"),
        wait_for_others=wait_for_others,
    )
    send(*(("busy",) if record is None else ("record", record)))
    pipe.close()


def _end_with_parent() -> None:
    """Wait for the end of the parent and end this process; the next run goes on from its work."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
