"""What a run prints: few lines in a log, live lines on a terminal, an honest time left."""

import io
import re

import pytest
from rich.console import Console

from nsdbench.bench.cell import Cell
from nsdbench.bench.cost import Estimate
from nsdbench.bench.plan import Plan, PlannedCell, Task
from nsdbench.bench.record import Record
from nsdbench.bench.run import Outcome
from nsdbench.cli import console as printing
from nsdbench.cli.console import RunDisplay, size
from nsdbench.progress import Bars, duration
from nsdbench.spread import summary

METHODS = ("random", "mtt", "nsd")


@pytest.fixture
def clock(monkeypatch):
    """Replace the clock by a list whose last number is the time now."""
    now = [0.0]
    monkeypatch.setattr(printing.time, "monotonic", lambda: now[-1])
    return now


def planned(cell, **fields):
    return PlannedCell(cell, 3, 1, ("t",), task=Task(cell, None, None, 3, 1), **fields)


def plan_of(methods=METHODS):
    cells = [
        Cell("Digits16", 1, method, "convnet2-w8", "common-2ep", "smoke") for method in methods
    ]
    cost = Estimate((), 2e8, 1024.0, 10)
    return Plan("smoke", tuple(planned(cell, estimate=cost) for cell in cells))


def make(is_terminal):
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=is_terminal, width=150, highlight=False)
    plan = plan_of()
    return stream, plan.todo(), RunDisplay(console, plan, {p.cell.id: 100.0 for p in plan.cells})


def done(value=50.0):
    cell = Cell("Digits16", 1, "random", "convnet2-w8", "common-10ep", "smoke")
    asked = {"recipe_hash": "r", "protocol_hash": "p", "seeds": 1, "repeats": 1}
    return Record.done(cell, **asked, accuracy=summary([[value]]))


@pytest.mark.parametrize(
    ("encoding", "text", "printed"),
    [
        ("ascii", "50.00 \u00b1 1.00 %", "50.00 +- 1.00 %"),
        ("ascii", "28\u00d728, 1\u20132 \u2026", "28x28, 1-2 ..."),
        ("ascii", "folder:/\u00e4/\u6f22", "folder:/\\xe4/\\u6f22"),
        ("ascii", "\udce4 \U0001f41d", "\\udce4 \\U0001f41d"),
        ("latin-1", "\u00b1 \u00e4 \u2013", "\u00b1 \u00e4 -"),
        ("cp1252", "\u00b1 \u2026 \u6f22", "\u00b1 \u2026 \\u6f22"),
        ("utf-8", "\u00b1 \u6f22 \udce4", "\u00b1 \u6f22 \\udce4"),
        ("cp437", "\u00b1 \u00d7", "\u00b1 x"),
        ("koi8-r", "\u00b1", "+-"),
        ("iso8859-5", "\u00b1 \u0431", "+- \u0431"),
        ("big5", "\u00b1 \u6f22 \u00e4", "\u00b1 \u6f22 \\xe4"),
    ],
)
def test_what_cannot_be_printed_is_said_otherwise(encoding, text, printed):
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, write_through=True)
    printing.make_printable(stream, None, io.StringIO())
    Console(file=stream, width=150, markup=False).print(text)
    stream.write(text)
    assert stream.buffer.getvalue().decode(encoding) == f"{printed}\n{printed}"


ODD_PATHS = ["DIR/[/b].html", "[red]x[/red]", "[/]", "a[b]c", "x:smile:y", ":warning:", "\\[b]",
             "[link=file:///]x", "[@click=f]x", "[[b]]", "{x}", "%s"]  # fmt: skip


@pytest.mark.parametrize("path", ODD_PATHS)
def test_paths_are_printed_as_they_are(capsys, path):
    printing.make_console().print(f"wrote {path}")
    printing.make_console(is_error=True).print(f"error: {path}", style="red")
    printing.show_table(printing.make_console(), ["name"], [[path]])
    out, err = capsys.readouterr()
    assert [line.rstrip() for line in out.splitlines()] == [f"wrote {path}", "name", path]
    assert err == f"error: {path}\n"


@pytest.mark.parametrize("path", ODD_PATHS)
def test_live_lines_show_notes_as_they_are(clock, path):
    stream = io.StringIO()
    with Bars(Console(file=stream, force_terminal=True, width=150)) as display:
        display(path, 1, 2, path)
        display._live.refresh()
    assert stream.getvalue().count(path) >= 2


def test_units():
    assert [duration(s) for s in (0.4, 89, 90, 5300, 5400, 129599, 129600)] == [
        "0 s", "89 s", "1.5 min", "88.3 min", "1.5 h", "36.0 h", "1.5 d",
    ]  # fmt: skip
    assert [size(b) for b in (10, 1024, 2.5e6, 3e9)] == ["10 B", "1.0 kB", "2.5 MB", "3.0 GB"]


