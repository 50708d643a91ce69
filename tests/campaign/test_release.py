"""The source distribution builds a wheel, and the wheel works where there is no other nsdbench.

The environment is empty but for the wheel; the packages that it depends on are those of the Python
that runs the tests, or of the further ones that NSDBENCH_PYTHONS names (separated as in PATH).
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OTHERS = [path for path in os.environ.get("NSDBENCH_PYTHONS", "").split(os.pathsep) if path]
pytestmark = [pytest.mark.slow, pytest.mark.campaign]


def call(*command, **options):
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Build the source distribution, from a copy, as the build writes beside the sources."""
    copy = tmp_path_factory.mktemp("source") / "project"
    ignored = shutil.ignore_patterns("__pycache__", "*.so", "build", "dist", "*.egg-info")
    for name in ("nsdbench", "csrc", "results/paper"):
        shutil.copytree(ROOT / name, copy / name, ignore=ignored)
    for path in filter(Path.is_file, ROOT.iterdir()):
        shutil.copy(path, copy)
    call(sys.executable, "setup.py", "-q", "sdist", cwd=copy)
    (archive,) = (copy / "dist").glob("*.tar.gz")
    return archive


@pytest.fixture(scope="module", params=[sys.executable, *OTHERS])
def installed(request, source, tmp_path_factory):
    """Build a wheel from the source distribution, install it, and return the folder of commands."""
    folder = tmp_path_factory.mktemp("installed")
    python = request.param
    without_network = ("--no-deps", "--no-index", "--no-build-isolation")
    environment = os.environ | {"NSDBENCH_CUDA": "0", "MAX_JOBS": "2"}
    wheel = (python, "-m", "pip", "wheel", *without_network, "-w", folder, source)
    call(*wheel, cwd=folder, env=environment)
    (built,) = folder.glob("nsdbench-*.whl")
    call(python, "-m", "venv", "--without-pip", folder / "empty")
    commands = folder / "empty" / "bin"
    call(python, "-m", "pip", "--python", commands / "python", "install", "--no-deps",
         "--no-index", built)  # fmt: skip
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = call(python, "-c", where).strip()
    own = call(commands / "python", "-c", where).strip()
    Path(own, "dependencies.pth").write_text(f"{packages}\n")  # whose own .pth files are not read
    return commands


def test_an_installed_wheel_runs_a_table(installed, tmp_path):
    environment = {"PATH": os.environ["PATH"], "NSDBENCH_CACHE": str(tmp_path / "cache")}
    environment |= {"NSDBENCH_OFFLINE": "1", "OMP_NUM_THREADS": "1"}

    def nsdbench(*arguments):
        return call(installed / "nsdbench", *arguments, cwd=tmp_path, env=environment)

    where = "import nsdbench; print(nsdbench.__file__)"
    file = call(installed / "python", "-c", where, cwd=tmp_path, env=environment)
    assert str(installed.parent) in file
    assert nsdbench("--version").startswith("nsdbench 0.")
    facts = json.loads(nsdbench("doctor", "--json"))
    assert facts["operators"] is None and facts["convnet"]["cpu"] == "native"
    assert facts["self_test"] and all(test["passed"] for test in facts["self_test"])
    assert "resnet34" in nsdbench("list", "archs")
    chosen = ("table1", "--where", "method=random,ipc=1")
    nsdbench("run", *chosen)
    report = nsdbench("report", "table1", "--markdown")
    assert "| Random" in report
    assert "| NSD" in nsdbench("report", "table1", "--scale", "paper", "--markdown")
