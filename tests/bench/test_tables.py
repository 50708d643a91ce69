"""The declared tables hold every row and column that the paper prints, and never mix scales."""

import csv
import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from nsdbench import data, methods
from nsdbench.bench import tables
from nsdbench.bench.tables import published
from nsdbench.bench.verdict import Published

PAPER = Path(__file__).parents[2] / "results" / "paper"
TABLES = [f"table{number}" for number in range(1, 7)]

SMALL_TABLE = """
name = "mine"
title = "Mine"
source = "nobody"
[[rows]]
label = "Random"
family = "coreset"
method = "random"
[[rows]]
label = "NSD"
family = "ours"
method = "nsd"
[[rows]]
label = "Gain"
family = "ours"
derived = { minus = ["NSD", "Random"] }
[[rows]]
label = "Full"
family = "full"
method = "full"
[scales.smoke]
protocol = "common-10ep"
full_protocol = "full-2ep"
full_repeats = 2
seeds = 3
repeats = 4
columns = [
    { dataset = "Digits16", ipc = 1, arch = "convnet2-w8" },
    { dataset = "Digits16", ipc = 10, arch = "convnet2-w8" },
]
"""


# Rows that no paper printed: a method with other means than the published ones, and what gains over
# Random are gains over.
UNPRINTED = {
    "table3": ("GLaD (suite-trained prior)", "GLaD (random prior)"),
    "table4": ("Random",),
    "table5": ("Random",),
}


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """Return the path of a user's table, in a folder that is searched."""
    path = tmp_path / "mine.toml"
    path.write_text(SMALL_TABLE)
    monkeypatch.setenv(tables.FOLDERS_VARIABLE, str(tmp_path))
    return path


