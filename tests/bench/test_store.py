"""Records survive kills, competing processes and damaged files."""

import json
import math
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from nsdbench import files
from nsdbench.bench.cell import Cell
from nsdbench.bench.record import Record
from nsdbench.bench.store import Store
from nsdbench.errors import DataCorrupt
from nsdbench.spread import summary

ROOT = Path(__file__).parents[2]
CELL = Cell("Digits16", 1, "nsd", "convnet2-w8", "common-10ep", "smoke")
OTHER = replace(CELL, method="mtt")


def done_record(**changes):
    return Record.done(
        **{
            "cell": CELL,
            "recipe_hash": "r1",
            "protocol_hash": "p1",
            "seeds": 3,
            "repeats": 2,
            "accuracy": summary([[50.0, 52.0]] * 3),
            "cost": {"seconds": {"evaluate": 1.5}, "peak_bytes": 7},
            "provenance": {"commit": "abc", "started": "1", "finished": "2", "seed": 0},
        }
        | changes,
    )


def test_write_read_and_list(tmp_path):
    store = Store(tmp_path)
    assert store.read("smoke", CELL.id) is None and store.records() == ([], [])
    path = store.write(done_record())
    assert path == tmp_path / "records" / "smoke" / f"{CELL.id}.json"
    assert store.read("smoke", CELL.id) == done_record()
    assert store.records() == store.records("smoke") == ([done_record()], [])
    assert store.records("paper") == ([], [])
    assert os.listdir(path.parent) == [path.name]


def test_numbers_json_cannot_hold_become_null(tmp_path):
    store = Store(tmp_path)
    curve = [(1, math.nan), (2, -math.inf), (3, 0.5)]
    store.write(done_record(distillation={"iterations": 3, "curve": curve, "loss_last": math.inf}))
    distillation = store.read("smoke", CELL.id).distillation
    assert distillation.curve == ((1, None), (2, None), (3, 0.5))
    assert distillation.loss_last is None


@pytest.mark.parametrize("text", ["", '{"schema": 1, "sta', "[]", '{"schema": 1}', "\xff"])
def test_damaged_files_are_named_and_do_not_hide_the_others(tmp_path, text):
    store = Store(tmp_path)
    path = store.write(done_record())
    other = done_record(cell=OTHER)
    store.write(other)
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(DataCorrupt, match=str(path)):
        store.read("smoke", CELL.id)
    records, warnings = store.records()
    assert records == [other] and len(warnings) == 1 and str(path) in warnings[0]
    store.write(done_record())
    assert store.read("smoke", CELL.id) == done_record()


def test_a_record_under_another_cells_name_is_not_taken_for_it(tmp_path):
    store = Store(tmp_path)
    path = store.write(done_record())
    path.rename(path.with_name("copied.json"))
    with pytest.raises(DataCorrupt, match=f"copied.json holds the record of {CELL.id}"):
        store.read("smoke", "copied")


def test_when_a_cell_is_done():
    asked = (CELL, "r1", "p1", 3, 2)
    assert done_record().is_done(*asked)
    assert done_record(seeds=5, repeats=9).is_done(*asked)
    assert done_record(provenance={"commit": "another"}).is_done(*asked)
    for change in (
        {"recipe_hash": "r2"},
        {"protocol_hash": "p2"},
        {"seeds": 2},
        {"repeats": 1},
        {"cell": replace(CELL, arch="convnet2-w16")},
    ):
        assert not done_record(**change).is_done(*asked), change
    conditions = {"recipe_hash": "r1", "protocol_hash": "p1", "seeds": 3, "repeats": 2}
    assert not Record.failed(CELL, "error", "broken", **conditions).is_done(*asked)


def test_failures_are_records_but_never_replace_a_result(tmp_path):
    store = Store(tmp_path)
    failed = Record.failed(CELL, "data_missing", "no data", recipe_hash="r1", protocol_hash="p1")
    store.write(failed)
    assert store.read("smoke", CELL.id) == failed
    assert failed.failure.reason == failed.failure.line == "no data"
    store.write(done_record())
    store.write(failed)
    assert store.read("smoke", CELL.id).status == "done"
    other_recipe = {"recipe_hash": "r2", "protocol_hash": "p2"}
    # data that is missing here says nothing about the recipe
    store.write(Record.failed(CELL, "data_missing", "no data", **other_recipe))
    assert store.read("smoke", CELL.id).status == "done"
    store.write(Record.failed(CELL, "diverged", "the loss is nan", **other_recipe))
    assert store.read("smoke", CELL.id).status == "failed"


def test_comparable_ignores_cost_and_circumstances_only():
    here = done_record()
    there = done_record(
        cost={"seconds": {"evaluate": 9.0}},
        provenance={"commit": "def", "started": "8", "finished": "9", "command": "x", "seed": 0},
        work={"commits": ["abc", "def"], "is_dirty": False},
    )
    assert here.comparable() == there.comparable()
    for change in ({"provenance": {"seed": 1}}, {"seeds": 4}, {"accuracy": summary([[1.0]])}):
        assert done_record(**change).comparable() != here.comparable()


def _hold(results, ready, release):
    with Store(results).lock("smoke", CELL.id):
        ready.set()
        release.wait(300)


def test_one_process_at_a_time_works_on_a_cell(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path, str(ROOT)])  # for the new process
    context = multiprocessing.get_context("spawn")
    ready, release = context.Event(), context.Event()
    holder = context.Process(target=_hold, args=(tmp_path, ready, release))
    holder.start()
    assert ready.wait(300)  # a busy machine starts it slowly
    store = Store(tmp_path)
    with store.lock("smoke", CELL.id, wait=False) as mine:
        assert not mine
    with store.lock("smoke", "another cell", wait=False) as mine:
        assert mine
    holder.kill()  # the system frees what a killed process held
    holder.join()
    with store.lock("smoke", CELL.id, wait=False) as mine:
        assert mine


WRITER = """
import sys
sys.path.append(sys.argv[2])
from nsdbench.bench.store import Store
from tests.bench.test_store import done_record
store = Store(sys.argv[1])
print("ready", flush=True)
while True:
    for value in range(10):
        store.write(done_record(provenance={"command": str(value) * 20000}))
"""


@pytest.mark.slow
def test_a_kill_while_writing_leaves_a_whole_record(tmp_path):
    store = Store(tmp_path)
    for _ in range(3):
        command = [sys.executable, "-P", "-c", WRITER, str(tmp_path), str(ROOT)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout.readline() == "ready\n"
            while not store.path("smoke", CELL.id).exists():
                time.sleep(0.001)
            writer.send_signal(signal.SIGKILL)
        record = store.read("smoke", CELL.id)
        command = record.provenance.command
        assert len(set(command)) == 1 and len(command) == 20000
        with store.lock("smoke", CELL.id):
            assert len(list(tmp_path.glob("records/smoke/.*"))) == 0


def test_half_a_write_is_invisible(tmp_path, monkeypatch):
    store = Store(tmp_path)
    store.write(done_record())

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(files.os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        store.write(done_record(seeds=9))
    assert store.read("smoke", CELL.id).seeds == 3
    assert json.loads(store.path("smoke", CELL.id).read_text())["seeds"] == 3
