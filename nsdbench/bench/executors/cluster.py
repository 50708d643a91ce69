"""Measure cells as tasks of a Ray cluster (`pip install 'nsdbench[cluster]'`).

A task asks for cores, a GPU where networks are trained on one, and the memory that the plan
predicts. Priors, experts and sets are made by the first cell that needs them, and the others wait.
Where a node dies, Ray starts its cells again on others. Records are written here, by the driver,
which holds the cells against other runs meanwhile.

Nodes should share the results folder and $NSDBENCH_CACHE: then a cell goes on where the lost node
left it, and experts are made once. Without that every node makes its own, with the same result, and
sets and pictures stay where they were made.
"""

import os
import re
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from nsdbench.bench import executors
from nsdbench.bench.claim import Measure, attempt, claimed, failure
from nsdbench.bench.display import Display
from nsdbench.bench.executors.order import Order
from nsdbench.bench.plan import Plan, PlannedCell, Task
from nsdbench.bench.record import Record
from nsdbench.bench.store import Store
from nsdbench.errors import counted
from nsdbench.experts import Run

RETRIES = 3  # our choice: how often a cell begins again after a node, or its process, died
SECONDS_BETWEEN_MESSAGES = 0.2  # of one cell; a fast loop would flood the driver
SECONDS_BETWEEN_LOOKS = 0.1
_PATIENCE_SECONDS = 10.0


@dataclass(frozen=True)
class Cluster:
    """Measure cells on the nodes of a Ray cluster.

    Attributes:
        address: of the cluster, as `ray.init` takes it; None makes one of this machine. A
            connection that there is already is used, whatever the address.
        cores: CPU cores that a cell asks for, and threads it computes with.

    Raises:
        ValueError: Ray is not installed, or a cell has no core.
    """

    address: str | None = None
    cores: int = 1

    def __post_init__(self) -> None:
        _ray()
        if self.cores < 1:
            raise ValueError(f"--cores-per-cell {self.cores}: expected at least 1")

    def measure_all(self, plan: Plan, run: Run, display: Display, measure: Measure) -> None:
        """Measure the cells that are to do, see `Executor`.

        Raises:
            ValueError: no cluster answers, or no node of it has what a cell asks for.
        """
        if not plan.todo():
            return
        run = replace(
            run,
            results=run.results.resolve(),
            data_root=run.data_root and run.data_root.resolve(),
            device="cuda" if run.has_gpu else run.device,  # a task sees the GPU it was given alone
        )
        with _connected(self.address):
            most_bytes = self._largest_node(run)
            _Session(self.cores, most_bytes, run, display, measure).measure_all(plan)

    def _largest_node(self, run: Run) -> float:
        """Return the bytes of the largest node that has what a cell asks for."""
        wanted = {"CPU": self.cores, "GPU": int(run.has_gpu)}
        nodes = [node["Resources"] for node in _ray().nodes() if node["Alive"]]
        fit = [n for n in nodes if all(n.get(key, 0) >= count for key, count in wanted.items())]
        if not fit:
            gpu = " and a GPU" if run.has_gpu else ""
            raise ValueError(
                f"a cell asks for {counted(self.cores, 'core')}{gpu}, and no node of the cluster "
                f"has that; it has {counted(len(nodes), 'node')}"
            )
        return max(float(node.get("memory", 0)) for node in fit)


