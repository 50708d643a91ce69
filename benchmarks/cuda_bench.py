"""The bench of `benchmarks.cuda`: ways of doing a job that take turns, and the sizes measured."""

import os
import statistics
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from benchmarks.arms import MIB
from nsdbench import ops

SWITCHES = ("NSDBENCH_NATIVE", "NSDBENCH_GRAPH")


@dataclass(frozen=True)
class Way:
    """A way of doing a job: with our operators or not, with captures or not."""

    is_native: bool
    is_captured: bool
    run: Callable[[], object] = lambda: None
    mode: str = "exact"  # of unrolled_sgd

    @property
    def code_path(self) -> str:
        """What a student's step says on CUDA."""
        if not self.is_native or self.mode == "full":
            return "generic"
        return "graph" if self.is_captured else "fused"


@dataclass(frozen=True)
class Sizes:
    """What is measured.

    Attributes:
        outer: width, channels, size, batch, steps, augmented, by name.
        error: the same of the gradient's error.
        training: channels, size, width, batch, by name.
        judged: data set, images, architecture, protocol, networks.
        expert: data set, architecture, batch, epochs.
        calls: of a step and of an operator in a round.
        rounds: how often ways take turns.
    """

    outer: dict[str, tuple]
    error: tuple
    training: dict[str, tuple]
    judged: tuple
    expert: tuple
    calls: int
    rounds: int = 3


REAL = Sizes(
    outer={
        "FashionMNIST at scale small, w32, B 64, N 40": (32, 1, 28, 64, 40, False),
        "CIFAR10, w128, B 64, N 8": (128, 3, 32, 64, 8, False),
        "CIFAR10, w128, B 256, N 30": (128, 3, 32, 256, 30, False),
        "CIFAR10, w128, B 256, N 30, DSA": (128, 3, 32, 256, 30, True),
    },
    error=(128, 3, 32, 8, 4, False),
    training={
        "B 256, 3x32x32, w128": (3, 32, 128, 256),
        "B 100, 3x32x32, w128": (3, 32, 128, 100),
        "B 256, 1x28x28, w32": (1, 28, 32, 256),
    },
    judged=("synthetic:10x3x32x32@5000+1000", 100, "convnet3-w128", "common", 5),
    expert=("synthetic:10x3x32x32@5000+1000", "convnet3-w128", 256, 4),
    calls=20,
)
TINY = Sizes(
    outer={"tiny": (4, 1, 8, 3, 2, False), "tiny, DSA": (4, 3, 8, 3, 2, True)},
    error=(4, 3, 8, 3, 2, False),
    training={"tiny": (3, 8, 4, 5)},
    judged=("synthetic:3x3x8x8@10+5", 6, "convnet1-w4", "common-2ep", 2),
    expert=("synthetic:3x3x8x8@10+5", "convnet1-w4", 8, 3),
    calls=1,
    rounds=1,
)


@contextmanager
def switched(way: Way):
    """Switch operators and captures on or off for the calls inside."""
    before = {name: os.environ.get(name) for name in SWITCHES}
    for name, is_on in zip(SWITCHES, (way.is_native, way.is_captured), strict=True):
        os.environ[name] = "1" if is_on else "0"
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


class Bench:
    """A device and the sizes that are measured on it."""

    def __init__(self, is_dry: bool) -> None:
        self.is_dry = is_dry
        self.device = torch.device("cpu" if is_dry else "cuda")
        self.sizes = TINY if is_dry else REAL

    def synchronize(self) -> None:
        if not self.is_dry:
            torch.cuda.synchronize()

    def seconds_of(self, run: Callable[[], object], calls: int) -> float:
        """Time a call, over `calls` of them and one synchronisation."""
        self.synchronize()
        start = time.perf_counter()
        for _ in range(calls):
            run()
        self.synchronize()
        return (time.perf_counter() - start) / calls

    def take_turns(self, ways: dict[str, Way], calls: int) -> dict:
        """Measure every way once for warmth, then in turn; return medians and highest peaks."""
        times = {name: [] for name in ways}
        peaks = dict.fromkeys(ways, 0.0)
        for turn in range(self.sizes.rounds + 1):
            for name, way in ways.items():
                with switched(way):
                    assert self.is_dry or ops.is_native(self.device) == way.is_native
                    base = self._start_of_peak()
                    way.run()
                    seconds = self.seconds_of(way.run, calls)
                peaks[name] = max(peaks[name], self._peak(base))
                if turn > 0:
                    times[name].append(seconds)
        return {
            name: {
                "seconds": statistics.median(times[name]),
                "least_seconds": min(times[name]),
                "peak_mib": round(peaks[name], 1),
            }
            for name in ways
        }

    def _start_of_peak(self) -> int:
        if self.is_dry:
            return 0
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()

    def _peak(self, base: int) -> float:
        return 0.0 if self.is_dry else (torch.cuda.max_memory_allocated() - base) / MIB
