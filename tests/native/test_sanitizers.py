"""CPU code and CUDA kernels on the host under the address and undefined-behaviour sanitizers."""

import os
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "editable"
CMAKE = shutil.which("cmake", path=sysconfig.get_path("scripts") + os.pathsep + os.environ["PATH"])

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (BUILD / "CMakeCache.txt").exists() or CMAKE is None,
        reason="no build tree: make builds one",
    ),
]


@pytest.fixture(scope="module")
def program() -> Path:
    done = subprocess.run(
        [CMAKE, "--build", str(BUILD), "--target", "sanitize"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return BUILD / "sanitize"


def test_everything_that_runs_on_the_host_is_clean(program):
    done = subprocess.run([program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "sanitize: passed" in done.stdout


def test_a_read_beyond_shared_memory_is_reported(program):
    done = subprocess.run([program, "overflow"], capture_output=True, text=True, timeout=120)
    assert done.returncode != 0
    assert "heap-buffer-overflow" in done.stderr and "overflow_kernel" in done.stderr
