"""The gate on nvcc's resource report, fed by a stand-in compiler that says what it is told."""

import os
import re
import subprocess
import sys
from pathlib import Path

CHECK = Path(__file__).resolve().parents[2] / "csrc" / "cuda" / "check.py"
ENTRY = """ptxas info    : Compiling entry function '{symbol}' for 'sm_75'
ptxas info    : Function properties for {symbol}
    0 bytes stack frame, {spilled} bytes spill stores, 0 bytes spill loads
ptxas info    : Used 40 registers, used 1 barriers, {shared} bytes smem, 400 bytes cmem[0]
"""
NAMES = [
    name
    for header in sorted((CHECK.parents[1] / "kernels").glob("*.cuh"))
    for name in re.findall(r"SIMT_KERNEL void (\w+)", header.read_text())
]
ARGUMENTS = {"mode_product_fwd_kernel": "IdLb1EE", "inorm_relu_pool_nhwc_fwd_kernel": "IfLi4EE"}
KERNELS = [name + ARGUMENTS.get(name, "IfE") for name in NAMES]


def check(tmp_path, entries, status=0):
    """Run the gate with a compiler that prints these (symbol, spilled, shared) and exits."""
    report = "".join(
        ENTRY.format(symbol=f"_ZN8nsdbench7kernels_{symbol}vPd", spilled=spilled, shared=shared)
        for symbol, spilled, shared in entries
    )
    (tmp_path / "report.txt").write_text(report)
    nvcc = tmp_path / "nvcc"
    nvcc.write_text(f"#!/bin/sh\ncat {tmp_path}/report.txt\nexit {status}\n")
    os.chmod(nvcc, 0o755)
    return subprocess.run(
        [sys.executable, str(CHECK), str(nvcc), "c++"], capture_output=True, text=True
    )


def test_passes_and_lists_every_kernel_and_architecture(tmp_path):
    done = check(tmp_path, [(symbol, 0, 1000) for symbol in KERNELS])
    assert done.returncode == 0, done.stdout + done.stderr
    row = r"mode_product_fwd_kernel<double, true> +75 +40 +1000 +0\n"
    assert re.search(row, done.stdout)
    assert "inorm_relu_pool_nhwc_fwd_kernel<float, 4> " in done.stdout
    assert f"cuda-check: {len(NAMES)} kernels, sm_75, sm_80, sm_90: no spills" in done.stdout


def test_a_spill_fails(tmp_path):
    done = check(tmp_path, [(symbol, 8, 1000) for symbol in KERNELS])
    assert done.returncode == 1
    assert "mode_product_bwd_kernel<float> spills registers on sm_90" in done.stdout


def test_more_shared_memory_than_stated_fails(tmp_path):
    done = check(tmp_path, [(symbol, 0, 4353) for symbol in KERNELS])
    assert done.returncode == 1
    assert "uses 4353 bytes of shared memory on sm_80; its header states 4352" in done.stdout


def test_a_kernel_that_nothing_instantiates_fails(tmp_path):
    some = [symbol for symbol in KERNELS if "sum_by_key" not in symbol]
    done = check(tmp_path, [(symbol, 0, 0) for symbol in some])
    assert done.returncode == 1
    assert "sum_by_key_kernel: no launcher instantiates it" in done.stdout


def test_a_failing_compiler_fails(tmp_path):
    done = check(tmp_path, [], status=2)
    assert done.returncode == 1
    assert "nvcc failed for sm_75" in done.stderr