def lines(name):
    """Read a published table with the csv module alone."""
    with (PAPER / f"{name}.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_all_six_tables_are_declared_and_load():
    assert set(TABLES) <= set(tables.names())
    for name in TABLES:
        assert set(tables.load(name).scales) == set(tables.SCALES)


@pytest.mark.parametrize("name", TABLES)
def test_every_printed_row_and_column_has_its_place(name):
    table, printed = tables.load(name), lines(name)
    rows = {line["method"]: line["family"] for line in printed}
    ours = UNPRINTED.get(name, ())
    assert {row.label: row.family for row in table.rows if row.label not in ours} == rows
    assert set(ours) <= {row.label for row in table.rows} and not set(ours) & set(rows)
    columns = {(x["dataset"], int(x["ipc"]), x["arch"]) for x in printed if x["ipc"]}
    declared = {(c.dataset, c.ipc, c.published_arch) for c in table.settings("paper").columns}
    assert declared == columns


@pytest.mark.parametrize("name", TABLES)
def test_every_printed_number_stands_beside_exactly_one_cell(name):
    table = tables.load(name)
    derived = {row.label for row in table.rows if row.minus}
    shown = sorted(
        (e.row.label, e.published.dataset, e.published.ipc, e.published.mean, e.published.std)
        for e in table.entries("paper")
        if e.published
    )
    printed = sorted(
        (x["method"], x["dataset"], int(x["ipc"] or 0), float(x["mean"]), float(x["std"]))
        for x in lines(name)
        if x["mean"] and x["method"] not in derived
    )
    assert shown == printed


@pytest.mark.parametrize("name", TABLES)
def test_cells_without_a_printed_number_are_those_printed_blank(name):
    entries = tables.load(name).entries("paper")
    ours = [e for e in entries if e.row.label in UNPRINTED.get(name, ())]
    without = sorted(
        (e.row.label, e.cell.dataset, e.cell.ipc)
        for e in entries
        if e.published is None and e not in ours
    )
    printed = [line for line in lines(name) if "gain" not in line["method"]]
    blank = [(x["method"], x["dataset"], int(x["ipc"] or 0)) for x in printed if not x["mean"]]
    assert without == sorted(blank)
    assert len(entries) - len(ours) == len(printed)
    assert all(e.published is None and e.row.note for e in ours), "a footnote says why"


def test_published_numbers_of_table_1():
    cells = {
        (e.row.label, e.cell.dataset, e.cell.ipc): e for e in tables.load("table1").entries("paper")
    }
    nsd = cells["NSD", "CIFAR10", 1]
    assert nsd.published == Published("CIFAR10", 1, "convnet3-w128", 68.5, 0.8, "common")
    assert (nsd.cell.protocol, nsd.seeds, nsd.repeats) == ("common", 1, 5)
    assert cells["MTT", "CIFAR10", 1].published.protocol == "mtt, best on test"
    assert cells["IDC", "TinyImageNet", 1].published is None
    full = cells["Full dataset", "CIFAR100", 0]
    assert full.published.mean == 56.2 and [c.ipc for c in full.columns] == [1, 10]
    tiny = cells["NSD", "TinyImageNet", 1]
    assert (tiny.cell.arch, tiny.published.arch) == ("convnet4-w128", "convnet3-w128")


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("scale", ["smoke", "small"])
def test_published_numbers_at_other_scales_are_those_of_a_copy(name, scale):
    entries = tables.load(name).entries(scale)
    copies = {entry.cell.dataset for entry in entries if entry.published is not None}
    has_copy = scale == "small" and name in ("table1", "table2", "table4", "table5", "table6")
    assert entries and copies == ({"CIFAR10-JPEG"} if has_copy else set())
    paper = {column.dataset for column in tables.load(name).settings("paper").columns}
    assert not paper & {entry.cell.dataset for entry in entries}


@pytest.mark.parametrize("name", ["table1", "table2", "table4", "table5", "table6"])
def test_every_row_has_cells_on_the_copy_with_the_recipe_of_the_original(name):
    """At every ipc and network that the table has on it; and each has the number printed for it."""
    table = tables.load(name)
    columns = [c for c in table.settings("small").columns if c.dataset == "CIFAR10-JPEG"]
    entries = [e for e in table.entries("small") if e.cell.dataset == "CIFAR10-JPEG"]
    for row in (row for row in table.rows if row.method):
        own = [entry for entry in entries if entry.row.label == row.label]
        assert {c for entry in own for c in entry.columns} == set(columns), row.label
        if row.label in UNPRINTED.get(name, ()):
            continue
        for entry in own:
            assert entry.published.dataset == "CIFAR10"
            assert entry.published.ipc == entry.cell.ipc
            if entry.is_described:
                of_whole = methods.resolve(entry.cell.method, "CIFAR10", entry.cell.ipc, "small")
                assert entry.recipe.hash == of_whole.hash
    if name in ("table4", "table5"):
        names = [column.published_arch for column in columns]
        assert names == ["ConvNet3", "ResNet18", "VGG11", "AlexNet"]
        assert {column.ipc for column in columns} == {10}


@pytest.mark.parametrize("name", [f"table{n}" for n in (1, 2, 4, 5, 6)])
def test_there_is_a_random_for_the_gain_of_every_set_at_scale_small(name):
    """Under its data set, budget, network and protocol, in this table or in Table 1."""
    entries = tables.load(name).entries("small")
    known = {
        replace(entry.cell, method="")
        for entry in (*entries, *tables.load("table1").entries("small"))
        if entry.cell.method == "random"
    }
    assert {replace(entry.cell, method="") for entry in entries if entry.cell.ipc} <= known


@pytest.mark.parametrize(("name", "label"), [("table1", "KIP to NN"), ("table4", "KIP")])
def test_random_features_stand_in_for_the_exact_kernel_below_scale_paper(name, label):
    """A cell's method and its row's note say which of both made it; no number of RFAD compares."""
    made_by = {"smoke": "rfad", "small": "rfad", "paper": "kip"}
    for scale, method in made_by.items():
        entries = [e for e in tables.load(name).entries(scale) if e.row.label == label]
        assert len(entries) == len(tables.load(name).settings(scale).columns)
        for entry in entries:
            assert entry.cell.method == method and f"the method `{method}`" in entry.row.note
            assert not entry.missing
            objective = entry.recipe.values["objective"]["name"]
            assert objective == ("ntk-ridge" if method == "kip" else "random-feature-ridge")


def test_table_5_gains_are_derived():
    gains = [row for row in tables.load("table5").rows if row.minus]
    assert [row.minus for row in gains] == [(f"{x} w. ours", x) for x in ("DC", "DM", "MTT")]


def test_fashion_mnist_table_is_judged_as_the_papers_judged():
    entries = tables.load("fashion-mnist").entries("small")
    assert {(e.row.label, e.cell.method, e.cell.protocol) for e in entries} == {
        ("Random", "random", "dc"),
        ("Herding", "herding-w128", "dc"),
        ("DC", "dc-w128", "dc"),
        ("DSA", "dsa-w128", "common"),
        ("DM", "dm-w128", "common"),
    }
    assert {(e.cell.dataset, e.cell.ipc, e.cell.arch, e.seeds, e.repeats) for e in entries} == {
        ("FashionMNIST", 1, "convnet3-w128", 1, 5)
    }
    printed = {e.row.label: e.published and (e.published.mean, e.published.std) for e in entries}
    assert printed == {
        "Random": (51.4, None), "Herding": None, "DC": (70.5, 0.6), "DSA": (70.6, 0.6), "DM": None,
    }  # fmt: skip


def test_a_row_may_have_its_own_protocol(mine):
    mine.write_text(SMALL_TABLE.replace('method = "nsd"', 'method = "nsd"\nprotocol = "dc"'))
    table = tables.load("mine")

    def judged_by(**options):
        return {e.cell.method: e.cell.protocol for e in table.entries("smoke", **options)}

    assert judged_by() == {"random": "common-10ep", "nsd": "dc", "full": "full-2ep"}
    every = judged_by(protocol="common-equal-steps")
    assert every == {
        "random": "common-equal-steps", "nsd": "common-equal-steps", "full": "full-2ep",
    }  # fmt: skip
    with pytest.raises(ValueError, match="unknown protocol 'usual'"):
        judged_by(protocol="usual")


def test_a_column_may_have_its_own_protocol(mine):
    """A row's own comes before it, the command line's before both; the full data has its own."""
    column = '{ dataset = "Digits16", ipc = 10, arch = "convnet2-w8" }'
    assert column in SMALL_TABLE
    text = SMALL_TABLE.replace(column, column.replace(" }", ', protocol = "frepo" }'))

    def judged_by(**options):
        entries = tables.load("mine").entries("smoke", **options)
        return {(e.cell.method, e.cell.ipc): e.cell.protocol for e in entries}

    mine.write_text(text)
    own = {("random", 1): "common-10ep", ("random", 10): "frepo"}
    full = {("full", 0): "full-2ep"}
    assert judged_by() == own | {("nsd", 1): "common-10ep", ("nsd", 10): "frepo"} | full
    assert set(judged_by(protocol="dc").values()) == {"dc", "full-2ep"}
    mine.write_text(text.replace('method = "nsd"', 'method = "nsd"\nprotocol = "dc"'))
    assert judged_by() == own | {("nsd", 1): "dc", ("nsd", 10): "dc"} | full
    mine.write_text(text.replace("frepo", "full-2ep"))
    with pytest.raises(ValueError, match="full-2ep"):
        tables.load("mine")


def test_sets_repeats_and_full_data(mine):
    entries = tables.load("mine").entries("smoke")
    counts = {(e.cell.method, e.cell.ipc): (e.seeds, e.repeats, e.cell.protocol) for e in entries}
    assert counts == {
        ("random", 1): (3, 4, "common-10ep"),
        ("random", 10): (3, 4, "common-10ep"),
        ("nsd", 1): (3, 4, "common-10ep"),
        ("nsd", 10): (3, 4, "common-10ep"),
        ("full", 0): (1, 2, "full-2ep"),
    }
    assert len(entries) == 5
    assert {e.seeds for e in tables.load("mine").entries("smoke", seeds=2)} == {2, 1}
    with pytest.raises(ValueError, match="seeds is 0"):
        tables.load("mine").entries("smoke", seeds=0)


def test_implemented_is_read_from_the_methods(mine, tmp_path, monkeypatch, undescribed):
    folder = tmp_path / "methods"
    folder.mkdir()
    mine.write_text(SMALL_TABLE.replace('method = "nsd"', 'method = "dream"'))

    def missing():
        entries = tables.load("mine").entries("smoke")
        entry = next(entry for entry in entries if entry.cell.method == "dream")
        assert not entry.missing == (not entry.missing)
        return entry.missing

    assert missing() == ["no file describes it"]
    monkeypatch.setenv(methods.FOLDERS_VARIABLE, str(folder))
    text = 'name = "dream"\ntitle = "S"\nextends = "nsd"\n[[settings]]\nsource = "x"\n'
    (folder / "dream.toml").write_text(text + 'objective = { name = "gradint" }')
    assert missing() == ["objective 'gradint'"]
    (folder / "dream.toml").write_text(text)
    assert missing() == []


def test_a_method_that_nothing_knows_is_a_slip(mine):
    mine.write_text(SMALL_TABLE.replace('method = "random"', 'method = "randm"'))
    message = "mine.toml: item 1 of `rows`: unknown method 'randm'; .*; did you mean random"
    with pytest.raises(ValueError, match=message):
        tables.load("mine")
    mine.write_text(SMALL_TABLE.replace('method = "nsd"', 'method = "nsdd+objective.x=1"'))
    with pytest.raises(ValueError, match=r"unknown method 'nsdd\+objective.x=1'"):
        tables.load("mine")


DAMAGES = (
    ("CIFAR10,1,0.02", "CIFAR10,10.02", "line 2: expected 8 values"),
    ("CIFAR10,1,0.02", "CIFAR10,1,0,02", "line 2: expected 8 values"),
    ("CIFAR10,1,", "CIFAR1O,1,", "line 2: `dataset`: .*did you mean CIFAR10"),
    ("CIFAR10,1,", "CIFAR10,one,", "line 2: `ipc` is 'one'; expected a whole number"),
    ("CIFAR10,1,", "CIFAR10,-1,", "line 2: `ipc` is '-1'; .* of at least 0"),
    ("Random,ConvNet3", "Random,ConvNet", "line 2: `arch` is 'ConvNet'; .*; did you mean"),
    ("Random,ConvNet3", ",ConvNet3", "line 2: `method` is ''; expected text"),
    ("14.4", "144", "line 2: `mean` is '144'; .* at most 100"),
    ("14.4", "nan", "line 2: `mean` is 'nan'; expected a finite number"),
    ("14.4", "-14.4", "line 2: `mean` is '-14.4'; .* of at least 0"),
    ("14.4", "", "line 2: `std` is 2.0, but `mean` is blank"),
    ("14.4,2.0", "14.4,2.O", "line 2: `std` is '2.O'; expected a finite number"),
    ("14.4,2.0", "14.4,2.0\nCIFAR10,1,0.02,coreset,Random,ConvNet3,15,2", "line 3: .* earlier"),
    ("CIFAR10,1,", '"CIFAR10,1,', "not a CSV file in UTF-8|expected 8 values"),
    ("mean", "maen", "header .*'maen'.*expected"),
)


@pytest.mark.parametrize(("old", "new", "message"), DAMAGES)
def test_damaged_published_numbers_are_refused(mine, tmp_path, monkeypatch, old, new, message):
    text = (PAPER / "table1.csv").read_text(encoding="utf-8")
    assert old in text
    monkeypatch.setattr(published, "folder", lambda: tmp_path)
    mine.write_text(SMALL_TABLE.replace("[[rows]]", 'published = "mine.csv"\n[[rows]]', 1))
    (tmp_path / "mine.csv").write_text(text, encoding="utf-8-sig")
    assert len(tables.load("mine").printed) == 93
    (tmp_path / "mine.csv").write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(
        ValueError, match=f"mine.toml: item 1 of `published`: .*mine.csv.*{message}"
    ):
        tables.load("mine")


def test_a_published_file_in_another_encoding_is_refused(mine, tmp_path, monkeypatch):
    monkeypatch.setattr(published, "folder", lambda: tmp_path)
    mine.write_text(SMALL_TABLE.replace("[[rows]]", 'published = "mine.csv"\n[[rows]]', 1))
    (tmp_path / "mine.csv").write_bytes((PAPER / "table1.csv").read_bytes() + b"\xe9")
    with pytest.raises(ValueError, match="mine.csv: not a CSV file in UTF-8"):
        tables.load("mine")


def test_a_published_file_is_compared_with_its_sum(mine, tmp_path, monkeypatch):
    monkeypatch.setattr(published, "folder", lambda: tmp_path)
    mine.write_text(SMALL_TABLE.replace("[[rows]]", 'published = "table1.csv"\n[[rows]]', 1))
    for path in PAPER.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    assert tables.load("mine").printed
    text = (PAPER / "table1.csv").read_text(encoding="utf-8")
    # Another size: a file counts as changed by size and time, and clocks of files are coarse.
    (tmp_path / "table1.csv").write_text(text.replace("14.4,2.0", "14.45,2.0", 1), encoding="utf-8")
    with pytest.raises(ValueError, match="table1.csv is not the file whose sum is in SHA256SUMS"):
        tables.load("mine")


def test_every_published_file_has_its_sum():
    lines = (PAPER / published.SUMS).read_text(encoding="utf-8").splitlines()
    assert dict(line.split("  ")[::-1] for line in lines) == {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in PAPER.glob("*.csv")
    }


def test_unknown_names_list_the_known_ones(mine):
    with pytest.raises(ValueError, match="unknown table 'table9'; known: .*mine, .*table6"):
        tables.load("table9")
    with pytest.raises(ValueError, match="no scale 'large'; choose one of smoke, small, paper"):
        tables.load("table1").settings("large")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('title = "Mine"', 'titel = "Mine"', "unknown key `titel`"),
        ('title = "Mine"', "", "`title` is missing"),
        ('name = "mine"', 'name = "yours"', "`name` is 'yours'"),
        ('method = "nsd"', 'methode = "nsd"', "item 2 of `rows`: unknown key `methode`"),
        ('method = "nsd"', "", "item 2 of `rows`: expected exactly one of `method` and `derived`"),
        ('"NSD", "Random"]', '"NSD", "Rand"]', "row 'Gain' is derived from unknown 'Rand'"),
        (
            'method = "full"',
            'method = "full"\nprotocol = "dc"',
            "item 4 of `rows`: `protocol` has no place",
        ),
        (
            "derived = {",
            'protocol = "dc"\nderived = {',
            "item 3 of `rows`: `protocol` has no place",
        ),
        ("[scales.smoke]", "[scales.huge]", "unknown scale 'huge'; choose one of smoke"),
        ('full_protocol = "full-2ep"', "", "scales.smoke: `full_protocol` is missing"),
        ("repeats = 4", "", "`scales.smoke`: `repeats` is missing"),
        ("ipc = 10, ", "", "item 2 of `scales.smoke.columns`: `ipc` is missing"),
        ("seeds = 3", "seeds = ", "not valid TOML"),
    ],
)
def test_errors_name_the_file_and_the_key(mine, old, new, message):
    assert SMALL_TABLE.count(old) >= 1
    mine.write_text(SMALL_TABLE.replace(old, new, 1))
    with pytest.raises(ValueError, match=message) as caught:
        tables.load("mine")
    assert "mine.toml" in str(caught.value)


