"""Runs go on whatever a cell does, in one process and in several."""

import os
import platform
import signal
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from nsdbench.bench import executors
from nsdbench.bench.cell import Cell
from nsdbench.bench.claim import record_death
from nsdbench.bench.executors import local
from nsdbench.bench.facts import Provenance
from nsdbench.bench.plan import Plan, PlannedCell, Task
from nsdbench.bench.record import Record
from nsdbench.bench.run import run_plan
from nsdbench.bench.store import Store
from nsdbench.evaluation import protocols
from nsdbench.experts import Run
from nsdbench.methods import Recipe
from nsdbench.spread import summary

ROOT = Path(__file__).parents[2]


def fake_measure(task, run):
    """Stand in for `measure.measure`: what happens depends on the method's name."""
    cell, results, progress = task.cell, run.results, run.progress
    progress("evaluate", 0, 2, "")
    (results / f"ran-{cell.id}-{os.getpid()}").touch()
    if cell.method == "raises":
        raise RuntimeError("broken\ncell")
    if cell.method == "dies":
        os._exit(7)
    if cell.method == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if cell.method == "interrupted":
        raise KeyboardInterrupt
    if cell.method == "threads":
        time.sleep(0.5)
    if cell.method == "silent":
        time.sleep(120)
    for epoch in range(10 if cell.method == "prior" else 0):
        time.sleep(0.05)
        progress("prior", epoch + 1, 10, "")
    if cell.method == "prior":
        (results / "prior-is-kept").touch()
        progress("distill", 0, 1, "")
    for step in range(600 if cell.method == "endless" else 0):
        progress("distill", step, 600, "")
        time.sleep(0.1)
    progress("evaluate", 2, 2, "")
    if cell.method == "fails":
        return Record.failed(cell, "diverged", "the loss is nan")
    return Record.done(
        cell,
        recipe=task.recipe,
        protocol=task.protocol,
        seeds=task.seeds,
        repeats=task.repeats,
        accuracy=summary([[float(torch.get_num_threads())]]),
    )


def die_while_speaking(task, run, measure, pipe, threads, wait_for_others):
    """Stand in for `local._work`: be killed with half of a message sent."""
    os.write(pipe.fileno(), struct.pack("!i", 1000) + b"half")
    os.kill(os.getpid(), signal.SIGKILL)


def planned_cell(method, status="todo"):
    cell = Cell("Digits16", 1, method, "convnet2-w8", "common-10ep", "smoke")
    recipe = Recipe(method, "Digits16", 1, "smoke", method, "coreset", {}, {})
    task = Task(cell, recipe, protocols.get(cell.protocol), 3, 2)
    return PlannedCell(cell, 3, 2, ("table",), status, task=task)


class Events:
    """Remember what a display is told."""

    def __init__(self):
        self.started_ids, self.progressed, self.records = [], [], {}
        self.holders, self.order = {}, []

    def started(self, planned):
        self.started_ids.append(planned.cell.method)
        self.order.append(("started", planned.cell.method))

    def held(self, planned, holder):
        self.holders[planned.cell.method] = holder

    def progress(self, planned, phase, done, total, note):
        self.progressed.append((planned.cell.method, phase, done, total))

    def finished(self, planned, record):
        self.records[planned.cell.method] = record
        self.order.append(("finished", planned.cell.method))


def run(tmp_path, methods, jobs=1, devices=(), missing=None, **statuses):
    cells = [planned_cell(method) for method in methods]
    cells += [planned_cell(method, status) for method, status in statuses.items()]
    events = Events()
    plan = Plan("smoke", tuple(cells))
    outcome = run_plan(
        plan,
        Run(tmp_path),
        events,
        executor=local.executor(jobs, devices),
        missing=missing,
        measure=fake_measure,
    )
    return outcome, events


def record_of(tmp_path, method):
    return Store(tmp_path).read("smoke", planned_cell(method).cell.id)


@pytest.fixture
def two_cores(monkeypatch):
    """Pretend to have two cores, and let new processes find this file."""
    monkeypatch.setattr(executors, "cores", lambda: 2)
    monkeypatch.setattr(sys, "path", [*sys.path, str(ROOT)])


