"""Blocks of pages: what is filled, what is left, and orders that cannot be met."""

import pytest
from scipy import stats

from nsdbench import methods
from nsdbench.bench import tables
from nsdbench.bench.record import Record
from nsdbench.bench.store import Store
from nsdbench.cli import app
from nsdbench.evaluation import protocols
from nsdbench.report.blocks import fill
from nsdbench.spread import summary

RANDOM, NSD = [60.0, 65.0, 64.0], [90.0, 91.0, 92.5]
ACCURACIES = 'accuracies table1 scale=smoke dataset=Digits16 rows="NSD|Random|Full dataset"'


def records(scale="smoke", dataset="Digits16", **values):
    """Make records of Table 1: by method and ipc a list of sets, of one network or several."""
    made = []
    for entry in tables.load("table1").entries(scale):
        cell = entry.cell
        key = f"{cell.method}{cell.ipc}"
        if key in values and cell.dataset == dataset:
            rows = [value if isinstance(value, list) else [value] for value in values[key]]
            made.append(
                Record.done(
                    cell,
                    recipe=methods.resolve(cell.method, cell.dataset, cell.ipc, cell.scale),
                    protocol=protocols.get(cell.protocol),
                    seeds=len(rows),
                    repeats=len(rows[0]),
                    accuracy=summary(rows),
                    budget={"stored_bits": 983, "limit_bits": 1000, "decoded_images": 12_000},
                    cost={"seconds": {"distill": 20.6, "evaluate": 0.2}, "peak_bytes": 2**30},
                    provenance={"device": "a processor"},
                )
            )
    assert len(made) == len(values)
    return made


def block(order, content="stale"):
    return f"<!-- nsdbench: {order} -->{content}<!-- end -->"


def table(page):
    """Return the rows of the one table of a page, without the line below its header."""
    lines = [line for line in page.splitlines() if line.startswith("|")]
    rows = [[part.strip() for part in line.strip("|").split("|")] for line in lines]
    return [rows[0], *rows[2:]]


def test_accuracies_are_rows_in_the_order_asked_for_and_nothing_else_changes():
    known = records(random1=RANDOM, nsd1=NSD, nsd10=[95.0] * 3, full0=[97.0, 98.0, 99.0])
    page = f"# Title\n\n{block(ACCURACIES)}\n\nA 65.0 of another kind.\n"
    filled = fill(page, known)
    assert (filled.num_blocks, filled.left) == (1, ())
    assert table(filled.text) == [
        ["method", "1 image per class", "10 images per class"],
        ["NSD", "91.2 ± 1.0", "95.0 ± 0.0"],
        ["Random", "63.0 ± 2.2", "not run"],
        ["Full dataset", "98.0 ± 0.8", ""],
    ]
    assert filled.text.startswith("# Title\n\n<!-- nsdbench: accuracies")
    assert filled.text.endswith("<!-- end -->\n\nA 65.0 of another kind.\n")
    assert fill(filled.text, known).text == filled.text


def test_printed_numbers_of_the_paper_stand_beside_those_of_the_copy():
    known = records("small", "CIFAR10-JPEG", mtt1=[40.0, 41.0, 42.0], full0=[70.0] * 3)
    order = "beside table1 scale=small dataset=CIFAR10-JPEG"
    assert table(fill(block(order), known).text) == [
        ["method", "1 image per class", "published", "10 images per class", "published"],
        ["MTT", "41.0 ± 0.8", "46.3 ± 0.8", "not run", "65.3 ± 0.7"],
        ["Full dataset", "70.0 ± 0.0", "84.8 ± 0.1", "", ""],
    ]


def test_rows_without_any_number_are_left_out_and_ratios_follow_the_records():
    order = "accuracies table1 scale=smoke"
    (_, random) = table(fill(block(order), records(random1=RANDOM)).text)
    assert random == ["Random", "63.0 ± 2.2", "not run"]
    (_, random) = table(fill(block(order), records(random1=[50.0] * 3)).text)
    assert random[1] == "50.0 ± 0.0"


def test_cells_have_uncertainty_and_cost():
    found = fill(block("cells table1 scale=smoke"), records(random1=RANDOM, nsd1=NSD))
    header, random, nsd = table(found.text)
    shown = dict(zip(header, nsd, strict=True))
    low, high = stats.t.interval(0.95, 2, loc=sum(NSD) / 3, scale=stats.sem(NSD))
    gain = stats.ttest_ind(NSD, RANDOM, equal_var=False).confidence_interval(0.95)
    assert shown == {
        "method": "NSD", "ipc": "1", "accuracy, %": "91.2 ± 1.0",
        "95 % interval": f"{low:.1f} to {high:.1f}",
        "gain over Random": f"+28.2 ({gain.low:+.1f} to {gain.high:+.1f})", "sets": "3", "n": "3",
        "budget used": "98.3 %", "images": "12,000", "distillation": "21 s", "evaluation": "-",
        "peak memory": "1,024 MiB", "on": "a processor",
    }  # fmt: skip
    assert random[0] == "Random" and dict(zip(header, random, strict=True))["n"] == "3"


