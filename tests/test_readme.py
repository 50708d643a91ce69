"""The README is true: its commands exist, and it says which rows of the paper are implemented."""

import re
import shlex
from pathlib import Path

import pytest
import typer

from nsdbench.bench import tables
from nsdbench.cli import app as cli
from nsdbench.distillation import objectives
from nsdbench.report import status
from nsdbench.sets import parameterizations

README = (Path(__file__).parents[1] / "README.md").read_text()
COMMANDS = sorted(set(re.findall(r"python -m nsdbench +([^`#\n]*[^`#\s])", README)))


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_exist_with_these_options(line):
    command, arguments = typer.main.get_command(cli.app), shlex.split(line)
    while isinstance(command, typer.main.TyperGroup):
        command, arguments = command.commands[arguments[0]], arguments[1:]
    if arguments not in ([], ["--help"]):
        command.make_context(line, arguments)  # parses, and runs nothing


def test_commands_are_found():
    names = {line.split()[0] for line in COMMANDS}
    assert names >= {"list", "plan", "run", "status", "report", "explain", "distill", "evaluate"}


def coverage_lines(found):
    """Write tables' statuses as Markdown: which rows are implemented."""
    lines = [
        "| table | cells | rows implemented | rows not implemented yet |",
        "|---|---:|---|---|",
    ]
    for part in found["tables"]:
        rows = {}
        for cell in part["cells"]:
            rows.setdefault(cell["row"], set()).add(cell["status"])
        missing = [row for row, statuses in rows.items() if statuses == {"not implemented"}]
        there, missing = (
            ", ".join(names) or "-"
            for names in ([row for row in rows if row not in missing], missing)
        )
        title = f"{part['name'].removeprefix('table')}: {part['title']}"
        lines.append(f"| {title} | {len(part['cells'])} | {there} | {missing} |")
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
        (found,) = re.findall(rf"{kind} ((?:`[a-z-]+`(?:, | and )?)+)", section)
        assert re.findall(r"`([a-z-]+)`", found) == names, f"{kind}: {', '.join(names)}"
