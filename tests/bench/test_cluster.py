"""Cells on a Ray cluster of several nodes on this machine end with the records of home."""

import sys
import time
from collections import defaultdict
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from nsdbench.bench import plan as planning
from nsdbench.bench.executors.order import Order
from nsdbench.bench.measure import measure
from nsdbench.bench.plan import Choice, Plan
from nsdbench.bench.run import run_plan
from nsdbench.bench.store import Store
from nsdbench.experts import Run
from tests.bench.test_resume import METHOD, TABLE
from tests.bench.test_run import Events, fake_measure, is_alive, planned_cell

ROOT = Path(__file__).parents[2]


@pytest.fixture
def nodes(monkeypatch):
    """Start a head that measures nothing and two nodes of one core; returns (cluster, nodes)."""
    ray = pytest.importorskip("ray", reason="needs pip install 'nsdbench[cluster]'")
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # of the nodes' processes
    monkeypatch.setenv("RAY_worker_niceness", "0")  # not behind all else on a busy machine
    monkeypatch.setenv("RAY_memory_monitor_refresh_ms", "0")  # whatever else fills the memory
    room = {"object_store_memory": 80 * 2**20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **room})
    try:
        two = [cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20) for _ in range(2)]
        ray.init(address=cluster.address, log_to_driver=False)
        yield cluster, two
    finally:
        ray.shutdown()
        cluster.shutdown()


LOST = "lost-node"  # a file in the results: the node that is to die


def on_a_node_that_dies(task, run):
    """Measure a cell; the first that distills names its node and waits until that is gone."""
    import ray

    def progress(phase, done, total, note=""):
        is_first = False
        if phase == "distill":
            with suppress(FileExistsError), (run.results / LOST).open("x") as file:
                file.write(ray.get_runtime_context().get_node_id())
                is_first = True
        run.progress(phase, done, total, note)
        if is_first:
            time.sleep(300)
            raise TimeoutError("the node was not taken away")

    return measure(task, replace(run, progress=progress))


@pytest.fixture
def one_thread():
    """Compute here as the nodes do: sums of two threads differ in their last bits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Killing(Events):
    """Take the node away that waits for it."""

    def __init__(self, cluster, nodes, results):
        super().__init__()
        self.cluster, self.nodes, self.results, self.killed = cluster, nodes, results, False

    def progress(self, planned, phase, done, total, note):
        super().progress(planned, phase, done, total, note)
        file = self.results / LOST
        if not self.killed and file.exists() and (lost := file.read_text()):
            self.killed = True
            node = next(node for node in self.nodes if node.node_id == lost)
            self.cluster.remove_node(node, allow_graceful=False)


def executor(**options):
    from nsdbench.bench.executors.cluster import Cluster

    return Cluster(**options)


def comparable(results, plan):
    store = Store(results)
    return {
        task.cell.id: store.read(task.cell.scale, task.cell.id).comparable() for task in plan.todo()
    }


def run_twice(tmp_path, nodes, monkeypatch, names):
    """Run tables at home and on two nodes, one of which is killed; returns both and the events."""
    found = []
    events = Killing(*nodes, tmp_path / "cluster")
    for place, display, options in (
        ("home", Events(), {}),
        ("cluster", events, {"executor": executor(), "measure": on_a_node_that_dies}),
    ):
        monkeypatch.setenv("NSDBENCH_CACHE", str(tmp_path / place / "cache"))
        run = Run(tmp_path / place)
        plan = planning.make(Choice(names), run)
        outcome = run_plan(plan, run, display, **options)
        assert outcome.failed == {} and outcome.exit_code == 0, outcome
        found.append(comparable(tmp_path / place, plan))
    return *found, events


def test_what_cells_share_is_made_by_the_first_of_them():
    """Table 4 at scale smoke: a method's set is judged by four networks."""
    where = {"method": ["mtt", "nsd"]}
    cells = planning.make(Choice(["table4"], where=where), Run(Path("nonexistent"))).cells
    by_method = {m: [p for p in cells if p.cell.method == m] for m in ("mtt", "nsd")}
    assert [len(group) for group in by_method.values()] == [4, 4]
    order, begun = Order(cells), []
    while (planned := order.next()) is not None:
        begun.append(planned.cell)
    leaders = {cell.method: cell.id for cell in begun}
    shares_experts = len(begun) == 1
    assert len(begun) == len(leaders) and order
    first = begun[0].id
    order.progressed(first, "experts")
    assert order.next() is None, "the experts are not made yet"
    order.progressed(first, "distill")
    if shares_experts:
        begun.append(order.next().cell)
    assert {cell.method for cell in begun} == {"mtt", "nsd"}
    assert order.next() is None, "each method's set is in the making"
    order.progressed(first, "evaluate")
    assert [order.next().cell.method for _ in range(3)] == [begun[0].method] * 3
    assert order.next() is None
    order.ended(begun[1].id, is_done=False)
    heir = order.next()
    assert heir.cell.method == begun[1].method, "a cell that failed leaves its work to another"
    assert order.next() is None
    order.again(heir)
    assert order.next() is not None
    order.ended(heir.cell.id, is_done=True)
    assert order and order.next() is not None


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "no port", "x:99999999"])
def test_an_address_where_nobody_answers_is_one_line(address, tmp_path):
    pytest.importorskip("ray", reason="needs pip install 'nsdbench[cluster]'")
    plan = Plan("smoke", (planned_cell("good"),))
    with pytest.raises(ValueError, match="no Ray cluster answers .*; start one with") as refused:
        run_plan(plan, Run(tmp_path), Events(), executor=executor(address=address))
    assert str(refused.value).startswith(f"--address {address}: ")
    assert "\n" not in str(refused.value)


