"""The example in tests/plugin_example: a package outside nsdbench, built, installed and run."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from nsdbench import load_artefact

EXAMPLE = Path(__file__).parent / "plugin_example"
README = Path(__file__).parents[1] / "README.md"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Return a folder that holds the example as its build backend installs it; needs no network."""
    source = tmp_path_factory.mktemp("source") / "plugin_example"
    shutil.copytree(EXAMPLE, source)  # the build writes beside the sources
    target = tmp_path_factory.mktemp("site")
    options = ["--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--target", target]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, source], check=True)
    return target


@pytest.fixture
def nsdbench(site, tmp_path):
    """Run a command in a process that finds the example and its table; returns what it printed."""
    environment = os.environ | {
        "PYTHONPATH": f"{README.parent}{os.pathsep}{site}",
        "NSDBENCH_TABLES": str(EXAMPLE / "tables"),
        "NSDBENCH_CACHE": str(tmp_path / "cache"),
        "NSDBENCH_OFFLINE": "1",
    }

    def run(*arguments):
        done = subprocess.run(
            [sys.executable, "-m", "nsdbench", *arguments],
            capture_output=True, text=True, cwd=tmp_path, env=environment,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.mark.slow
def test_a_method_of_another_package_is_listed_explained_run_and_reported(nsdbench, tmp_path):
    listed = json.loads(nsdbench("list", "methods", "--json"))["methods"]
    (ours,) = [method for method in listed if method["name"] == "nsd-class-means"]
    assert (ours["parameterization"], ours["objective"]) == ("spectral", "class-means")
    assert (ours["status"], ours["missing"]) == ("runnable", "")

    text = nsdbench("explain", "class-means", "--where", "method=nsd-class-means")
    assert re.search(r"objective\.real_per_class +32 +our choice", text)
    assert "nsd-class-means.toml" in text and "objective.syn_steps" not in text
    assert "distils with convnet2-w16\n" in text  # no student is unrolled

    where = ("--where", "method=nsd-class-means|random")
    nsdbench("run", "class-means", *where)
    (part,) = json.loads(nsdbench("status", "class-means", "--json"))["tables"]
    cells = {cell["method"]: cell for cell in part["cells"]}
    assert {name: cell["status"] for name, cell in cells.items()} == {
        "nsd-class-means": "measured", "random": "measured", "nsd": "not run",
    }  # fmt: skip
    (path,) = (tmp_path / "results" / "artefacts").glob("nsd-class-means-*.safetensors")
    curve = load_artefact(path).metadata["distillation"]
    assert curve["loss_last"] < curve["loss_first"] / 10
    assert cells["nsd-class-means"]["mean"] > 50  # chance is 10 %
    report = nsdbench("report", "class-means")
    assert f"{cells['nsd-class-means']['mean']:.1f} ± " in report and "NSD on class means" in report


def test_the_readme_shows_the_example_as_it_is():
    text = README.read_text()
    package = EXAMPLE / "nsdbench_class_means"
    toml = re.findall(r"```toml\n(.*?)```", text, flags=re.DOTALL)
    assert tomllib.loads((package / "nsd-class-means.toml").read_text()) in map(tomllib.loads, toml)
    entered = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]["entry-points"]
    shown = [tomllib.loads(block).get("project", {}).get("entry-points") for block in toml]
    assert entered in shown
    code = (package / "__init__.py").read_text()
    (loss,) = re.findall(r"    def loss\(.*?return [^\n]*\n", code, flags=re.DOTALL)
    assert loss in text