def test_the_spread_between_sets_is_that_of_an_analysis_of_variance():
    """Means 71 and 75 of two networks each, which differ by 2: sqrt((16 - 2) / 2) is 2.6."""
    order = "spread table1 scale=smoke"
    sets = records(nsd1=[[70.0, 72.0], [74.0, 76.0]], random1=RANDOM)
    header, row = table(fill(block(order), sets).text)
    assert header[-2:] == ["sets x networks", "between sets, points"]
    assert row == ["NSD", "Digits16", "1", "convnet2-w16", "2 x 2", "2.6"]
    none = fill(block(order), records(random1=RANDOM))
    assert "measured for no cell yet" in none.text and none.left == ()


def test_a_difference_stands_within_a_line():
    order = 'difference table1 scale=smoke ipc=1\n  rows="NSD|Random"'
    page = f"It is {block(order, '0.0')} points above."
    filled = fill(page, records(random1=RANDOM, nsd1=NSD))
    assert filled.text == f"It is {block(order, '28.2')} points above."


def test_without_records_a_block_stays():
    page = block(ACCURACIES) + block("cells table6 scale=smoke")
    filled = fill(page, records(random1=RANDOM))
    assert "stale" in filled.text and "63.0" in filled.text
    assert (filled.num_blocks, filled.left) == (2, ("cells table6 scale=smoke",))


def test_a_stale_record_says_so():
    (random,) = records(random1=RANDOM)
    stale = random.model_copy(update={"recipe_hash": "another"})
    (_, row) = table(fill(block("accuracies table1 scale=smoke"), [stale]).text)
    assert row[1] == "63.0 ± 2.2 (stale)"


@pytest.mark.parametrize(
    ("page", "message"),
    [
        (block("averages table1 scale=smoke"), "'averages' is no kind of block; choose one of acc"),
        (block("cells table99 scale=smoke"), "block 'cells table99 scale=smoke': .*table99"),
        (block("cells table1 scale=smal"), "scale"),
        (block("cells table1"), "expected a table and scale="),
        (block("cells scale=smoke"), "expected a table and scale="),
        (block("cells table1 scale=smoke width=3"), "unknown option 'width'; known: scale, rows"),
        (block("cells table1 scale=smoke ipc=3"), "ipc=3 matches no cell; ipc is one of 1, 10"),
        (block("cells table1 scale=smoke protocol=dc|mtt"), r"unknown protocol 'dc\|mtt'"),
        (block("cells table1 scale=smoke rows=NDS"), "no row 'NDS'; did you mean NSD"),
        (
            block("difference table1 scale=smoke rows=Random ipc=1"),
            "these are .*Digits16-ipc1-rand",
        ),
        (block("difference table1 scale=smoke rows=Random|NSD ipc=1"), "nsd.* .not run."),
        (block(""), "'' is no kind of block"),
        ("<!-- nsdbench: cells table1 scale=smoke -->", "1 blocks begin and 0 end"),
        (
            "<!-- nsdbench: cells table1 scale=smoke -->" + block("cells table6 scale=smoke"),
            "'cells table1 scale=smoke' does not end before the next",
        ),
    ],
)
def test_wrong_blocks_are_named(page, message):
    with pytest.raises(ValueError, match=message):
        fill(page, records(random1=RANDOM))


def test_a_page_that_is_no_text_is_named(tmp_path, capsys, monkeypatch):
    page = tmp_path / "page.md"
    page.write_bytes(b"\xff\xfe")
    monkeypatch.setattr("sys.argv", ["nsdbench", "report", "--fill", str(page)])
    with pytest.raises(SystemExit) as stopped:
        app.main()
    error = capsys.readouterr().err
    assert stopped.value.code == 2 and error.count("\n") == 1
    assert f"{page}: expected text in UTF-8" in error


def test_the_command_fills_pages(tmp_path, capsys, monkeypatch):
    for record in records(random1=RANDOM):
        Store(tmp_path / "results").write(record)
    page, other = tmp_path / "page.md", tmp_path / "other.md"
    page.write_text(block("accuracies table1 scale=smoke"))
    other.write_text(block("cells table6 scale=smoke"))
    folder = ["--results", str(tmp_path / "results")]

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["nsdbench", "report", *map(str, arguments), *folder])
        with pytest.raises(SystemExit) as stopped:
            app.main()
        return stopped.value.code or 0

    assert run("--fill", page, "--fill", other) == 0
    assert "63.0 ± 2.2" in page.read_text() and "stale" in other.read_text()
    out = capsys.readouterr().out.replace("\n", " ")
    assert "1 block filled" in out and "cells table6 scale=smoke" in out
    assert run("table1", "--fill", page) == run("--scale", "small", "--fill", page) == 2
