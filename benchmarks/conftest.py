"""What every benchmark records besides its time: machine, threads, fraction of the peak."""

import time

import pytest
import torch

from nsdbench import provenance


def timed(run, rounds: int = 7) -> float:
    """Return the median time of a call in seconds, after one call that is not counted."""
    run()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return sorted(times)[rounds // 2]


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
            simd=provenance.machine("cpu")["build"]["simd"],
            gflops=round(flops / seconds / 1e9, 1),
            fraction_of_peak=round(flops / seconds / peak_flops, 3),
            bytes_moved=bytes_moved,
            gbytes_per_second=round(bytes_moved / seconds / 1e9, 2),
            **more,
        )

    return attach
