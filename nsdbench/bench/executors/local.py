"""Measure cells on this machine: one after another, or several at once in their own processes.

Cells that another process works on are left for last. Processes are spawned, one a cell; jobs x
threads never exceed the cores of this machine.
"""

import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from typing import Any

import torch

from nsdbench.bench import executors
from nsdbench.bench.claim import Measure, measure_claimed, record_death
from nsdbench.bench.display import Display
from nsdbench.bench.plan import Task
from nsdbench.bench.store import Store
from nsdbench.experts import Run
from nsdbench.sums import show_notices

SECONDS_BETWEEN_MESSAGES = 0.2  # of one worker; a fast loop would flood the pipe


def in_this_process(todo: Sequence[Task], run: Run, display: Display, measure: Measure) -> None:
    """Measure cells one after another.

    Args:
        todo: the cells.
        run: what they share.
        display: is told about every cell.
        measure: measures one.
    """
    busy: list[Task] = []
    for is_second_pass in (False, True):
        for task in busy if is_second_pass else todo:

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


def in_processes(
    todo: Sequence[Task], run: Run, display: Display, measure: Measure, jobs: int
) -> None:
    """Measure up to `jobs` cells at the same time; arguments as of `in_this_process`.

    `measure` must be importable by name.
    """
    context = multiprocessing.get_context("spawn")
    threads = max(1, executors.cores() // jobs)
    waiting = deque((task, False) for task in todo)
    running: dict[Connection, tuple[Task, Any]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                task, is_second_pass = waiting.popleft()
                ours, theirs = context.Pipe()
                arguments = (task, run, measure, theirs, threads, is_second_pass)
                process = context.Process(target=_work, args=arguments, daemon=True)
                process.start()
                theirs.close()
                running[ours] = (task, process)
            for ready in wait(list(running)):
                assert isinstance(ready, Connection)  # as all that is waited for
                task, process = running[ready]
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
                if kind == "busy":
                    waiting.append((task, True))
                    display.held(task, _holder(task, run))
                else:
                    display.finished(task, content[0])
    finally:
        for _, process in running.values():
            process.terminate()
        for _, process in running.values():
            process.join()


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
