"""Where a number comes from: commit, versions, machine, memory."""

import platform
import resource
import subprocess
from functools import cache
from pathlib import Path

import numpy
import torch

from nsdbench import ops

_SOURCES = ("csrc", "nsdbench", "setup.py", "CMakeLists.txt", "pyproject.toml")


@cache
def commit() -> tuple[str | None, bool | None]:
    """Return the commit of the source tree and whether its sources differ from it.

    Returns:
        (hash, dirty); (None, None) where the package does not run from a git checkout of itself.
    """
    root = Path(__file__).resolve().parent.parent

    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(root), *words], capture_output=True, text=True, check=False
            )
        except OSError:
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    if git("ls-files", "nsdbench/provenance.py") != "nsdbench/provenance.py":
        return None, None
    return git("rev-parse", "HEAD"), bool(git("status", "--porcelain", "--", *_SOURCES))


def machine(device: str) -> dict:
    """Return versions, build and the device that computed, as plain JSON types."""
    on_gpu = torch.device(device).type == "cuda"
    return {
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": numpy.__version__,
        },
        "device": torch.cuda.get_device_name(device) if on_gpu else _processor(),
        "threads": torch.get_num_threads(),
        "build": {
            "simd": ops.backend.simd_level(),
            "native": ops.is_native(torch.device(device)),
            "cuda": ops.backend.cuda_unavailable_because() or "loaded",
        },
    }


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def reset_peak() -> None:
    """Start a new high-water mark of resident memory, where the system can (Linux)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pass


def peak_bytes() -> int:
    """Return the high-water mark of resident memory since `reset_peak`, in bytes."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