def test_without_ray_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ValueError, match="Ray does not load .*pip install 'nsdbench"):
        executor()


class Submitting:
    """Stand in for Ray where a task is submitted: keep what it asks for."""

    def remote(self, *, max_calls):
        assert max_calls == 1
        return lambda work: self

    def options(self, **asked):
        self.asked = asked
        return SimpleNamespace(remote=lambda *arguments: None)


@pytest.mark.parametrize("most_bytes", [1e15, 1e6, 0])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_task_asks_for_cores_a_gpu_and_the_memory_of_the_plan(monkeypatch, device, most_bytes):
    from nsdbench.bench.executors import cluster

    ray = Submitting()
    monkeypatch.setattr(cluster, "_ray", lambda: ray)
    monkeypatch.setenv("NSDBENCH_DATA", "somewhere")
    run = Run(Path("nonexistent"), device=device)
    planned = planning.make(Choice(["table6"]), run).cells[0]
    session = cluster._Session(3, most_bytes, run, Events(), measure)
    session._submit(planned, None)
    asked = ray.asked
    assert (asked["num_cpus"], asked["num_gpus"]) == (3, int(device == "cuda"))
    memory = int(min(planned.estimate.peak_bytes, most_bytes))
    assert asked.get("memory", 0) == memory and planned.estimate.peak_bytes > 1e8
    assert asked["max_retries"] == 3 and asked["name"] == planned.cell.id
    variables = asked["runtime_env"]["env_vars"]
    assert variables["NSDBENCH_DATA"] == "somewhere" and variables["OMP_NUM_THREADS"] == "3"


@pytest.mark.usefixtures("one_thread")
def test_a_task_reports_without_waiting_for_an_answer(tmp_path):
    """Ray lends the core of a task that waits to another; this queue knows no `put` at all."""
    from nsdbench.bench.executors import cluster

    told, task = [], planned_cell("good").task
    queue = SimpleNamespace(
        actor=SimpleNamespace(put_nowait=SimpleNamespace(remote=told.append)),
    )
    record = cluster._work(task, Run(tmp_path), fake_measure, 1, queue)
    assert record.accuracy.mean == 1.0, "threads"
    name = task.cell.id
    assert told == [(name,), (name, "evaluate", 0, 2, ""), (name, "evaluate", 2, 2, "")]


