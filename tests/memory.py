"""The high-water mark of a script's memory."""

import os
import subprocess
import sys

VECTOR_BYTES = 4 * 320_010  # the parameters of a ConvNet3-w128 at 3x32x32 in float32


def peak_bytes(script: str, *arguments: object) -> int:
    """Run a script that prints its peak memory, in a process of its own.

    The C library maps every tensor on its own, so that no hole in a heap counts as memory in use.
    Without that the mark moves by a tenth from run to run.
    """
    command = [sys.executable, "-c", script, *map(str, arguments)]
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return int(done.stdout)
