"""What the build says when a compiler is missing or wrong, and what an installed package holds."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch

from nsdbench import _build_info
from nsdbench.ops import backend

ROOT = Path(__file__).resolve().parents[1]


def build(tmp_path, *arguments, **environment):
    """Run setup.py without touching the build tree of the project."""
    command = [sys.executable, "setup.py", "-q", *arguments]
    return subprocess.run(
        command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True
    )


def complaint(done) -> str:
    """The one line the build stops with."""
    assert done.returncode != 0
    lines = [line for line in done.stderr.splitlines() if line.startswith("nsdbench: ")]
    assert len(lines) == 1, done.stderr
    assert "Traceback" not in done.stderr
    return lines[0]


@pytest.mark.parametrize(
    ("compiler", "reason"), [("no-such-compiler", "not found"), ("false", "no message")]
)
def test_missing_or_broken_compiler_is_one_line(tmp_path, compiler, reason):
    done = build(tmp_path, "build_ext", "--build-lib", str(tmp_path), CXX=compiler)
    line = complaint(done)
    assert "a C++20 compiler is needed (g++ 11 or later; set CXX)" in line
    assert f"{compiler}: {reason}" in line


def test_broken_nvcc_is_one_line_where_cuda_is_asked_for(tmp_path):
    done = build(
        tmp_path, "build_ext", "--build-lib", str(tmp_path), NSDBENCH_CUDA="1", CUDACXX="false"
    )
    assert "NSDBENCH_CUDA=1, but nvcc cannot build for sm_75 to sm_90" in complaint(done)


def test_unknown_switch_is_one_line(tmp_path):
    done = build(tmp_path, "build_ext", "--build-lib", str(tmp_path), NSDBENCH_CUDA="maybe")
    assert "NSDBENCH_CUDA must be auto, 0 or 1, got 'maybe'" in complaint(done)


def test_package_holds_recipes_tables_and_published_numbers(tmp_path):
    done = build(tmp_path, "build_py", "--build-lib", str(tmp_path))
    assert done.returncode == 0, done.stderr
    built = tmp_path / "nsdbench"
    for source in (ROOT / "nsdbench").rglob("*.toml"):
        copy = built / source.relative_to(ROOT / "nsdbench")
        assert copy.read_bytes() == source.read_bytes()
    published = {path.name for path in (ROOT / "results" / "paper").glob("*.csv")}
    assert {f"table{n}.csv" for n in range(1, 7)} <= published
    assert {path.name for path in (built / "_published").glob("*.csv")} == published


def test_constraints_pin_every_requirement():
    pinned = {
        line.split("==")[0].lower()
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if line and not line.startswith("#")
    }
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = project["project"]["dependencies"] + project["build-system"]["requires"]
    wanted += project["project"]["optional-dependencies"]["test"]
    names = {requirement.split(">")[0].split("=")[0].lower() for requirement in wanted}
    assert names <= pinned
    assert "torch==2.13.0" in project["build-system"]["requires"]


def test_operators_include_no_iostreams():
    """With some builds of torch a refusal that used them crashed (csrc/ops/text.h)."""
    sources = sorted((ROOT / "csrc" / "ops").iterdir())
    assert sources
    for path in sources:
        text = path.read_text()
        assert "stream>" not in text and "stringstream" not in text, path


def test_only_the_package_is_installed():
    """What the tests build (tests/native) is in no wheel."""
    text = (ROOT / "CMakeLists.txt").read_text()
    assert set(re.findall(r"install\(TARGETS (\w+)", text)) == {"_C", "_C_cuda", "_build_info"}
    assert "tests" not in text


def test_build_facts():
    facts = _build_info.facts()
    assert facts["torch"] == torch.__version__
    assert facts["cxx_standard"] >= 202002
    assert bool(facts["cuda_compiler"]) == (backend.FOLDER / "_C_cuda.so").exists()