def test_a_bad_cell_never_stops_the_run(tmp_path):
    outcome, events = run(tmp_path, ["good", "raises", "fails", "fine"])
    assert [planned_cell(m).cell.id for m in ("good", "fine")] == outcome.done
    assert list(outcome.failed.values()) == ["RuntimeError: broken\ncell", "the loss is nan"]
    assert events.started_ids == ["good", "raises", "fails", "fine"] == list(events.records)
    assert ("good", "evaluate", 2, 2) in events.progressed
    failure = record_of(tmp_path, "raises").failure
    assert failure.kind == "error" and "RuntimeError: broken" in failure.traceback
    assert record_of(tmp_path, "fails").failure.kind == "diverged"
    assert record_of(tmp_path, "good").seeds == 3
    assert outcome.exit_code == 3


@pytest.mark.parametrize(
    ("methods", "statuses", "code"),
    [
        (["good"], {}, 0),
        ([], {"old": "done"}, 0),
        ([], {"sorcery": "not implemented", "old": "done"}, 0),
        (["good"], {"far": "data missing"}, 3),
        (["fails"], {}, 3),
    ],
)
def test_exit_codes(tmp_path, methods, statuses, code):
    outcome, events = run(tmp_path, methods, **statuses)
    assert outcome.exit_code == code
    assert events.started_ids == methods


def test_missing_data_is_recorded_in_the_words_given(tmp_path):
    outcome, _ = run(tmp_path, [], missing={"Digits16": "go and get it"}, **{"far": "data missing"})
    assert outcome.data_missing == [planned_cell("far").cell.id]
    record = record_of(tmp_path, "far")
    assert record.failure.kind == "data_missing"
    assert record.failure.reason == "go and get it"


def test_ctrl_c_stops_and_the_next_run_goes_on(tmp_path):
    outcome, _ = run(tmp_path, ["good", "interrupted", "fine"])
    assert outcome.is_interrupted and outcome.exit_code == 130
    assert outcome.done == [planned_cell("good").cell.id]
    assert record_of(tmp_path, "interrupted") is None
    with Store(tmp_path).lock("smoke", planned_cell("interrupted").cell.id, wait=False) as is_free:
        assert is_free


def test_a_cell_that_another_process_finished_is_not_measured_again(tmp_path):
    run(tmp_path, ["good"])
    outcome, events = run(tmp_path, ["good"])  # the plan does not know yet
    assert outcome.done == [planned_cell("good").cell.id]
    assert events.started_ids == [] and list(events.records) == ["good"]
    assert len(list(tmp_path.glob("ran-*"))) == 1


def test_a_cell_that_another_process_has_comes_last(tmp_path):
    store = Store(tmp_path)
    busy = planned_cell("busy").cell
    lock = store.lock("smoke", busy.id)
    lock.__enter__()

    class Releasing(Events):
        def finished(self, planned, record):
            super().finished(planned, record)
            if planned.cell.method == "good":
                lock.__exit__(None, None, None)

    events = Releasing()
    plan = Plan("smoke", (planned_cell("busy"), planned_cell("good")))
    outcome = run_plan(plan, Run(tmp_path), events, measure=fake_measure)
    assert events.started_ids == ["good", "busy"]
    assert events.holders == {"busy": f"process {os.getpid()} on {platform.node()}"}
    assert list((tmp_path / "work" / "locks").glob("*.holder")) == []
    assert outcome.exit_code == 0 and len(outcome.done) == 2


