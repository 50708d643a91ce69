"""What the build says when a compiler is missing or wrong, and what an installed package holds."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
import torch

from nsdbench import _build_info
from nsdbench.ops import backend

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ("*.py", "*.pyi", "*.toml", "*.html", "*.css", "*.js", "py.typed")


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


@pytest.fixture(scope="module")
def distributions(tmp_path_factory):
    """The members of a source distribution and of a wheel, whose objects are left out."""
    copy = tmp_path_factory.mktemp("distributions") / "project"
    names = ("nsdbench", "csrc", "tests", "benchmarks", "results/paper")
    for name in names:
        ignored = shutil.ignore_patterns("__pycache__", "*.so")
        shutil.copytree(ROOT / name, copy / name, ignore=ignored)
    for path in filter(Path.is_file, ROOT.iterdir()):
        shutil.copy(path, copy)
    command = [sys.executable, "setup.py", "-q", "build_py", "bdist_wheel", "--skip-build", "sdist"]
    done = subprocess.run(command, cwd=copy, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (source,), (wheel,) = (copy.glob(f"dist/*{suffix}") for suffix in (".tar.gz", ".whl"))
    with tarfile.open(source) as archive:
        files = [member.name for member in archive.getmembers() if member.isfile()]
    members = {name.partition("/")[2] for name in files}
    return {"source": members, "wheel": set(zipfile.ZipFile(wheel).namelist())}


def files_of(folder, *patterns):
    """List the project's files in a folder, by their paths from the root."""
    found = {path for pattern in patterns for path in (ROOT / folder).rglob(pattern)}
    return {str(path.relative_to(ROOT)) for path in found if path.is_file()}


def test_source_distribution_holds_what_a_build_needs(distributions):
    package = files_of("nsdbench", *PACKAGE)
    native = {name for name in files_of("csrc", "*") if "__pycache__" not in name}
    published = files_of("results/paper", "*")
    assert {f"results/paper/table{n}.csv" for n in range(1, 7)} <= published
    tools = {"setup.py", "pyproject.toml", "CMakeLists.txt", "MANIFEST.in", "constraints.txt"}
    pages = {"README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff"}
    made = {"PKG-INFO", "setup.cfg"}
    found = {name for name in distributions["source"] if ".egg-info/" not in name}
    assert found == package | native | published | tools | pages | made


def test_wheel_holds_the_package_recipes_tables_and_published_numbers(distributions):
    package = files_of("nsdbench", *PACKAGE)
    published = {
        f"nsdbench/_published/{Path(name).name}" for name in files_of("results/paper", "*")
    }
    found = {name for name in distributions["wheel"] if ".dist-info/" not in name}
    page = {f"nsdbench/report/page/templates/page.{kind}" for kind in ("html", "css", "js")}
    assert {"nsdbench/py.typed", *page} <= package and found == package | published


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


def test_citation_names_this_version():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"\n## [{version}]" in (ROOT / "CHANGELOG.md").read_text()
