"""What would fit where a cell ran out of memory."""

import re
from pathlib import Path

import pytest
import torch

from nsdbench import data
from nsdbench.bench import memory
from nsdbench.bench import plan as planning
from nsdbench.bench.cost import PROCESS_BYTES
from nsdbench.bench.measure import recorded
from nsdbench.bench.memory import there_is, what_fits
from nsdbench.experts import Run
from nsdbench.models.sizes import network_size


def task_of(method, table="table1", ipc=10):
    where = {"method": [method], "ipc": [str(ipc)], "dataset": ["CIFAR10"]}
    made = planning.make(planning.Choice([table], "paper", where=where), Run())
    return made.cells[0].task


def by_hand(task, batch):
    """Add up what the documentation of the estimate lists, for Random."""
    about = data.spec("CIFAR10")
    size = network_size(task.cell.arch, about.image_shape, 10)
    step = 2 * batch * size.activations + 4 * size.parameters
    return PROCESS_BYTES + 5 * 50_000 * 3 * 32 * 32 + 4 * step


@pytest.mark.parametrize("batch", [1, 37, 99])
def test_the_largest_batch_that_fits(batch):
    task = task_of("random")
    text = what_fits(task, by_hand(task, batch) + 1)
    assert f"networks would fit at batches of {batch} instead of 100" in text
    assert text.startswith(f"{by_hand(task, 100) / 1e9:.2f} GB are predicted, ")


def test_nothing_fits_and_everything_should():
    task = task_of("random")
    assert what_fits(task, 1e6).endswith("networks would fit at no batch")
    assert what_fits(task, 1e15).endswith("they may be taken by other programs")


def test_a_share_of_a_step_of_distillation_fits():
    task = task_of("nsd")
    whole = memory.whole_estimate(task)
    assert whole.distilling_bytes > whole.judging_bytes
    fixed = whole.peak_bytes - whole.distilling_bytes
    text = what_fits(task, fixed + 0.25 * whole.distilling_bytes)
    assert "25% of what a step of distillation keeps would fit" in text


@pytest.mark.parametrize("error", [MemoryError("out"), torch.OutOfMemoryError("CUDA: out")])
def test_a_cell_out_of_memory_says_so(error, tmp_path, monkeypatch):
    monkeypatch.setattr("nsdbench.bench.measure.there_is", lambda device: 1.3e9)

    def fail():
        raise error

    record = recorded(task_of("random"), Run(tmp_path), fail)
    assert record.failure.kind == "memory"
    assert re.fullmatch(
        rf"{type(error).__name__}: 1\.\d\d GB are predicted, 1\.30 GB are there; networks would "
        rf"fit at batches of \d+ instead of 100, under another protocol; {error}",
        record.failure.reason,
    )


def test_what_is_there_is_no_more_than_this_machine_has():
    kilobytes = re.search(r"MemTotal: +(\d+) kB", Path("/proc/meminfo").read_text())[1]
    assert 1e8 < there_is("cpu") <= 1024 * int(kilobytes) * 1.01