@pytest.fixture
def clock(monkeypatch):
    """Only sleep lets time pass in this process, so that a slow machine changes nothing."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(time, "sleep", lambda seconds: now.append(now.pop() + seconds))


def test_a_time_limit_ends_between_two_pieces_of_work(tmp_path, clock):
    """What is done by then is recorded, the rest is not begun, and the code says why it ended."""
    events = Events()
    plan = Plan("smoke", tuple(planned_cell(m) for m in ("good", "endless", "fine")))
    outcome = run_plan(plan, Run(tmp_path), events, measure=fake_measure, seconds=0.95)
    assert time.monotonic() == pytest.approx(1.0), "a step takes 0.1 s"
    assert (outcome.is_interrupted, outcome.is_time_up, outcome.exit_code) == (True, True, 4)
    assert events.started_ids == ["good", "endless"] and list(events.records) == ["good"]
    steps = [done for method, kind, done, _ in events.progressed if kind == "distill"]
    assert steps == list(range(11))
    assert record_of(tmp_path, "endless") is None and record_of(tmp_path, "good") is not None
    nothing = run_plan(plan, Run(tmp_path / "x"), Events(), measure=fake_measure, seconds=0.0)
    assert (nothing.done, nothing.exit_code) == ([], 4)
    enough, _ = run(tmp_path / "y", ["good"])
    assert (enough.is_time_up, enough.exit_code) == (False, 0)


def test_the_record_of_a_judged_cell_is_written_after_its_time(tmp_path, clock):
    """Nothing but the record is left to do when the last network is judged."""

    class Slow(Events):
        def progress(self, planned, phase, done, total, note):
            super().progress(planned, phase, done, total, note)
            if done == total:
                time.sleep(0.3)

    plan = Plan("smoke", (planned_cell("good"), planned_cell("fine")))
    outcome = run_plan(plan, Run(tmp_path), Slow(), measure=fake_measure, seconds=0.25)
    assert outcome.is_time_up and outcome.done == [planned_cell("good").cell.id]


def test_a_prior_in_the_making_is_finished_before_the_time_is_up(tmp_path, clock):
    """Stopped halfway, it would start anew, and a short limit would never get beyond it."""
    plan = Plan("smoke", (planned_cell("prior"),))
    outcome = run_plan(plan, Run(tmp_path), Events(), measure=fake_measure, seconds=0.1)
    assert outcome.is_time_up and outcome.done == []
    assert (tmp_path / "prior-is-kept").exists()


def test_a_cell_over_its_time_limit_fails_and_the_run_goes_on(tmp_path, clock):
    events = Events()
    plan = Plan("smoke", tuple(planned_cell(m) for m in ("endless", "good", "prior")))
    run = Run(tmp_path, cell_seconds=0.25)
    outcome = run_plan(plan, run, events, measure=fake_measure)
    assert outcome.done == [planned_cell("good").cell.id] and outcome.exit_code == 3
    failed = record_of(tmp_path, "endless")
    assert failed.failure.kind == "time" and failed.cost.total_seconds == pytest.approx(0.3)
    assert failed.failure.reason == (
        "its time limit of 0.25 s ended at distill 3/600; the next run goes on from there"
    )
    assert (tmp_path / "prior-is-kept").exists(), "a prior in the making is finished"
    assert record_of(tmp_path, "prior").failure.reason.startswith("its time limit of 0.25 s ended")


@pytest.mark.slow
def test_a_time_limit_ends_processes_too(tmp_path, two_cores, clock):
    """Here time passes when a cell is done alone, however long processes take to start."""

    class Waiting(Events):
        def finished(self, planned, record):
            super().finished(planned, record)
            time.sleep(20)

    plan = Plan("smoke", (planned_cell("endless"), planned_cell("good")))
    outcome = run_plan(
        plan, Run(tmp_path), Waiting(), executor=local.executor(2), measure=fake_measure, seconds=20
    )
    assert outcome.exit_code == 4 and outcome.done == [planned_cell("good").cell.id]


@pytest.mark.slow
def test_two_processes_survive_everything_their_cells_do(tmp_path, two_cores):
    methods = ["good", "dies", "raises", "killed", "fails", "fine"]
    outcome, events = run(tmp_path, methods, jobs=2)
    assert set(outcome.done) == {planned_cell(m).cell.id for m in ("good", "fine")}
    reasons = {m: record_of(tmp_path, m).failure for m in ("dies", "raises", "killed", "fails")}
    assert reasons["dies"].reason == "its process ended with exit code 7"
    assert reasons["killed"].kind == "memory" and "signal 9" in reasons["killed"].reason
    assert reasons["raises"].reason == "RuntimeError: broken\ncell"
    assert set(events.started_ids) == set(methods) == set(events.records)
    assert outcome.exit_code == 3


@pytest.mark.slow
def test_a_process_killed_in_the_middle_of_a_message_is_a_failure(tmp_path, two_cores, monkeypatch):
    monkeypatch.setattr(local, "_work", die_while_speaking)
    outcome, _ = run(tmp_path, ["good", "fine"], jobs=2)
    assert len(outcome.failed) == 2 and not outcome.done
    assert record_of(tmp_path, "good").failure.kind == "memory"


def test_a_death_is_not_recorded_over_another_run(tmp_path):
    planned = planned_cell("killed").task
    arguments = (planned, -signal.SIGKILL, Run(tmp_path))
    with Store(tmp_path).lock("smoke", planned.cell.id):
        recording = threading.Thread(target=record_death, args=arguments, daemon=True)
        recording.start()
        recording.join(10)
        assert not recording.is_alive(), "it waits for the other run"
    assert record_of(tmp_path, "killed") is None
    assert record_death(*arguments).failure.kind == "memory"
    assert record_of(tmp_path, "killed").failure.kind == "memory"


@pytest.mark.slow
def test_jobs_times_threads_stay_within_the_cores(tmp_path, two_cores):
    _, events = run(tmp_path, ["threads", "good"], jobs=2)
    assert [record.accuracy.mean for record in events.records.values()] == [1.0, 1.0]
    pids = {path.name.rpartition("-")[2] for path in tmp_path.glob("ran-*")}
    assert len(pids) == 2 and str(os.getpid()) not in pids
    for jobs in (0, 3):
        with pytest.raises(ValueError, match=f"--jobs {jobs}: expected 1 to 2"):
            run(tmp_path, ["good"], jobs=jobs)


def on_device(task, run):
    """Stand in for `measure.measure`: say where a cell was, and stay there for a moment.

    The first waits for a second, whose process may take longer to start.
    """
    (run.results / f"begun-{task.cell.id}").touch()
    deadline = time.monotonic() + 60
    while len(list(run.results.glob("begun-*"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(0.5)
    record = fake_measure(task, run)
    return record.model_copy(update={"provenance": Provenance(device=run.device)})


@pytest.mark.slow
def test_devices_take_one_cell_each(tmp_path, two_cores):
    """A device that no machine has stands in for a second card: nothing is computed on it."""
    plan = Plan("smoke", tuple(planned_cell(f"good{i}") for i in range(5)))
    events, executor = Events(), local.executor(devices=("cuda:0", "cuda:1"))
    outcome = run_plan(plan, Run(tmp_path), events, executor=executor, measure=on_device)
    used = [record.provenance.device for record in events.records.values()]
    assert len(outcome.done) == 5 and set(used) == {"cuda:0", "cuda:1"} and used.count(used[0]) < 5
    running, most = set(), 0
    for kind, method in events.order:
        (running.add if kind == "started" else running.remove)(method)
        most = max(most, len(running))
    assert most == 2


def test_more_devices_or_jobs_than_this_machine_has_are_refused(two_cores):
    with pytest.raises(ValueError, match="--devices cpu,cpu,cpu: expected 1 to 2, the cores"):
        local.executor(devices=("cpu",) * 3)
    with pytest.raises(ValueError, match="--jobs 2: --devices measures one cell a device"):
        local.executor(2, ("cpu", "cpu"))
    assert local.executor(2, device="cuda") == local.Processes(("cuda", "cuda"))
    assert local.executor() == local.ThisProcess()


PARENT = """
import sys
sys.path.append(sys.argv[1])
if __name__ == "__main__":
    from pathlib import Path
    from tests.bench.test_run import run
    run(Path(sys.argv[2]), [sys.argv[3], sys.argv[3]], jobs=2)
"""


@pytest.mark.slow
@pytest.mark.parametrize("method", ["endless", "silent"])
def test_workers_end_with_a_parent_that_is_killed(tmp_path, method):
    script = tmp_path / "parent.py"
    script.write_text(PARENT.replace("jobs=2", f"jobs={min(2, executors.cores())}"))
    arguments = [sys.executable, str(script), str(ROOT), str(tmp_path), method]
    with subprocess.Popen(arguments) as parent:
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob("ran-*")) and time.monotonic() < deadline:
            time.sleep(0.1)
        parent.kill()
    pids = [int(path.name.rpartition("-")[2]) for path in tmp_path.glob("ran-*")]
    assert pids
    deadline = time.monotonic() + 20
    while any(map(is_alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(is_alive, pids))


def is_alive(pid):
    """Say whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
