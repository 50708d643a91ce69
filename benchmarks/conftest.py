"""What every benchmark records besides its time: machine, threads, fraction of the peak."""

import ctypes
import json
import os
import time
from pathlib import Path

import pytest
import torch

from nsdbench import files, provenance


def _tune_allocator() -> str:
    """Let the C library keep freed memory, if $NSDBENCH_BENCH_ALLOCATOR is "tuned".

    Fresh pages of large tensors cost as much as the work on them. It changes the whole process, so
    it holds for everything that is compared.
    """
    if os.environ.get("NSDBENCH_BENCH_ALLOCATOR", "stock") != "tuned":
        return "stock"
    mallopt = ctypes.CDLL(None).mallopt
    trim_threshold, mmap_threshold = -1, -3  # malloc.h
    for option, value in ((mmap_threshold, 1 << 30), (trim_threshold, 2**31 - 1)):
        if not mallopt(option, value):
            raise RuntimeError("mallopt refused")
    return "tuned"


ALLOCATOR = _tune_allocator()


def timed(run, rounds: int = 7) -> float:
    """Return the median time of a call in seconds, after one call that is not counted."""
    run()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return sorted(times)[rounds // 2]


def keep_result(benchmark_name: str, row: str, facts: dict) -> None:
    """Write facts into $NSDBENCH_BENCH_RESULTS/NAME.json, if that folder is set.

    Rows measured at another commit or on another machine are dropped from the file.
    """
    folder = os.environ.get("NSDBENCH_BENCH_RESULTS")
    if not folder:
        return
    commit, is_dirty = provenance.commit()
    source = {"commit": commit, "dirty": is_dirty, **provenance.machine("cpu")}
    source["allocator"] = ALLOCATOR
    suffix = "" if ALLOCATOR == "stock" else f"-{ALLOCATOR}-allocator"
    path = Path(folder, f"{benchmark_name}{suffix}.json")
    content = json.loads(path.read_text()) if path.exists() else {}
    if content.get("source") != source:
        content = {"source": source, "rows": {}}
    content["rows"][row] = facts
    text = json.dumps(content, indent=1) + "\n"
    files.write_atomically(path, lambda target: target.write_text(text))


@pytest.fixture(scope="session")
def peak_flops() -> float:
    """Measure what this machine reaches in a large float32 matrix product, per second."""
    size = 1024
    a, b = torch.rand(size, size), torch.rand(size, size)
    return 2 * size**3 / timed(lambda: torch.mm(a, b))


@pytest.fixture
def record(benchmark, peak_flops):
    """Attach the facts of a run to its benchmark entry."""

    def attach(*, shapes: dict, flops: float, bytes_moved: int, **more) -> None:
        seconds = benchmark.stats.stats.median
        benchmark.extra_info.update(
            shapes=shapes,
            dtype="float32",
            device="cpu",
            threads=torch.get_num_threads(),
            simd=torch.backends.cpu.get_cpu_capability(),
            gflops=round(flops / seconds / 1e9, 1),
            fraction_of_peak=round(flops / seconds / peak_flops, 3),
            bytes_moved=bytes_moved,
            gbytes_per_second=round(bytes_moved / seconds / 1e9, 2),
            **more,
        )

    return attach
