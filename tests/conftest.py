"""Fixtures that every part of the tests may use."""

import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from filelock import FileLock

from nsdbench import methods
from nsdbench.bench.measure import measure
from nsdbench.bench.plan import Task
from nsdbench.bench.tables import FOLDERS_VARIABLE as TABLES_VARIABLE
from nsdbench.bench.tables import reading
from nsdbench.cli import app
from nsdbench.evaluation import protocols
from nsdbench.experts import Run
from nsdbench.methods import FOLDERS_VARIABLE as METHODS_VARIABLE
from nsdbench.ops import convnet, is_native

# What the terminal of whoever runs the tests asks for is nothing to what commands print.
for _name in ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "COLUMNS", "LINES"):
    os.environ.pop(_name, None)


@pytest.fixture(
    params=[
        "cpu",
        pytest.param(
            "cuda",
            marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
        ),
    ]
)
def device(request) -> torch.device:
    """Run a test on the CPU and, where there is one, on a CUDA device."""
    return torch.device(request.param)


@pytest.fixture
def add_to_suite(tmp_path, monkeypatch) -> Callable[..., None]:
    """Return a function that adds tables and methods, TOML by name, to those of the suite."""

    def add(tables: dict[str, str], methods: dict[str, str]) -> None:
        for folder, variable, texts in (
            ("tables", TABLES_VARIABLE, tables),
            ("methods", METHODS_VARIABLE, methods),
        ):
            (tmp_path / folder).mkdir()
            for name, text in texts.items():
                (tmp_path / folder / f"{name}.toml").write_text(text)
            monkeypatch.setenv(variable, str(tmp_path / folder))

    return add


@pytest.fixture
def run_command(monkeypatch, capsys) -> Callable[[str], tuple[int, str, str]]:
    """Run a command line in this process, without the program's name.

    Returns:
        The exit code, and what was printed to stdout and to stderr.
    """

    def run(line: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["nsdbench", *shlex.split(line)])
        with pytest.raises(SystemExit) as stopped:
            app.main()
        captured = capsys.readouterr()
        return stopped.value.code or 0, captured.out, captured.err

    return run


@pytest.fixture(scope="session")
def built() -> Callable[[str], Path]:
    """Build a target of tests/native/CMakeLists.txt if it is out of date, and return the folder."""
    path = sysconfig.get_path("scripts") + os.pathsep + os.environ.get("PATH", os.defpath)
    cmake, ninja = (shutil.which(tool, path=path) for tool in ("cmake", "ninja"))
    pybind11 = importlib.util.find_spec("pybind11")
    if cmake is None or ninja is None or pybind11 is None or pybind11.origin is None:
        pytest.skip("needs cmake, ninja and pybind11")
    source = Path(__file__).parent / "native"
    folder = source.parents[1] / "build" / "tests"
    options = {
        "CMAKE_MAKE_PROGRAM": ninja,
        "PYTHON_INCLUDE": sysconfig.get_path("include"),
        "PYBIND11_INCLUDE": Path(pybind11.origin).parent / "include",
        "EXTENSION_SUFFIX": sysconfig.get_config_var("EXT_SUFFIX"),
    }
    configure = [cmake, "-S", source, "-B", folder, "-G", "Ninja"]
    configure += [f"-D{name}={value}" for name, value in options.items()]

    def build(target: str) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "lock"):  # the tests run in several processes
            for step in (configure, [cmake, "--build", folder, "--target", target]):
                done = subprocess.run(step, capture_output=True, text=True)
                assert done.returncode == 0, done.stdout + done.stderr
        return folder

    return build


@pytest.fixture(scope="session")
def simt(built) -> ModuleType:
    """Load the CUDA kernels compiled for the host (tests/native/simt.cpp)."""
    path = built("_simt") / f"_simt{sysconfig.get_config_var('EXT_SUFFIX')}"
    spec = importlib.util.spec_from_file_location("_simt", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def fused_on_cpu(monkeypatch):
    """Have ConvNets take on the CPU the path that they take on CUDA."""
    monkeypatch.setattr(
        convnet,
        "path_on",
        lambda device: "fused" if is_native(device) else "generic",
    )


@pytest.fixture
def undescribed(monkeypatch) -> str:
    """Have our tables declare a method that no file describes, and return its name."""
    declared = reading._declared
    monkeypatch.setattr(reading, "_declared", lambda: {*declared(), "dream"})
    return "dream"


@pytest.fixture
def measure_cell():
    """Measure a cell that no table has to declare."""

    def measure_one(cell, results, *, seeds=1, repeats=1, **shared):
        recipe = methods.resolve(cell.method, cell.dataset, cell.ipc, cell.scale)
        protocol = protocols.get(cell.protocol)
        return measure(Task(cell, recipe, protocol, seeds, repeats), Run(results, **shared))

    return measure_one


_TINY = """
[[settings]]
source = "test"
[settings.network]
width = 8
depth = 1
[settings.experts]
num_experts = 2
epochs = 3
batch_size = 32
[settings.objective]
syn_steps = 3
expert_epochs = 1
max_start_epoch = 2
lr_inner = 0.02
batch_syn = 8
[settings.optimiser]
iterations = 6
lr_syn = 1.0
lr_lr = 1e-5
"""


@pytest.fixture
def tiny_methods(tmp_path, monkeypatch):
    """Provide methods tiny-nsd and tiny-mtt that run in about a second, and an empty cache.

    Returns:
        The folder of the methods.
    """
    folder = tmp_path / "methods"
    folder.mkdir()
    nsd = "[settings.parameterization]\nnum_kernel_sets = 1\n"
    for parent, more in (("nsd", nsd), ("mtt", "")):
        head = f'name = "tiny-{parent}"\ntitle = "tiny"\nextends = "{parent}"\n'
        (folder / f"tiny-{parent}.toml").write_text(head + _TINY + more)
    monkeypatch.setenv("NSDBENCH_METHODS", str(folder))
    monkeypatch.setenv("NSDBENCH_CACHE", str(tmp_path / "cache"))
    return folder
