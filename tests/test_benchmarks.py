"""Which benchmarks run when: none by itself, a quick part when asked for, all with an option."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MODULES = sorted(path.stem for path in (ROOT / "benchmarks").glob("bench_*.py"))


def collect(*arguments):
    """Have pytest say from the root of the project what it would run; return status and text."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    return done.returncode, done.stdout + done.stderr


def cases(*arguments):
    """Map the modules of the benchmarks to the cases that would run."""
    status, text = collect("--benchmark-only", *arguments)
    assert status == 0, text
    found = {}
    for line in text.splitlines():
        path, separator, name = line.partition("::")
        if separator:
            assert path.startswith("benchmarks/"), line
            found.setdefault(Path(path).stem, set()).add(name.partition("[")[2].rstrip("]"))
    return found


@pytest.mark.slow
def test_the_cases_listed_as_quick_are_those_that_run_without_an_option():
    quick, everything = cases(), cases("--all-sizes")
    assert sorted(quick) == sorted(everything) == MODULES
    for name in MODULES:
        listed = getattr(importlib.import_module(f"benchmarks.{name}"), "QUICK", everything[name])
        assert quick[name] == listed
    assert sum(map(len, quick.values())) < sum(map(len, everything.values())) / 2


def test_nothing_is_timed_beside_other_processes():
    status, text = collect("--benchmark-only", "-n", "2")
    assert status == pytest.ExitCode.USAGE_ERROR
    assert "benchmarks are timed one at a time: leave out -n" in text


def test_benchmarks_are_skipped_where_they_are_not_asked_for(pytestconfig):
    assert pytestconfig.getoption("benchmark_skip")