def test_a_log_has_a_line_at_start_and_end_and_few_between(clock):
    stream, cells, display = make(is_terminal=False)
    with display:
        for task in cells:
            display.started(task)
            for step in range(1000):
                clock.append(clock[-1] + 0.1)
                display.progress(task, "distill", step, 1000, "loss 1.0")
            display.finished(task, done())
    lines = stream.getvalue().splitlines()
    assert len(lines) == 3 * (1 + 3 + 1)  # 100 s a cell, a line every 30 s
    assert "\x1b" not in stream.getvalue()
    assert [line for line in lines if "50.00 % (n = 1)" in line] == lines[4::5]


def test_the_time_left_learns_from_the_cells_before(clock):
    stream, cells, display = make(is_terminal=False)
    with display:
        display.started(cells[0])
        clock.append(40.0)
        display.progress(cells[0], "distill", 1, 2)
        clock.append(50.0)
        display.finished(cells[0], done())  # half of the 100 s that were predicted
        display.started(cells[1])
    left = re.findall(r"about (.*) left", stream.getvalue())
    # 300 s, 300 s - 40 s, and 2 * 100 s times (60 + 50) / (60 + 100)
    assert left == ["5.0 min", "4.3 min", "2.3 min"]


def test_a_cell_takes_at_least_as_long_as_its_phase_at_its_pace(clock):
    stream, cells, display = make(is_terminal=False)
    with display:
        display.started(cells[0])
        for now, phase, count, total in (
            (20.0, "distill", 1, 2),  # nothing is known of a pace within half a minute
            (60.0, "distill", 2, 2),
            (160.0, "evaluate", 3, 7),  # goes on after two networks: 100 s each
            (260.0, "evaluate", 4, 7),
            (320.0, "distill", 1, 9),  # of another set
            (380.0, "distill", 2, 9),
        ):
            clock.append(now)
            display.progress(cells[0], phase, count, total)
    left = re.findall(r"about (.*) left", stream.getvalue())
    # 300 s; 300 s - 60 s; two cells of 100 s, and 4 and 3 networks of 100 s, 8 and 7 steps of 60 s
    assert left == ["5.0 min", "4.0 min", "10.0 min", "8.3 min", "11.3 min", "10.3 min"]


def test_who_has_a_cell_is_said(clock):
    stream, cells, display = make(is_terminal=False)
    with display:
        display.held(cells[0], "process 4711 on here")
    assert (
        stream.getvalue()
        == f"    {cells[0].cell.id}: process 4711 on here works on it; left for last\n"
    )


def test_failures_show_their_first_line(clock):
    stream, cells, display = make(is_terminal=False)
    with display:
        display.started(cells[0])
        display.finished(cells[0], Record.failed(cells[0].cell, "error", "it broke\nbadly"))
        display.finished(cells[1], done())  # by another process, never started here
    assert "failed: it broke, 0 s" in stream.getvalue() and "badly" not in stream.getvalue()


def test_a_terminal_shows_live_lines(clock):
    stream, cells, display = make(is_terminal=True)
    with display:
        for task in cells[:2]:
            display.started(task)
            display.progress(task, "evaluate", 1, 2, "[90 %]")
        for task in cells[:2]:
            display.finished(task, done())
    assert stream.getvalue().count(": 50.00 % (n = 1)") == 2


def test_one_command_shows_its_steps_rarely(clock):
    stream = io.StringIO()
    with Bars(Console(file=stream, force_terminal=False)) as display:
        for step in range(650):
            clock.append(clock[-1] + 0.1)
            display("experts", step, 650)
    assert len(stream.getvalue().splitlines()) == 3
    with Bars(Console(file=io.StringIO(), force_terminal=True)) as display:
        display("experts", 1, 2)
        display("distill", 1, 2, "loss 1")


def test_a_plan_shows_text_as_it_is():
    stream = io.StringIO()
    console = Console(file=stream, width=150, markup=False)
    cell = Cell("folder:/x[@32]", 1, "nsd", "convnet2-w8", "common", "smoke")
    shown = planned(cell, reason="failed before: [red]no[/red]")
    printing.show_plan(console, Plan("smoke", (shown,), ("odd [file]",)), {cell.id: 300.0})
    text = stream.getvalue()
    assert "[red]no[/red]" in text and "warning: odd [file]" in text
    assert "1 cell at scale smoke: 1 todo. Estimated time: 5.0 min" in text


def test_outcomes():
    stream = io.StringIO()
    console = Console(file=stream, width=150, markup=False)
    printing.show_outcome(console, Outcome(["a"], {"b": "why [not]"}, ["c"], ["d", "e"]))
    printing.show_outcome(console, Outcome(["a"], is_interrupted=True))
    assert stream.getvalue().splitlines() == [
        "failed: b: why [not]",
        "1 done, 1 failed, 1 without data, 2 not implemented",
        "Stopped (1 done). The same command goes on from here.",
    ]