@pytest.mark.usefixtures("one_thread")
@pytest.mark.slow
def test_a_node_that_dies_changes_no_record(tmp_path, nodes, monkeypatch, add_to_suite):
    columns = "".join(
        f'{{ dataset = "Digits16", ipc = {ipc}, arch = "convnet1-w8" }},' for ipc in (1, 2, 3)
    )
    table = TABLE[: TABLE.index("columns")] + f"columns = [{columns}]\n"
    add_to_suite({"small": table}, {"tiny": METHOD})
    home, away, events = run_twice(tmp_path, nodes, monkeypatch, ["small"])
    assert len(home) == 6 and away == home
    assert events.killed, "nothing was killed"
    assert len(list((tmp_path / "cluster" / "cache" / "experts").iterdir())) == 1
    assert sorted(set(events.started_ids)) == sorted(set(events.records))


@pytest.mark.usefixtures("one_thread")
@pytest.mark.campaign
@pytest.mark.slow
def test_table_6_ends_on_a_cluster_as_at_home(tmp_path, nodes, monkeypatch):
    home, away, events = run_twice(tmp_path, nodes, monkeypatch, ["table6"])
    assert len(home) == 6 and away == home
    assert events.killed


def measure_and_tell_often(task, run):
    """Measure a cell that reports much; keep where it was measured, and from when to when."""
    import ray

    begun, node = time.time(), ray.get_runtime_context().get_node_id()
    for _ in range(20):
        run.progress("distill", 1, 1)  # the end of a phase is always told
        time.sleep(0.05)
    record = fake_measure(task, run)
    (run.results / f"{task.cell.method}.times").write_text(f"{node} {begun} {time.time()}")
    return record


@pytest.mark.slow
def test_a_node_of_one_core_measures_one_cell_at_a_time(tmp_path, nodes):
    """While a task waits for an answer of Ray, its core is given to another: it must not wait."""
    plan = Plan("smoke", tuple(planned_cell(f"cell{number}") for number in range(5)))
    options = {"executor": executor(), "measure": measure_and_tell_often}
    assert run_plan(plan, Run(tmp_path), Events(), **options).exit_code == 0
    by_node = defaultdict(list)
    for path in tmp_path.glob("*.times"):
        node, *times = path.read_text().split()
        by_node[node].append(tuple(map(float, times)))
    assert sum(map(len, by_node.values())) == 5
    for times in map(sorted, by_node.values()):
        assert all(end <= begun for (_, end), (begun, _) in pairwise(times)), by_node


class Stopping(Events):
    """Press Ctrl-C once both nodes measure."""

    def progress(self, planned, phase, done, total, note):
        super().progress(planned, phase, done, total, note)
        if len({method for method, *_ in self.progressed}) == 2:
            raise KeyboardInterrupt


@pytest.mark.slow
def test_ctrl_c_ends_the_cells_on_all_nodes(tmp_path, nodes):
    plan = Plan("smoke", (planned_cell("endless"), planned_cell("silent")))
    outcome = run_plan(plan, Run(tmp_path), Stopping(), executor=executor(), measure=fake_measure)
    assert outcome.exit_code == 130 and outcome.done == [] and outcome.failed == {}
    processes = [int(path.name.rpartition("-")[2]) for path in tmp_path.glob("ran-*")]
    assert len(processes) == 2
    deadline = time.monotonic() + 60  # the cells themselves take longer
    while any(map(is_alive, processes)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(is_alive, processes))
    for planned in plan.cells:
        assert Store(tmp_path).read("smoke", planned.cell.id) is None
        with Store(tmp_path).lock("smoke", planned.cell.id, wait=False) as is_ours:
            assert is_ours


@pytest.mark.slow
def test_a_cluster_survives_everything_that_cells_do(tmp_path, nodes):
    cells = ("good", "raises", "fails", "dies")
    plan = Plan("smoke", tuple(planned_cell(method) for method in cells))
    events = Events()
    outcome = run_plan(plan, Run(tmp_path), events, executor=executor(), measure=fake_measure)
    assert outcome.done == [planned_cell("good").cell.id] and outcome.exit_code == 3
    reasons = {method: record.failure for method, record in events.records.items()}
    assert reasons["raises"].reason == "RuntimeError: broken\ncell"
    assert reasons["dies"].reason.startswith("the cluster gave it up: WorkerCrashedError")
    assert set(events.started_ids) == set(cells)
    for method in cells:
        assert Store(tmp_path).read("smoke", planned_cell(method).cell.id) is not None
