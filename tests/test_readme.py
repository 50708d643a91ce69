"""The pages are true: commands exist, snippets run, and the README says what is implemented."""

import io
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image

from nsdbench.bench import tables
from nsdbench.bench.store import Store
from nsdbench.cli import app as cli
from nsdbench.distillation import objectives
from nsdbench.report import status
from nsdbench.report.blocks import fill
from nsdbench.report.pictures import draw_images, what_is_drawn
from nsdbench.sets import parameterizations

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PAGES = {
    path: path.read_text()
    for path in (ROOT / "README.md", ROOT / "results" / "README.md", *(ROOT / "docs").glob("*.md"))
}
COMMANDS = sorted(
    set(re.findall(r"python -m nsdbench +([^`#\n]*[^`#\s])", "\n".join(PAGES.values())))
)
# The same calls at sizes that take seconds.
TINY = {"experts.num_experts": 1, "experts.epochs": 4, "objective.max_start_epoch": 1}
SHORTER = {
    "ipc=1,": f"ipc=1, overrides={TINY | {'optimiser.iterations': 2}},",
    '"common-150ep", repeats=3': '"common-2ep", repeats=2',
}


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_exist_with_these_options(line):
    command, arguments = typer.main.get_command(cli.app), shlex.split(line)
    if arguments[0].startswith("--"):  # one that prints and exits
        assert arguments[0] in {option for x in command.params for option in x.opts}
        return
    while isinstance(command, typer.main.TyperGroup):
        command, arguments = command.commands[arguments[0]], arguments[1:]
    if arguments not in ([], ["--help"]):
        command.make_context(line, arguments)  # parses, and runs nothing


def test_commands_are_found():
    names = {line.split()[0] for line in COMMANDS}
    assert names >= {
        "list",
        "plan",
        "run",
        "status",
        "report",
        "explain",
        "distill",
        "evaluate",
        "judge",
    }


@pytest.mark.parametrize("path", [p for p, text in PAGES.items() if "<!-- nsdbench:" in text])
def test_numbers_of_pages_are_those_of_the_records(path):
    """Records of scale smoke are not in version control: their blocks are left."""
    found, _ = Store(ROOT / "results").records()
    filled = fill(PAGES[path], [record for record in found if record.cell.scale != "smoke"])
    assert filled.text == PAGES[path], f"{path.name} is not that of the records: make pages"
    assert filled.num_blocks > 0 and all("scale=smoke" in order for order in filled.left)


def test_the_picture_of_nsd_is_that_of_its_record():
    """Distinct images of every class, drawn from what the run kept; pixels, for PNGs differ."""
    cell = "CIFAR10-JPEG-ipc1-nsd-convnet3-w32-common-300ep"
    record = next(r for r in Store(ROOT / "results").records("small")[0] if r.cell.id == cell)
    assert f"{record.images} images that NSD decodes" in README.replace("\n", " ")
    source = Store(ROOT / "results").images_path("small", record.pictures_name)
    assert what_is_drawn(source).endswith("have their own contrast")
    drawn, shown = (
        np.asarray(Image.open(file))
        for file in (io.BytesIO(draw_images(source)), ROOT / "docs" / "nsd-images.png")
    )
    assert np.array_equal(drawn, shown)
    with np.load(source) as kept:
        for label in range(10):
            rows = kept["images"][kept["labels"] == label].reshape(10, -1)
            assert np.abs(np.corrcoef(rows) - np.eye(10)).max() < 0.99


def test_make_pages_fills_every_page_with_blocks():
    (line,) = [x for x in (ROOT / "Makefile").read_text().splitlines() if " report --fill" in x]
    named = {ROOT / name for name in re.findall(r"--fill (\S+)", line)}
    assert named == {path for path, text in PAGES.items() if "<!-- nsdbench:" in text}


def test_links_lead_to_files():
    links = {
        path.parent / link
        for path, text in PAGES.items()
        for link in re.findall(r"(?:\]\(|src=\")([^#)\"\s]+)", text)
        if not link.startswith("https://")
    }
    assert len(links) > 10
    assert [str(link) for link in links if not link.exists()] == []


@pytest.mark.slow
def test_the_python_of_the_readme_runs_as_one_program(tmp_path):
    program = "\n".join(re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL))
    for text, shorter in SHORTER.items():
        assert program.count(text) == 1
        program = program.replace(text, shorter)
    (tmp_path / "results").symlink_to(ROOT / "results")
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "NSDBENCH_CACHE": str(tmp_path / "cache"),
        "NSDBENCH_OFFLINE": "1",
    }
    checks = "\nassert images.grad.any() and lr.grad != 0 and len(networks) > len(cells) > 0"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program + checks],
        capture_output=True, text=True, cwd=tmp_path, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (shown,) = re.findall(r"print\(artefact\) +# (.*)", program)
    assert done.stdout.startswith(f"{shown}\n")
    assert (tmp_path / "set.safetensors").exists()


def test_the_sweep_of_the_readme_is_a_row_of_a_table(tmp_path, monkeypatch):
    (row,) = re.findall(r"```toml\n(\[\[rows\]\].*?)```", README, flags=re.DOTALL)
    table = 'name = "mine"\ntitle = "Mine"\nsource = "nobody"\n' + row
    table += '[scales.smoke]\nprotocol = "common"\nseeds = 1\nrepeats = 1\n'
    table += 'columns = [{ dataset = "Digits16", ipc = 1, arch = "convnet2-w16" }]\n'
    (tmp_path / "mine.toml").write_text(table)
    monkeypatch.setenv(tables.FOLDERS_VARIABLE, str(tmp_path))
    entries = tables.load("mine").entries("smoke")
    weights = [entry.recipe.values["objective"]["guided_weight"] for entry in entries]
    assert weights == [0, 0.1, 0.3, 1] and {entry.seeds for entry in entries} == {3}


def coverage_lines(summary):
    """Write tables' statuses as Markdown: which rows are implemented."""
    lines = [
        "| table | cells | rows implemented | rows not implemented yet |",
        "|---|---:|---|---|",
    ]
    for part in summary["tables"]:
        rows = {}
        for cell in part["cells"]:
            rows.setdefault(cell["row"], set()).add(cell["status"])
        missing = [row for row, statuses in rows.items() if statuses == {"not implemented"}]
        implemented = [row for row in rows if row not in missing]
        title = f"{part['name'].removeprefix('table')}: {part['title']}"
        sides = " | ".join(", ".join(names) or "-" for names in (implemented, missing))
        lines.append(f"| {title} | {len(part['cells'])} | {sides} |")
    return lines


def test_every_row_of_the_paper_is_said_to_be_implemented_or_not():
    chosen = [tables.load(f"table{number}") for number in range(1, 7)]
    lines = coverage_lines(status.summarise(chosen, "paper", []))
    assert len(lines) == 2 + 6
    expected = "\n".join(lines)
    assert expected in README, f"the table in the README should be\n\n{expected}\n"


def test_every_part_of_a_recipe_is_named():
    section = README[README.index("## What is implemented") :]
    for kind, names in (
        ("Parameterizations", parameterizations.names()),
        ("objectives", objectives.names()),
    ):
        (listed,) = re.findall(rf"{kind}\s+((?:`[a-z-]+`[,\s]*)+)", section)
        assert re.findall(r"`([a-z-]+)`", listed) == names, f"{kind}: {', '.join(names)}"
