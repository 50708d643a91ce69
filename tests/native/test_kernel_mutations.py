"""Kernels of the norm block and of the first block with a barrier removed or a term left out.

A barrier or a term whose loss nobody would notice is one that is not tested: every mutation must
make the kernels, run on the host, disagree with code that does not share theirs; a missing barrier
in some order of the threads.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent
UNCHANGED = (
    ROOT / "csrc" / "cpu" / "inorm_relu_pool.cpp",
    ROOT / "csrc" / "cpu" / "simd.cpp",  # chooses the instruction set
)
FOLDERS = (ROOT / "csrc", ROOT / "csrc" / "kernels", HERE)
COMPILER = shutil.which(os.environ.get("CXX", "c++"))
FLAGS = ("-std=c++20", "-O0", "-Wno-psabi", "-DNSDBENCH_SERIAL")
ORDERS = ("natural", "reversed", "shuffled")
BARRIER = "simt::barrier();"
GRADIENTS = {  # written alike in all of them
    "dy xhat_t": (" + dy * point.xhat_t", ""),
    "m1": ("dy - m1 - ", "dy - "),
    "m2": ("dy - m1 - point.xhat * m2", "dy - m1"),
    "m1_t": ("dy_t - m1_t", "dy_t"),
    "m2_t": (" - point.xhat * m2_t", ""),
    "xhat_t m2": (" - point.xhat_t * m2", ""),
    "scale_t": ("scale_t * projected + ", ""),
    "mean_t": (" - m.mean_t", ""),
    "q": (" - point.xhat * m.q", ""),
}
TERMS = {
    "inorm_relu_pool": GRADIENTS
    | {
        "q is of centred values": ("centred * plane.x_t[n]", "plane.x[n] * plane.x_t[n]"),
        "gamma_t": ("plane.gamma_t * point.xhat + plane.beta_t", "plane.beta_t"),
        "beta_t": (" + plane.beta_t", ""),
        "eps": (" + plane.eps", ""),
        "ReLU": ("y <= 0 ? scalar_t(0) : value", "value"),
        "what the pool drops": (" || i >= plane.height / 2 || j >= plane.width / 2", ""),
        "next row": ("      w -= width;\n      ++h;", "      w -= width;"),
        "r_t": (" - scale * m.rstd * m.q", ""),
        "order of the parts": ("parts[planes + plane.index]", "parts[plane.index]"),
        "sum over the images": ("n += kSumRows", "n += images"),
        "groups of several warps": (
            "const int first = warp / warps * warps;",
            "const int first = 0;",
        ),
    },
    "inorm_relu_pool_nhwc": GRADIENTS
    | {
        "q is of centred values": (
            "centred * values.x_t[e].at[v]",
            "values.x[e].at[v] * values.x_t[e].at[v]",
        ),
        "gamma_t": ("planes.gamma_t.at[v] * point.xhat +", ""),
        "eps": (" + cells.planes.eps", ""),
        "centred off the map": (
            "cell.is_there[e] ? values.x[e].at[v] - mean : scalar_t(0)",
            "values.x[e].at[v] - mean",
        ),
        "r_t": (" - scale * m[v].rstd * m[v].q", ""),
        "order of the parts": ("parts + images * planes.channels + plane", "parts + plane"),
        "planes of several warps": (
            "const int first = warp / warps * warps;",
            "const int first = 0;",
        ),
        "cells beyond the registers": (
            "int n = planes.slice + cells.kKept * planes.slices; n < planes.cells;",
            "int n = planes.cells; n < planes.cells;",
        ),
        "several images a block": (
            "images_in_block + number / threads.slices",
            "images_in_block",
        ),
    },
    "first_block": GRADIENTS
    | {
        "gamma_t": ("own.gamma_t[v] * point.xhat + ", ""),
        "beta_t": (" + own.beta_t[v]", ""),
        "eps": ("own.size + eps", "own.size"),
        "variance off the map": (
            "is_there ? z.at[row][column][v] - m[v].mean : scalar_t(0)",
            "z.at[row][column][v] - m[v].mean",
        ),
        "dz off the map": ("is_there ? scale * projected : scalar_t(0)", "scale * projected"),
        "dz_t off the map": (
            "is_there ? scale_t * projected + scale * projected_t : scalar_t(0)",
            "scale_t * projected + scale * projected_t",
        ),
        "r_t": (" - scale * m.rstd * m.q", ""),
        "dz_t w": ("of[1] * own.w[9 * ci + k][0] + ", ""),
        "dz w_t": (" + of[0] * own.w[9 * ci + k][1]", ""),
        "lanes without a channel": ("own.is_owned[0] ? value : scalar_t(0)", "value"),
        "groups of channels": ("(group * images + own.image)", "own.image"),
        "halves of halves": (" + (own.lane & 8) / 8 * 6", ""),
        "tiles above": ("int i = h / kTileRows - 1;", "int i = h / kTileRows;"),
        "tiles to the left": ("int j = w / kTileColumns - 1;", "int j = w / kTileColumns;"),
        "sum over the images": ("n += kFirstSumRows", "n += images"),
        "rows of sums": ("n < kFirstSumRows; ++n", "n < 1; ++n"),
        "order of the weights": ("int64_t{c} * taps + row", "int64_t{row} * channels + c"),
    },
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
    objects = [str(folder / f"{source.stem}.o") for source in UNCHANGED]
    for target, source in zip(objects, UNCHANGED, strict=True):
        compile_with(target, "-c", str(source))
    return objects


def compile_with(target, *arguments):
    folders = [f"-I{folder}" for folder in FOLDERS]
    command = [COMPILER, *FLAGS, *arguments, *folders, "-o", str(target)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def text_of(name) -> str:
    return (ROOT / "csrc" / "kernels" / f"{name}.cuh").read_text()


def failing_orders(folder, unchanged, name, text, orders=ORDERS) -> set[str]:
    """Compile the program with this text of the kernels and name the orders in which it fails."""
    (folder / "kernels").mkdir()
    (folder / "kernels" / f"{name}.cuh").write_text(text)
    program, drivers = folder / "program", ("kernel_program", f"sanitize_{name}")
    sources = [str(HERE / f"{driver}.cpp") for driver in drivers]
    compile_with(program, f"-I{folder}", f"-DSANITIZE=sanitize_{name}", *sources, *unchanged)
    done = {
        order: subprocess.run([program, order], capture_output=True, text=True, timeout=300)
        for order in orders
    }
    assert all(run.returncode in (0, 1) for run in done.values())
    assert all("differ" in run.stderr for run in done.values() if run.returncode == 1)
    return {order for order, run in done.items() if run.returncode == 1}


@pytest.mark.parametrize("name", TERMS)
def test_intact_kernels_agree(tmp_path, unchanged, name):
    assert failing_orders(tmp_path, unchanged, name, text_of(name)) == set()


@pytest.mark.parametrize(
    ("name", "number"),
    [(name, number) for name in TERMS for number in range(text_of(name).count(BARRIER))],
)
def test_every_missing_barrier_is_noticed(tmp_path, unchanged, name, number):
    text = text_of(name)
    start = [match.start() for match in re.finditer(re.escape(BARRIER), text)][number]
    mutated = text[:start] + ";" + text[start + len(BARRIER) :]
    assert failing_orders(tmp_path, unchanged, name, mutated)


@pytest.mark.parametrize(
    ("name", "label"), [(name, label) for name, terms in TERMS.items() for label in terms]
)
def test_every_missing_term_is_noticed(tmp_path, unchanged, name, label):
    old, new = TERMS[name][label]
    text = text_of(name)
    assert text.count(old) == 1, f"{old!r} is not in the kernels of {name} exactly once"
    mutated = text.replace(old, new)
    assert failing_orders(tmp_path, unchanged, name, mutated, ORDERS[:1])
