"""Executors measure the cells of a plan: in this process, in several, or on a cluster."""

import os
from typing import Protocol

from nsdbench.bench.claim import Measure
from nsdbench.bench.display import Display
from nsdbench.bench.plan import Plan
from nsdbench.experts import Run


class Executor(Protocol):
    """Measures the cells of a plan that are to do."""

    def measure_all(self, plan: Plan, run: Run, display: Display, measure: Measure) -> None:
        """Measure cells until each has a record; Ctrl-C ends it with what is done kept.

        Args:
            plan: the cells.
            run: what they share.
            display: is told about every cell; what it raises ends all work.
            measure: measures one; importable by name.
        """


def cores() -> int:
    """Return the CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
