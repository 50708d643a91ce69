"""What the native outer step spends its time on: `python -m benchmarks.step_profile`.

Samples one process with Linux' perf while it takes outer steps (ConvNet3, width 128, 3x32x32,
B = 64, N = 8) and adds the samples up by kind of work. Convolutions count with their Winograd
transforms; everything else in the process, waiting threads and Python included, is "outside".
Prints a table and writes results/benchmarks/profile.json.
"""

import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from benchmarks.arms import Arm, Job
from benchmarks.headline import machine, save

JOB = Job("outer_step", "native", mode="exact")
SAMPLES_PER_SECOND = 997  # prime: not in step with anything
LIBRARY = "_C.so"
# Leaf functions of csrc/cpu, by the start of their names; each exists once an instruction set.
CONVOLUTION = {
    "run": "products between transforms (tile_product.cpp)",
    "conv": "first convolution, or its weight gradient (first_conv.cpp)",
    "columns": "first convolution, or its weight gradient (first_conv.cpp)",
    "weight": "transforms (winograd.cpp) and weight gradients (first_conv.cpp)",
    "weight_transposed": "transforms (winograd.cpp) and weight gradients (first_conv.cpp)",
    "input": "transforms (winograd.cpp)",
    "input_transposed": "transforms (winograd.cpp)",
    "output": "transforms (winograd.cpp)",
    "output_transposed": "transforms (winograd.cpp)",
    "taps": "transforms (winograd.cpp) and weight gradients (first_conv.cpp)",
}
NORM = {"forward": "norm, ReLU and pool", "backward": "norm, ReLU and pool"}


def sample(steps: int) -> list[tuple[int, str, str]]:
    """Return (samples, library, function) of `steps` outer steps after a warm one."""
    if shutil.which("perf") is None:
        sys.exit(
            "benchmarks.step_profile: Linux' perf is needed (Debian: apt-get install linux-perf)"
        )
    with tempfile.TemporaryDirectory() as folder, Arm(JOB) as arm:
        arm.warm_up()
        arm.run()
        data = str(Path(folder, "perf.data"))
        perf = subprocess.Popen(
            ["perf", "record", "-q", "-e", "cpu-clock", "-F", str(SAMPLES_PER_SECOND), "-o", data,
             "-p", str(arm.pid)],
        )  # fmt: skip
        time.sleep(0.5)  # perf says nowhere that it has begun
        for _ in range(steps):
            arm.run()
        perf.send_signal(signal.SIGINT)
        perf.wait()
        report = subprocess.run(
            ["perf", "report", "-i", data, "--stdio", "--no-children", "-g", "none", "-n",
             "-t", "\t", "--sort", "dso,sym"],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
    rows = []
    for line in report.splitlines():
        if line and not line.startswith("#"):
            _, count, library, function = (part.strip() for part in line.split("\t"))
            rows.append((int(count), library, re.sub(r"^\[.\] ", "", function)))
    return rows


def kind_of_work(library: str, function: str) -> tuple[str, str]:
    """Return ("convolution" or "outside", what it is)."""
    if library == LIBRARY:
        leaf = re.search(r"([a-z_]+?)_(?:avx512|avx2|baseline)\b", function)
        name = leaf[1] if leaf else ""
        if name in CONVOLUTION:
            return "convolution", CONVOLUTION[name]
        if name in NORM:
            return "outside", NORM[name]
        return "outside", "the rest of the native step"
    if library.startswith("libgomp"):
        return "outside", "threads that wait for others"
    if "kernel" in library:
        return "outside", "operating system (fresh pages)"
    return "outside", "PyTorch, Python and the C library"


def main(steps: int = 5) -> None:
    """Sample, print, write."""
    source = machine()
    counts: dict[tuple[str, str], int] = defaultdict(int)
    for count, library, function in sample(steps):
        counts[kind_of_work(library, function)] += count
    total = sum(counts.values())
    rows = [
        {"kind": kind, "what": what, "percent": round(100 * count / total, 1)}
        for (kind, what), count in sorted(counts.items(), key=lambda item: -item[1])
    ]
    outside = 100 * sum(n for (kind, _), n in counts.items() if kind == "outside") / total
    for row in rows:
        print(f"{row['percent']:6.1f} %  {row['kind']:12} {row['what']}")
    print(f"outside convolutions: {outside:.1f} % of {total} samples (at most 35, aim 20)")
    result = {"machine": source, "samples": total, "rows": rows,
              "outside_convolutions_percent": round(outside, 1)}  # fmt: skip
    save("profile", result)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
