"""The example in tests/plugin_example: a package outside nsdbench, built, installed and run."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

EXAMPLE = Path(__file__).parent / "plugin_example"
ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "plugins.md"


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
        "PYTHONPATH": f"{ROOT}{os.pathsep}{site}",
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


def test_a_network_a_data_set_and_a_protocol_of_another_package_judge(nsdbench, tmp_path):
    listed = json.loads(nsdbench("list", "--json"))
    assert "bottleneck[-d<depth>][-w<width>][-bn|-nonorm]" in [a["id"] for a in listed["archs"]]
    (stripes,) = [row for row in listed["datasets"] if row["name"] == "Stripes"]
    assert stripes == {"name": "Stripes", "image": "1x16x16", "classes": "2", "where": "missing"}
    (brief,) = [row for row in listed["protocols"] if row["name"] == "brief"]
    assert brief["settings"].startswith("lr 0.05, ") and "epochs 20, " in brief["settings"]

    images = []  # stripes of one pixel, and of four; class by class
    for label, width in ((0, 1), (1, 4)):
        row = ((np.arange(16) // width) % 2 * 255).astype(np.uint8)
        images += [(label, np.roll(row, n)[None].repeat(16, axis=0)) for n in range(20)]
    content = b"".join(bytes([label]) + picture.tobytes() for label, picture in images)
    (tmp_path / "stripes-train.bin").write_bytes(content)
    (tmp_path / "stripes-test.bin").write_bytes(content[: 10 * 257] + content[20 * 257 : 30 * 257])
    pictures = np.stack([picture for _, picture in (*images[:4], *images[20:24])])[:, None]
    np.savez(tmp_path / "set.npz", images=pictures / 127.5 - 1, labels=[0] * 4 + [1] * 4)
    options = ("--dataset", "Stripes", "--repeats", "2", "--data-root", ".", "--json")
    options += ("--arch", "bottleneck-w16", "--pixels", "normalised")
    (record,) = json.loads(nsdbench("judge", "set.npz", "--protocol", "brief", *options))
    cell = record["cell"]
    assert re.fullmatch(r"bottleneck~[0-9a-f]{12}-w16", cell["arch"])
    assert (cell["dataset"], cell["protocol"]) == ("Stripes", "brief")
    assert record["training"]["steps"] == 21 and record["accuracy"]["mean"] > 50
    shorter = json.loads(nsdbench("judge", "set.npz", "--protocol", "brief-1ep", *options))
    assert shorter[0]["training"]["steps"] == 2


@pytest.mark.slow
def test_methods_of_another_package_are_listed_explained_run_and_reported(nsdbench, tmp_path):
    listed = json.loads(nsdbench("list", "methods", "--json"))["methods"]
    parts = {
        method["name"]: (method["parameterization"], method["objective"], method["status"])
        for method in listed
    }
    assert parts["nsd-class-means"] == ("spectral", "class-means", "runnable")
    assert parts["mtt-mirrored"] == ("mirrored", "trajectory", "runnable")
    assert parts["near-mean"][2] == "runnable"
    assert parts["glad-waves"] == ("generator", "trajectory", "runnable")

    text = nsdbench("explain", "example", "--where", "method=nsd-class-means")
    assert re.search(r"objective\.real_per_class +32 +our choice", text)
    assert "nsd-class-means.toml" in text and "objective.syn_steps" not in text
    assert "distils with convnet2-w16\n" in text  # no student is unrolled

    names = "nsd-class-means|mtt-mirrored|glad-waves|near-mean|random"
    nsdbench("run", "example", "--where", f"method={names}")
    (part,) = json.loads(nsdbench("status", "example", "--json"))["tables"]
    cells = {cell["method"]: cell for cell in part["cells"]}
    ran = ("random", "near-mean", "mtt-mirrored", "nsd-class-means", "glad-waves")
    for name, cell in cells.items():
        assert cell["status"] == ("measured" if name in ran else "not run")
    report = nsdbench("report", "example")
    for name in ran:
        assert cells[name]["mean"] > 50  # chance is 10 %
        assert f"| {cells[name]['row']:<22} |" in report
        assert f"{cells[name]['mean']:.1f} ± " in report
    for name in ran[2:]:
        (record,) = (tmp_path / "results" / "records" / "smoke").glob(f"*-{name}-*.json")
        record = json.loads(record.read_text())
        assert record["distillation"]["loss_last"] < record["distillation"]["loss_first"]
        assert record["distillation"]["images_moved"] > 0.02
        assert record["budget"]["stored_bits"] <= record["budget"]["limit_bits"]
    images = record_images(tmp_path, "mtt-mirrored")
    assert len(images) == 20 and (images == images[..., ::-1]).all()  # 2 ipc a class, mirrored


def record_images(folder, method):
    """Read the decoded images that a run kept beside its record."""
    (path,) = (folder / "results" / "images" / "smoke").glob(f"*-{method}-*.npz")
    with np.load(path) as arrays:
        return arrays["images"]


def test_the_page_shows_the_example_as_it_is():
    text = PAGE.read_text()
    package = EXAMPLE / "nsdbench_example"
    toml = re.findall(r"```toml\n(.*?)```", text, flags=re.DOTALL)
    assert tomllib.loads((package / "nsd-class-means.toml").read_text()) in map(tomllib.loads, toml)
    entered = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]["entry-points"]
    shown = [tomllib.loads(block).get("project", {}).get("entry-points") for block in toml]
    assert entered in shown
    code = (package / "class_means.py").read_text()
    assert all(
        set(re.findall(r"(?:from|import) (nsdbench[.\w]*)", path.read_text()))
        <= {"nsdbench.plugin"}
        for path in package.glob("*.py")
    ), "the example builds on the public module alone"
    python = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    sources = [path.read_text() for path in package.glob("*.py")]
    assert len(python) == 5 and all(any(x in source for source in sources) for x in python)
    (loss,) = re.findall(r"    def loss\(.*?return [^\n]*\n", code, flags=re.DOTALL)
    assert loss in text