VALUES = (
    ('title = "Mine"', "title = 3", "`title` is 3; expected text"),
    ('source = "nobody"', "source = []", r"`source` is \[\]; expected text"),
    ('source = "nobody"', 'source = "x"\nfootnotes = "y"', "`footnotes` is 'y'; expected a list"),
    (
        'source = "nobody"',
        'source = "x"\naxes = [1.5, 2.5]',
        "item 1 of `axes` is 1.5; expected text",
    ),
    ('source = "nobody"', 'source = "x"\npublished = "none.csv"', "none.csv is missing"),
    ('label = "NSD"', "label = 3", "item 2 of `rows`: `label` is 3; expected text"),
    ('label = "Full"', 'label = "NSD"', "two rows are labelled 'NSD' at scale smoke"),
    ('family = "ours"', "family = 3", "item 2 of `rows`: `family` is 3; expected text"),
    ('method = "nsd"', "method = 3", "item 2 of `rows`: `method` is 3; expected text"),
    ('method = "nsd"', 'method = "nsd"\nnote = 3', "item 2 of `rows`: `note` is 3; expected text"),
    (
        'method = "nsd"',
        'method = "nsd"\nwhen = 3',
        "item 2 of `rows`: `when` is 3; expected a table",
    ),
    ('method = "nsd"', 'method = "nsd"\nset = 3', "item 2 of `rows`: `set` is 3; expected a table"),
    (
        'method = "nsd"',
        'method = "nsd"\nprotocol = 3',
        "item 2 of `rows`: `protocol` is 3; expected text",
    ),
    (
        'method = "nsd"',
        'method = "nsd"\nprotocol = "foo"',
        "item 2 of `rows`: `protocol`: unknown protocol 'foo'",
    ),
    (
        'method = "nsd"',
        'method = "nsd"\nprotocol = "full-2ep"',
        "item 2 of `rows`: .*is for the full data",
    ),
    (
        'method = "nsd"',
        'method = "nsd"\nset = { "foo.bar" = 1 }',
        "item 2 of `rows`: .*'foo.bar': expected section.key",
    ),
    ("convnet2-w8", "convnet2-w1000000000", "`arch`: convnet2-w1000000000: `width` is .* 65536"),
    (
        'method = "nsd"',
        'method = "nsd"\nset = { "optimiser.iterations" = -1 }',
        "item 2 of `rows`: nsd.optimiser.iterations=-1: ",
    ),
    ('{ minus = ["NSD", "Random"] }', "3", "item 3 of `rows`: `derived` is 3; expected a table"),
    ('["NSD", "Random"]', "3", "item 3 of `rows`: `derived.minus` is 3; expected a list"),
    ('["NSD", "Random"]', '["NSD"]', "item 3 of `rows`: item 2 of `derived.minus` is missing"),
    (
        'protocol = "common-10ep"',
        'protocol = "foo"',
        "`scales.smoke.protocol`: unknown protocol 'foo'",
    ),
    ('protocol = "common-10ep"', "protocol = 3", "`scales.smoke.protocol` is 3; expected text"),
    (
        'protocol = "common-10ep"',
        'protocol = "full-2ep"',
        "`scales.smoke.protocol`: .*is for the full data",
    ),
    (
        'full_protocol = "full-2ep"',
        'full_protocol = "full"',
        "`scales.smoke.full_protocol`: unknown protocol",
    ),
    ("seeds = 3", 'seeds = "3"', "`scales.smoke.seeds` is '3'; expected a whole number"),
    ("seeds = 3", "seeds = true", "`scales.smoke.seeds` is True; expected a whole number"),
    ("repeats = 4", "repeats = 0", "`scales.smoke.repeats` is 0; .* of at least 1"),
    (
        "full_repeats = 2",
        "full_repeats = 2.0",
        "`scales.smoke.full_repeats` is 2.0; expected a whole number",
    ),
    (
        "ipc = 10",
        'ipc = "10"',
        "item 2 of `scales.smoke.columns`: `ipc` is '10'; expected a whole number",
    ),
    (
        "ipc = 10",
        "ipc = 0",
        "item 2 of `scales.smoke.columns`: `ipc` is 0; expected a whole number of at least 1",
    ),
    (
        '"Digits16", ipc = 10',
        '"Digit", ipc = 10',
        "item 2 of `scales.smoke.columns`: `dataset`: .*did you mean Digits",
    ),
    (
        '"Digits16", ipc = 10',
        "3, ipc = 10",
        "item 2 of `scales.smoke.columns`: `dataset` is 3; expected text",
    ),
    (
        'ipc = 10, arch = "convnet2-w8"',
        'ipc = 10, arch = "convnet"',
        "item 2 of `scales.smoke.columns`: `arch`: unknown arch",
    ),
)


