"""Reports as text: the same bytes for the same records, and every format well formed."""

import csv
import io
import re

import pytest

from nsdbench.bench import tables
from nsdbench.report import Document, Grid, writers
from nsdbench.report.writers import write
from tests.report.records import entry_of, record_of


@pytest.mark.parametrize("kind", ["markdown", "latex", "csv"])
def test_the_same_records_give_the_same_bytes(kind):
    entries = tables.load("table1").entries("smoke")
    records = [record_of(e, [float(40 + i), 50.0]) for i, e in enumerate(entries)]
    text = write(None, "smoke", records, kind)
    assert text == write(None, "smoke", list(reversed(records)), kind)
    shown = [name for name in tables.names() if "smoke" in tables.load(name).scales]
    if kind == "csv":  # a line a cell, and a figure of real images has none
        shown = [name for name in shown if tables.load(name).rows]
    assert len(shown) >= 6 and all(name in text for name in shown)


def test_markdown_tables_are_well_formed():
    entry = entry_of("table6", "paper", "MTT", ipc=1)
    records = [record_of(entry, [46.0])]
    text = write(["table6"], "paper", records, "markdown")
    blocks = re.findall(r"(?:^\|.*\|\n)+", text, flags=re.MULTILINE)
    assert len(blocks) == 4
    for block in blocks:
        counts = {len(re.split(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(counts) == 1
        assert set(block.splitlines()[1]) <= set("|-: ")


def test_latex_prints_every_special_character():
    special = "a_b & 5 % of $x^2$ #1 {~} \\ < > ±"
    printed = (
        r"a\_b \& 5 \% of \$x\^{}2\$ \#1 \{\textasciitilde{}\} "
        r"\textbackslash{} \ensuremath{<} \ensuremath{>} $\pm$"
    )
    grid = Grid("", ("x",), ((special,),))
    shown = writers.latex(Document("name", special, (), (grid,), (), (special,)))
    assert shown.count(printed) == 4  # the title stands in the caption too
    document = write(["table1"], "smoke", [], "latex")
    assert document.count("\\begin{tabular}") == document.count("\\end{tabular}") == 2
    assert document.count("\\toprule") == document.count("\\bottomrule") == 2
    assert not re.search(r"(?<!\\)[_#]", document)


def test_latex_sets_the_best_in_bold_and_names_every_table():
    rows = (("A_1", "50.0 ± 1.0", "-"), ("B", "49.9", "x & y"))
    grid = Grid("Measured by protocol dc", ("method", "c 1", "c 2"), rows, 1, frozenset({(0, 1)}))
    shown = writers.latex(Document("table9-smoke", "T", (), (grid,), (), ()))
    (table,) = re.findall(r"\\begin\{table\}.*\\end\{table\}", shown, flags=re.DOTALL)
    lines = table.splitlines()
    start = lines.index(r"\toprule")
    assert lines[start - 1 : start + 6] == [
        r"\begin{tabular}{lrr}",
        r"\toprule",
        r"method & c 1 & c 2 \\",
        r"\midrule",
        r"A\_1 & \textbf{50.0 $\pm$ 1.0} & -- \\",
        r"B & 49.9 & x \& y \\",
        r"\bottomrule",
    ]
    assert r"\label{tab:table9-smoke-measured-by-protocol-dc}" in lines
    everything = write(None, "paper", [], "latex")
    names = re.findall(r"\\label\{(.*?)\}", everything)
    assert len(names) == len(set(names)) == everything.count(r"\begin{table}") > 10
    assert all(re.fullmatch("tab:[a-z0-9-]+", name) for name in names)


def test_csv_has_one_line_a_cell_in_full_precision():
    entry = entry_of("table1", "paper", "NSD", dataset="CIFAR10", ipc=1)
    record = record_of(entry, [68.123456789, 68.0, 68.0, 68.0, 68.0])
    lines = list(csv.DictReader(io.StringIO(write(["table1"], "paper", [record], "csv"))))
    assert len(lines) == len(tables.load("table1").entries("paper"))
    (line,) = [x for x in lines if x["status"] == "measured"]
    assert float(line["mean"]) == record.accuracy.mean
    assert line["published_mean"] == "68.5" and line["verdict"] == "reproduced"
    assert (line["stored_bits"], line["seconds"], line["commit"]) == ("983", "33.6", "abc")
    assert (line["steps"], line["peak_bytes"]) == ("1001", str(512 * 2**20))
    assert {x["mean"] for x in lines if x["status"] != "measured"} == {""}


def test_unknown_names_and_kinds():
    with pytest.raises(ValueError, match="unknown table 'table9'"):
        write(["table9"], "smoke", [])
    with pytest.raises(ValueError, match="unknown scale 'huge'"):
        write(None, "huge", [])
    with pytest.raises(ValueError, match="unknown report 'pdf'"):
        write(["table1"], "smoke", [], "pdf")
