"""Gate on what nvcc says about the kernels: no spills, no more shared memory than stated.

Compiles every launcher in this folder for every architecture, prints registers and shared memory
per kernel, and exits with 1 if a kernel spills or uses more shared memory than the header that
defines it states ("Shared memory: at most N bytes a block").

Usage: check.py NVCC HOST_COMPILER
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
ARCHITECTURES = (75, 80, 90)
ENTRY = re.compile(r"Compiling entry function '(\w+)'")
SPILL = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
USED = re.compile(r"Used (\d+) registers")
SHARED = re.compile(r"(\d+) bytes smem")
STATED = re.compile(r"Shared memory: at most (\d+) bytes a block")


def stated_limits() -> dict[str, int]:
    """Map each kernel's name to the shared memory its header states, in bytes."""
    limits = {}
    for header in sorted((FOLDER.parent / "kernels").glob("*.cuh")):
        text = header.read_text()
        stated = STATED.search(text)
        for name in re.findall(r"SIMT_KERNEL void (\w+)", text):
            if stated is None:
                sys.exit(f"{header.name}: the header states no 'Shared memory: at most N bytes'")
            limits[name] = int(stated.group(1))
    return limits


def compile_report(nvcc: str, host_compiler: str, source: Path, architecture: int) -> str:
    """Compile one file for one architecture and return what ptxas reports."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [
                nvcc,
                "-std=c++17",
                "-O3",
                "-ccbin",
                host_compiler,
                "-cubin",
                "--resource-usage",
                f"-arch=sm_{architecture}",
                f"-I{FOLDER.parent}",
                str(source),
                "-o",
                f"{folder}/kernels.cubin",
            ],
            capture_output=True,
            text=True,
        )
    if done.returncode != 0:
        sys.exit(f"{source.name}: nvcc failed for sm_{architecture}\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def short_name(symbol: str, kernels: list[str]) -> tuple[str, str]:
    """Split a mangled symbol into the kernel's name and its template arguments."""
    name = max((k for k in kernels if k in symbol), key=len, default=symbol)
    arguments = re.search(name + r"I(\w)((?:L[bi]\d+E)*)E", symbol)
    if arguments is None:
        return name, ""
    values = [{"f": "float", "d": "double"}.get(arguments.group(1), arguments.group(1))]
    for kind, value in re.findall(r"L([bi])(\d+)E", arguments.group(2)):
        values.append(str(bool(int(value))).lower() if kind == "b" else value)
    return name, f"<{', '.join(values)}>"


def main(nvcc: str, host_compiler: str) -> None:
    limits = stated_limits()
    faults, seen = [], set()
    print(f"{'kernel':<56} {'arch':>5} {'registers':>9} {'shared':>7} {'spilled':>7}")
    for source in sorted(FOLDER.glob("*.cu")):
        for architecture in ARCHITECTURES:
            report = compile_report(nvcc, host_compiler, source, architecture)
            parts = ENTRY.split(report)[1:]
            for symbol, text in zip(parts[::2], parts[1::2], strict=True):
                name, arguments = short_name(symbol, list(limits))
                seen.add(name)
                _, stores, loads = map(int, SPILL.search(text).groups())
                registers = int(USED.search(text).group(1))
                shared = SHARED.search(text)
                shared_bytes = int(shared.group(1)) if shared else 0
                label = f"{name}{arguments}"
                print(
                    f"{label:<56} {architecture:>5} {registers:>9} {shared_bytes:>7} "
                    f"{stores + loads:>7}"
                )
                if stores + loads:
                    faults.append(f"{label} spills registers on sm_{architecture}")
                if shared_bytes > limits.get(name, 0):
                    faults.append(
                        f"{label} uses {shared_bytes} bytes of shared memory on sm_{architecture}; "
                        f"its header states {limits.get(name, 0)}"
                    )
    faults += [f"{name}: no launcher instantiates it" for name in sorted(set(limits) - seen)]
    for fault in faults:
        print(f"cuda-check: {fault}")
    if faults or not seen:
        sys.exit(1)
    print(f"cuda-check: {len(seen)} kernels, sm_{', sm_'.join(map(str, ARCHITECTURES))}: no spills")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: check.py NVCC HOST_COMPILER")
    main(*sys.argv[1:])