@pytest.mark.parametrize(("old", "new", "message"), VALUES)
def test_values_are_checked_where_they_stand(mine, old, new, message):
    assert SMALL_TABLE.count(old) >= 1
    mine.write_text(SMALL_TABLE.replace(old, new, 1))
    with pytest.raises(ValueError, match=message) as caught:
        tables.load("mine")
    assert "mine.toml" in str(caught.value)


@pytest.mark.parametrize(
    "rest",
    [
        "rows = 3\n[scales]",
        "rows = []\n[scales.smoke]\nprotocol = 'dc'\nseeds = 1\nrepeats = 1\ncolumns = 3",
    ],
)
def test_lists_are_lists(mine, rest):
    mine.write_text(SMALL_TABLE.split("[[rows]]")[0] + rest)
    with pytest.raises(ValueError, match="is 3; expected a list"):
        tables.load("mine")


def test_data_that_is_not_here_is_no_mistake(mine, tmp_path):
    mine.write_text(SMALL_TABLE.replace('"Digits16"', f'"folder:{tmp_path}/none@16"'))
    assert tables.load("mine").entries("smoke")


def test_an_unknown_data_set_is_nowhere():
    for ask in (data.locate, data.how_to_get):
        with pytest.raises(ValueError, match="got 'Digit'; did you mean Digits"):
            ask("Digit")


