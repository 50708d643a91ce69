"""CPU code and CUDA kernels on the host under the address and undefined-behaviour sanitizers."""

import subprocess
from pathlib import Path

import pytest

pytestmark = [pytest.mark.campaign, pytest.mark.slow]


@pytest.fixture(scope="module")
def program(built) -> Path:
    return built("sanitize") / "sanitize"


def test_everything_that_runs_on_the_host_is_clean(program):
    done = subprocess.run([program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "sanitize: passed" in done.stdout


def test_a_read_beyond_shared_memory_is_reported(program):
    done = subprocess.run([program, "overflow"], capture_output=True, text=True, timeout=120)
    assert done.returncode != 0
    assert "heap-buffer-overflow" in done.stderr and "overflow_kernel" in done.stderr
