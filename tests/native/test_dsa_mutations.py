"""DSA rebuilt with one wrong index, sign or barrier at a time: the comparison must notice each.

The program runs the CPU code beside the CUDA source on the host, every operation and its transpose
(sanitize_dsa.cpp); only one of the two is mutated.
"""

import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

NATIVE = Path(__file__).resolve().parent
CSRC = NATIVE.parents[1] / "csrc"
COMPILER = shutil.which(os.environ.get("CXX", "c++"))
FLAGS = ("-std=c++20", "-O1", "-Wno-psabi", "-DNSDBENCH_SERIAL", "-DSANITIZE=sanitize_dsa")
SOURCES = {
    "simd": CSRC / "cpu" / "simd.cpp",
    "dsa": CSRC / "cpu" / "dsa.cpp",
    "dsa_rotate": CSRC / "cpu" / "dsa_rotate.cpp",
    "dsa_scale": CSRC / "cpu" / "dsa_scale.cpp",
    "sanitize_dsa": NATIVE / "sanitize_dsa.cpp",
    "program": NATIVE / "kernel_program.cpp",
}
KERNEL = CSRC / "kernels" / "dsa.cuh"
MUTATIONS = {
    "transpose reads the wrong way": (
        "dsa_rotate",
        "taps_of(map, is_transposed)",
        "taps_of({map.xx, map.yx, map.xy, map.yy}, is_transposed)",
    ),
    "window of rows one early": ("dsa_rotate", "rotation.reach + 0.5", "rotation.reach - 0.5"),
    "window of columns one too short": (
        "dsa_rotate",
        "problem.width - columns - w)",
        "problem.width - columns - w - 1)",
    ),
    "transposed crop goes the same way": (
        "dsa",
        "crop(problem, -down, -right",
        "crop(problem, -down, right",
    ),
    "flip is one pixel off": (
        "dsa",
        "source[width - 1 - w - l]",
        "source[width - 1 - w - l + (w + l > 0)]",
    ),
    "kernel: transpose one column off": (
        "kernel",
        "kTransposed ? hat(at_w(reader, r, c)",
        "kTransposed ? hat(at_w(reader, r, c + 1)",
    ),
    "kernel: transposed window by the wrong row": (
        "kernel",
        "static_cast<scalar_t>(w) - at_w(reader, r, 0)",
        "static_cast<scalar_t>(w) - at_w(reader, h, 0)",
    ),
    "kernel: transpose too narrow": ("kernel", "(yx + xx) / size", "xx / size"),
    "kernel: no barrier before the map is read": (
        "kernel",
        "  simt::barrier();\n  const Reader",
        "  const Reader",
    ),
    "kernel: no barrier in the sum": (
        "kernel",
        "    simt::barrier();\n    if (t < half)",
        "    if (t < half)",
    ),
}

pytestmark = [
    pytest.mark.campaign,
    pytest.mark.slow,
    pytest.mark.skipif(COMPILER is None, reason="no C++ compiler"),
]


def compile_one(source: Path, target: Path, *first: Path) -> Path:
    """Compile a file, looking for headers in `first` before the project's folders."""
    folders = [*first, CSRC, CSRC / "cpu", NATIVE, CSRC / "kernels"]
    command = [
        COMPILER,
        *FLAGS,
        *(f"-I{folder}" for folder in folders),
        "-c",
        str(source),
        "-o",
        str(target),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return target


def agrees(folder: Path, objects: dict[str, Path]) -> bool:
    """Link and run; False if the program found a difference."""
    program = folder / "program"
    subprocess.run([COMPILER, *map(str, objects.values()), "-o", str(program)], check=True)
    done = subprocess.run([str(program), "shuffled"], capture_output=True, text=True, timeout=120)
    assert done.returncode in (0, 1), done.stderr
    return done.returncode == 0


@pytest.fixture(scope="module")
def objects(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("intact")
    with ThreadPoolExecutor(2) as pool:
        targets = pool.map(lambda name: compile_one(SOURCES[name], folder / f"{name}.o"), SOURCES)
        return dict(zip(SOURCES, targets, strict=True))


def test_the_intact_program_agrees(objects, tmp_path):
    assert agrees(tmp_path, objects)


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_mutation_is_noticed(objects, tmp_path, name):
    part, intact, wrong = MUTATIONS[name]
    is_kernel = part == "kernel"
    source = KERNEL if is_kernel else SOURCES[part]
    text = source.read_text()
    assert text.count(intact) == 1, "the mutation no longer fits the source"
    changed = tmp_path / "kernels" / KERNEL.name if is_kernel else tmp_path / source.name
    changed.parent.mkdir(exist_ok=True)
    changed.write_text(text.replace(intact, wrong))
    if is_kernel:
        part = "sanitize_dsa"  # includes the kernel's source
        target = compile_one(SOURCES[part], tmp_path / "mutated.o", tmp_path)
    else:
        target = compile_one(changed, tmp_path / "mutated.o")
    assert not agrees(tmp_path, objects | {part: target})