def test_a_table_is_described_once(mine):
    (mine.parent / "table1.toml").write_text(SMALL_TABLE.replace('"mine"', '"table1"'))
    for call in (tables.names, lambda: tables.load("mine")):
        with pytest.raises(ValueError, match="table 'table1' is described twice: .* rename one"):
            call()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            'source = "nobody"',
            'source = "nobody"\naxes = ["a.b"]',
            r"`axes`: \['a.b'\]; expected two settings",
        ),
        ('source = "nobody"', 'source = "nobody"\naxes = ["a", "b.c"]', "expected two settings"),
        (
            "seeds = 3",
            "similarity = { dataset = 'Digits', label = 0, num_images = 1 }",
            "`protocol` has no",
        ),
    ],
)
def test_wrong_figures_are_named(mine, old, new, message):
    mine.write_text(SMALL_TABLE.replace(old, new, 1))
    with pytest.raises(ValueError, match=message):
        tables.load("mine")


def test_a_figure_of_real_images_has_no_cells(mine):
    head = SMALL_TABLE.split("[[rows]]")[0] + "rows = []\n[scales.smoke]\n"
    mine.write_text(head + 'similarity = { dataset = "Digits", label = 0, num_images = 9 }\n')
    table = tables.load("mine")
    assert table.entries("smoke") == []
    assert table.settings("smoke").similarity == tables.Similarity(
        dataset="Digits", label=0, num_images=9
    )
    mine.write_text(head + 'similarity = { dataset = "Digits", label = 0 }\n')
    with pytest.raises(ValueError, match="`scales.smoke.similarity.num_images` is missing"):
        tables.load("mine")
