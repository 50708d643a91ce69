"""What asks for no number loads nothing that computes: neither torch nor the compiled operators."""

import subprocess
import sys
from pathlib import Path

import pytest

import nsdbench

FOLDER = Path(nsdbench.__file__).parent
# Prints after the statement, whatever it exits with, what it loaded of the first argument's folder.
PROBE = """
import atexit, pathlib, sys

def tell():
    mapped = pathlib.Path("/proc/self/maps").read_text().split()
    print("\\nloaded:", *(["torch"] if "torch" in sys.modules else []),
          *sorted({path for path in mapped if path.startswith(FOLDER) and path.endswith(".so")}))

FOLDER = sys.argv.pop(1)
atexit.register(tell)
"""


def loaded(statement, *arguments):
    """Run a statement in a process of its own; list torch and the shared objects it loaded."""
    command = [sys.executable, "-c", PROBE + statement, str(FOLDER), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1].split()[1:]


def test_the_probe_sees_torch_and_the_operators():
    library = str(FOLDER / "_C.so")
    statement = f"import torch; torch.ops.load_library({library!r})"
    assert loaded(statement) == ["torch", library]


def test_the_package_loads_nothing_that_computes():
    assert loaded("import nsdbench; import nsdbench.report") == []


COMMAND = "import runpy; runpy.run_module('nsdbench', run_name='__main__', alter_sys=True)"


@pytest.mark.parametrize(
    "words", ["--help", "list", "plan table1", "status table1", "report table1 --csv"]
)
def test_commands_that_compute_nothing_load_nothing_that_computes(words):
    assert loaded(COMMAND, *words.split()) == []