@dataclass
class _Session:
    """What the driver knows of one run on a cluster.

    Attributes:
        most_bytes: no cell asks for more memory; predictions are within a factor of three.
        claims: of the cells that are under way, by id.
        running: cells by what Ray will give for them.
        begun: ids of the cells that were shown as started.
    """

    cores: int
    most_bytes: float
    run: Run
    display: Display
    measure: Measure
    claims: dict[str, ExitStack] = field(default_factory=dict)
    running: dict[Any, PlannedCell] = field(default_factory=dict)
    begun: set[str] = field(default_factory=set)

    def measure_all(self, plan: Plan) -> None:
        """Measure all cells that are to do; whatever ends it ends them."""
        ray, queue = _ray(), _queue()
        cells = [planned for planned in plan.with_status("todo") if planned.task is not None]
        tasks = {task.cell.id: task for task in plan.todo()}
        order, elsewhere = Order(cells), set()
        try:
            while order or self.running:
                if (planned := order.next()) is not None:
                    is_ours, record = self._claim(planned)
                    if is_ours and record is None:
                        self.running[self._submit(planned, queue)] = planned
                        continue
                    if record is not None:  # another process was faster
                        order.ended(planned.cell.id, is_done=True)
                        self._finish(planned, record)
                        continue
                    order.again(planned)
                    if planned.cell.id not in elsewhere:
                        elsewhere.add(planned.cell.id)
                        self._tell_held(planned)
                time.sleep(SECONDS_BETWEEN_LOOKS)
                for cell_id, *content in queue.get_nowait_batch(queue.qsize()):
                    if cell_id in self.claims:
                        self._hear(tasks[cell_id], content, order)
                ended, _ = ray.wait(list(self.running), timeout=0) if self.running else ((), ())
                for reference in ended:
                    planned = self.running.pop(reference)
                    record = self._result(planned, reference)
                    self._begin(tasks[planned.cell.id])  # what it reported last may be lost
                    order.ended(planned.cell.id, record.failure is None)
                    self._finish(planned, record)
        finally:
            for reference in self.running:
                ray.cancel(reference, force=True)
            for claim in self.claims.values():
                claim.close()

    def _claim(self, planned: PlannedCell) -> tuple[bool, Record | None]:
        """Hold a cell; returns whether it is ours, and its record if another run has made it."""
        assert planned.task is not None
        stack = ExitStack()
        is_ours, record = stack.enter_context(claimed(planned.task, self.run, wait=False))
        if is_ours:
            self.claims[planned.cell.id] = stack
        return is_ours, record

    def _submit(self, planned: PlannedCell, queue: Any) -> Any:
        """Have Ray measure a cell as soon as a node has room."""
        asked: dict[str, Any] = {"num_cpus": self.cores, "num_gpus": int(self.run.has_gpu)}
        if planned.estimate is not None and self.most_bytes:
            asked["memory"] = int(min(planned.estimate.peak_bytes, self.most_bytes))
        variables = {key: text for key, text in os.environ.items() if key.startswith("NSDBENCH_")}
        variables["OMP_NUM_THREADS"] = str(self.cores)
        in_its_own_process = _ray().remote(max_calls=1)(_work)
        work = in_its_own_process.options(
            **asked,
            max_retries=RETRIES,
            runtime_env={"env_vars": variables},
            name=planned.cell.id,
        )
        return work.remote(planned.task, self.run, self.measure, self.cores, queue)

    def _hear(self, task: Task, content: list[Any], order: Order) -> None:
        """Pass on what a cell reports."""
        self._begin(task)
        if content:
            order.progressed(task.cell.id, content[0])
            self.display.progress(task, *content)

    def _begin(self, task: Task) -> None:
        """Show that a cell has started, once."""
        if task.cell.id not in self.begun:
            self.begun.add(task.cell.id)
            self.display.started(task)

    def _result(self, planned: PlannedCell, reference: Any) -> Record:
        """Take the record of a cell, or make one of its failure, and write it."""
        ray, task = _ray(), planned.task
        assert task is not None
        try:
            record: Record = ray.get(reference)
        except ray.exceptions.RayError as error:
            kind = "memory" if isinstance(error, ray.exceptions.OutOfMemoryError) else "error"
            line = next(iter(str(error).splitlines()), "")
            record = failure(task, kind, f"the cluster gave it up: {type(error).__name__}: {line}")
        Store(self.run.results).write(record)
        return record

    def _finish(self, planned: PlannedCell, record: Record) -> None:
        assert planned.task is not None
        self.claims.pop(planned.cell.id).close()
        self.display.finished(planned.task, record)

    def _tell_held(self, planned: PlannedCell) -> None:
        assert planned.task is not None
        cell = planned.cell
        self.display.held(planned.task, Store(self.run.results).holder(cell.scale, cell.id))


def _work(task: Task, run: Run, measure: Measure, threads: int, queue: Any) -> Record:
    """Measure one cell on a node, and tell the driver how it goes."""
    torch.set_num_threads(threads)
    last, last_phase = -SECONDS_BETWEEN_MESSAGES, ""
    # `queue.put` would wait for an answer, and Ray lends the core of a task that waits to another.
    tell = queue.actor.put_nowait.remote
    tell((task.cell.id,))

    def progress(phase: str, done: int, total: int, note: str = "") -> None:
        nonlocal last, last_phase
        now = time.monotonic()
        if done >= total or phase != last_phase or now - last >= SECONDS_BETWEEN_MESSAGES:
            last, last_phase = now, phase
            tell((task.cell.id, phase, done, total, note))

    return attempt(task, replace(run, progress=progress), measure)


@contextmanager
def _connected(address: str | None) -> Iterator[None]:
    """Connect to a cluster, or use the connection that there is."""
    ray = _ray()
    if ray.is_initialized():
        yield
        return
    where: dict[str, Any] = {"address": address}
    if address is None:
        where = {"num_cpus": executors.cores(), "include_dashboard": False}
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would report to its makers
    try:
        _call(address or "")
        ray.init(**where, log_to_driver=False, logging_level="warning")
    except (OSError, ValueError, RuntimeError) as error:
        line = next(iter(str(error).splitlines()), type(error).__name__)
        raise ValueError(
            f"--address {address}: no Ray cluster answers ({line}); start one with "
            "`ray start --head`, or leave --address out to use this machine alone"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _call(address: str) -> None:
    """See whether anybody answers at "host:port"; Ray itself would try for minutes.

    Raises:
        OSError: nobody does.
    """
    found = re.fullmatch(r"(?:ray://)?(.+):(\d+)", address)
    if found:
        socket.create_connection((found[1], int(found[2])), timeout=_PATIENCE_SECONDS).close()


def _queue() -> Any:
    """Make the queue of what cells report; it lives on the driver's node, which is not lost."""
    from ray.util.queue import Queue
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = _ray().get_runtime_context().get_node_id()
    strategy = NodeAffinitySchedulingStrategy(here, soft=False)
    return Queue(actor_options={"num_cpus": 0, "scheduling_strategy": strategy})


def _ray() -> Any:
    """Load Ray, an optional requirement."""
    try:
        import ray
    except ImportError as error:
        raise ValueError(
            f"--executor ray: Ray does not load ({error}); pip install 'nsdbench[cluster]'"
        ) from error
    return ray
