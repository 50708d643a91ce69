"""The kernels of inorm_relu_pool with a barrier removed or a term left out, run on the host.

A barrier or a term whose loss nobody would notice is one that is not tested: every mutation must
make the kernels disagree with the CPU code, a missing barrier in some order of the threads.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
KERNELS = ROOT / "csrc" / "kernels" / "inorm_relu_pool.cuh"
DRIVER = Path(__file__).with_name("sanitize_inorm_relu_pool.cpp")
UNCHANGED = (
    Path(__file__).with_name("inorm_relu_pool_program.cpp"),
    ROOT / "csrc" / "cpu" / "inorm_relu_pool.cpp",
    ROOT / "csrc" / "cpu" / "simd.cpp",  # chooses the instruction set
)
FOLDERS = (ROOT / "csrc", ROOT / "csrc" / "kernels", Path(__file__).parent)
COMPILER = shutil.which(os.environ.get("CXX", "c++"))
FLAGS = ("-std=c++20", "-O0", "-Wno-psabi", "-DNSDBENCH_SERIAL")
ORDERS = ("natural", "reversed", "shuffled")
BARRIER = "simt::barrier();"
TERMS = {
    "mean_t": (" - m.mean_t", ""),
    "q": (" - point.xhat * m.q", ""),
    "q is of centred values": ("centred * plane.x_t[n]", "plane.x[n] * plane.x_t[n]"),
    "gamma_t": ("plane.gamma_t * point.xhat + plane.beta_t", "plane.beta_t"),
    "beta_t": (" + plane.beta_t", ""),
    "eps": (" + plane.eps", ""),
    "ReLU": ("y <= 0 ? scalar_t(0) : value", "value"),
    "what the pool drops": (" || i >= plane.height / 2 || j >= plane.width / 2", ""),
    "next row": ("      w -= width;\n      ++h;", "      w -= width;"),
    "dy xhat_t": (" + dy * point.xhat_t", ""),
    "m1": ("dy - m1 - ", "dy - "),
    "m2": ("dy - m1 - point.xhat * m2", "dy - m1"),
    "m1_t": ("dy_t - m1_t", "dy_t"),
    "m2_t": (" - point.xhat * m2_t", ""),
    "xhat_t m2": (" - point.xhat_t * m2", ""),
    "scale_t": ("scale_t * projected + ", ""),
    "r_t": (" - scale * m.rstd * m.q", ""),
    "order of the parts": ("parts[planes + plane.index]", "parts[plane.index]"),
    "sum over the images": ("n += kSumRows", "n += images"),
    "groups of several warps": ("const int first = warp / warps * warps;", "const int first = 0;"),
}

pytestmark = [
    pytest.mark.campaign,
    pytest.mark.slow,
    pytest.mark.skipif(COMPILER is None, reason="no C++ compiler"),
]


@pytest.fixture(scope="module")
def unchanged(tmp_path_factory) -> list[str]:
    """What no mutation touches, compiled once: object files."""
    folder = tmp_path_factory.mktemp("unchanged")
    objects = [str(folder / f"{number}.o") for number in range(len(UNCHANGED))]
    for target, source in zip(objects, UNCHANGED, strict=True):
        compile_with(target, "-c", str(source))
    return objects


def compile_with(target, *arguments):
    folders = [f"-I{folder}" for folder in FOLDERS]
    command = [COMPILER, *FLAGS, *arguments, *folders, "-o", str(target)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def failing_orders(folder, unchanged, text, orders=ORDERS) -> set[str]:
    """Compile the program with this text of the kernels and name the orders in which it fails."""
    (folder / "kernels").mkdir()
    (folder / "kernels" / KERNELS.name).write_text(text)
    program = folder / "program"
    compile_with(program, f"-I{folder}", str(DRIVER), *unchanged)
    done = {
        order: subprocess.run([program, order], capture_output=True, text=True, timeout=60)
        for order in orders
    }
    assert all(run.returncode in (0, 1) for run in done.values())
    assert all("differ" in run.stderr for run in done.values() if run.returncode == 1)
    return {order for order, run in done.items() if run.returncode == 1}


def test_intact_kernels_agree(tmp_path, unchanged):
    assert failing_orders(tmp_path, unchanged, KERNELS.read_text()) == set()


@pytest.mark.parametrize("number", range(KERNELS.read_text().count(BARRIER)))
def test_every_missing_barrier_is_noticed(tmp_path, unchanged, number):
    text = KERNELS.read_text()
    start = [match.start() for match in re.finditer(re.escape(BARRIER), text)][number]
    mutated = text[:start] + ";" + text[start + len(BARRIER) :]
    assert failing_orders(tmp_path, unchanged, mutated)


@pytest.mark.parametrize("label", TERMS)
def test_every_missing_term_is_noticed(tmp_path, unchanged, label):
    old, new = TERMS[label]
    text = KERNELS.read_text()
    assert text.count(old) == 1, f"{old!r} is not in {KERNELS.name} exactly once"
    assert failing_orders(tmp_path, unchanged, text.replace(old, new), ORDERS[:1])
