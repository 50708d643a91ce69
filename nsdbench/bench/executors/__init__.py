"""Executors measure the cells of a plan: in this process, or in several on this machine."""

import os


def cores() -> int:
    """Return the CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check_jobs(jobs: int) -> None:
    """Raise ValueError for a number of cells at the same time that this machine cannot have."""
    if not 1 <= jobs <= cores():
        raise ValueError(f"--jobs {jobs}: expected 1 to {cores()}, the cores of this machine")
