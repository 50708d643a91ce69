"""Variants: a method whose settings are its name, from a table's row to the record and its set."""

from math import prod

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nsdbench import data, methods
from nsdbench.bench import plan, tables
from nsdbench.bench.cell import Cell
from nsdbench.bench.cost import estimate
from nsdbench.bench.record import Record
from nsdbench.bench.store import Store
from nsdbench.bench.tables.where import parse_where
from nsdbench.cli import explain
from nsdbench.evaluation import protocols
from nsdbench.experts import Run
from nsdbench.methods.variants import split_variant, variant_name
from nsdbench.report import build

TABLE = """
name = "search"
title = "Search"
source = "nobody"
[[rows]]
label = "as it is"
family = "ours"
method = "tiny-nsd"
[[rows]]
label = "stronger guidance"
family = "ours"
method = "tiny-nsd"
set = { "objective.guided_weight" = 0.5, "objective.batch_syn" = 6 }
[[rows]]
label = "one slice"
family = "ours"
method = "tiny-nsd"
set = { "parameterization.t1" = 1 }
when = { ipc = 4 }
[[rows]]
label = "at another scale"
family = "ours"
method = "tiny-nsd"
set = { "parameterization.t1" = 1 }
when = { scale = "small" }
[scales.smoke]
protocol = "common-2ep"
seeds = 1
repeats = 1
columns = [
    { dataset = "synthetic:3x1x8x8", ipc = 4, arch = "convnet1-w8" },
    { dataset = "synthetic:3x1x8x8-holdout30-seed0", ipc = 5, arch = "convnet1-w8" },
]
"""
STRONGER = "tiny-nsd+objective.batch_syn=6+objective.guided_weight=0.5"

pytestmark = pytest.mark.usefixtures("tiny_methods")


def make_plan(results, names, scale, data_root=None, **choice):
    return plan.make(plan.Choice(names, scale, **choice), Run(results, data_root))


@pytest.fixture
def search(tmp_path, monkeypatch):
    """Declare the table `search` and return its path."""
    folder = tmp_path / "tables"
    folder.mkdir()
    monkeypatch.setenv(tables.FOLDERS_VARIABLE, str(folder))
    path = folder / "search.toml"
    path.write_text(TABLE)
    return path


def test_a_name_is_the_method_and_its_settings_in_order():
    settings = {"optimiser.lr_lr": 1e-5, "objective.mode": "exact", "a.b2": True, "a.c": 1e20}
    name = "nsd+a.b2=true+a.c=1e+20+objective.mode=exact+optimiser.lr_lr=1e-05"
    assert variant_name("nsd", settings) == name
    assert split_variant(name) == ("nsd", settings)
    assert variant_name("nsd", {}) == "nsd" and split_variant("nsd") == ("nsd", {})


@settings(deadline=None)
@given(
    st.dictionaries(
        st.from_regex(r"[a-z]{1,4}\.[a-z_0-9]{1,4}", fullmatch=True),
        st.integers(-(10**18), 10**18)
        | st.booleans()
        | st.floats(allow_nan=False, allow_infinity=False),
        max_size=3,
    )
)
def test_a_name_is_read_as_it_was_written(settings):
    name = variant_name("k-center", settings)
    method, read = split_variant(name)
    assert (method, read) == ("k-center", settings)
    assert {k: type(v) for k, v in read.items()} == {k: type(v) for k, v in settings.items()}


@pytest.mark.parametrize("value", [[1], None, "two words", "a+b.c", "a/b", "5", "", "true"])
def test_what_cannot_stand_in_a_name_is_refused(value):
    if value is None:
        value = {}
    with pytest.raises(ValueError, match=r"nsd: setting objective.x = .*expected section.key"):
        variant_name("nsd", {"objective.x": value})
    with pytest.raises(ValueError, match="setting objective = 1"):
        variant_name("nsd", {"objective": 1})


def test_a_name_that_no_file_can_have_is_refused():
    settings = {f"parameterization.setting_{i}": 10000 for i in range(5)}
    with pytest.raises(ValueError, match=r"has 168 characters.* room for 150; write a method file"):
        variant_name("nsd", settings)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nsd+objective.x", r"'objective.x' is not a setting"),
        ("nsd+objective.x=0.50", r"is called 'nsd\+objective.x=0.5'"),
        ("nsd+objective.y=1+objective.x=1", r"is called 'nsd\+objective.x=1\+objective.y=1'"),
        ("nsd+objectives.x=1", "'objectives.x': expected section.key .* did you mean objective"),
        ("nsd+optimiser.lr=1", "unknown key `optimiser.lr`"),
    ],
)
def test_wrong_variants_are_refused(name, message):
    with pytest.raises(ValueError, match=message):
        methods.load(name)


def test_a_variant_differs_from_its_method_in_its_settings_alone():
    method = methods.resolve("nsd", "FashionMNIST", 1, "small")
    variant = methods.resolve("nsd+objective.guided_weight=0.1", "FashionMNIST", 1, "small")
    assert method.values["objective"]["guided_weight"] == 0.3  # what the variant replaces
    assert variant.values == {
        **method.values,
        "objective": {**method.values["objective"], "guided_weight": 0.1},
    }
    assert variant.sources["objective.guided_weight"].startswith("what makes the variant")
    assert variant.hash != method.hash
    assert variant.title == "NSD with objective.guided_weight = 0.1"


def test_rows_have_settings_and_conditions(search):
    entries = tables.load("search").entries("smoke")
    assert [(e.row.label, e.cell.ipc, e.cell.method) for e in entries] == [
        ("as it is", 4, "tiny-nsd"),
        ("as it is", 5, "tiny-nsd"),
        ("stronger guidance", 4, STRONGER),
        ("stronger guidance", 5, STRONGER),
        ("one slice", 4, "tiny-nsd+parameterization.t1=1"),
    ]
    assert all(not entry.missing for entry in entries)
    assert entries[2].recipe.values["objective"]["guided_weight"] == 0.5


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "when = { ipc = 4 }",
            'when = { ipc = "4" }',
            "item 3 of `rows`: item 1 of `when.ipc` is '4'",
        ),
        ("when = { ipc = 4 }", "when = { arch = 4 }", "item 3 of `rows`: unknown key `when.arch`"),
        (
            'set = { "parameterization.t1" = 1 }',
            "set = 1",
            "item 3 of `rows`: `set` is 1; expected",
        ),
        (
            '{ "parameterization.t1" = 1 }',
            '{ "t1" = 1 }',
            "item 3 of `rows`: tiny-nsd: setting t1 = 1: exp",
        ),
        (
            '{ "parameterization.t1" = 1 }',
            "{ parameterization.t1 = 1 }",
            "item 3 of `rows`: .* = {'t1': 1}",
        ),
        (
            'method = "tiny-nsd"\nset = { "parameterization.t1" = 1 }',
            'method = "full"\nset = { "data.preprocessing" = "zca" }',
            "item 3 of `rows`: `set` has no place",
        ),
    ],
)
def test_wrong_rows_are_named(search, old, new, message):
    assert old in TABLE
    search.write_text(TABLE.replace(old, new, 1))
    with pytest.raises(ValueError, match=message):
        tables.load("search")


def test_a_search_runs_resumes_and_reports_like_any_table(search, tmp_path, measure_cell):
    store = Store(tmp_path / "results")
    made = make_plan(store.results, ["search"], "smoke", where=parse_where([f"method={STRONGER}"]))
    assert [planned.cell.ipc for planned in made.cells] == [4, 5]
    for planned in made.cells:
        assert planned.status == "todo" and planned.estimate is not None
        record = measure_cell(planned.cell, store.results)
        assert record.status == "done", record.failure
        store.write(record)
        assert record.recipe["objective"]["guided_weight"] == 0.5
    again = make_plan(store.results, ["search"], "smoke")
    assert {p.cell.method: p.status for p in again.cells} == {
        "tiny-nsd": "todo",
        STRONGER: "done",
        "tiny-nsd+parameterization.t1=1": "todo",
    }
    records, warnings = store.records("smoke")
    assert not warnings
    document = build(tables.load("search"), "smoke", records)
    rows = {row[0]: row[1:] for row in document.grids[0].rows}
    numbers = [f"{r.accuracy.mean:.1f}" for r in records]
    assert sorted(rows["stronger guidance"]) == sorted(numbers)
    assert rows["as it is"] == ("not run", "not run")
    assert rows["one slice"] == ("not run", "-")
    assert "at another scale" not in rows


def test_a_set_of_a_variant_says_so_and_explain_knows_it(search, tmp_path, measure_cell):
    cell = Cell("synthetic:3x1x8x8", 4, STRONGER, "convnet1-w8", "common-2ep", "smoke")
    text = explain.explain(cell)
    assert "objective.guided_weight" in text and f"what makes the variant [{STRONGER}]" in text
    assert explain.find_cells(cell.id) == [cell]
    record = measure_cell(cell, tmp_path / "results")
    (path,) = (tmp_path / "results" / "artefacts").glob("*.safetensors")
    assert path.name.startswith("tiny-nsd+objective.batch_syn=6+objective.guided_weight=0.5-")
    assert Record.parse(record.text()) == record


@pytest.mark.parametrize(
    ("name", "dataset"),
    [
        ("nsd-search", "FashionMNIST-holdout5000-seed0"),
        ("nsd-search-cifar10", "CIFAR10-JPEG-holdout5000-seed0"),
    ],
)
def test_the_search_changes_what_a_row_says_and_never_sees_the_test_split(name, dataset):
    entries = tables.load(name).entries("small")
    assert len({entry.cell for entry in entries}) <= 40
    assert {entry.cell.dataset for entry in entries} == {dataset}
    experts = set()
    for entry in entries:
        method, settings = split_variant(entry.cell.method)
        base = methods.resolve(method, entry.cell.dataset, entry.cell.ipc, "small").values
        changed = {
            f"{section}.{key}": value
            for section, values in entry.recipe.values.items()
            for key, value in values.items()
            if base[section].get(key) != value
        }
        if method == "nsd-search":
            assert changed == settings, "a setting that the recipe has already"
        spec, protocol = data.spec(entry.cell.dataset), protocols.get(entry.cell.protocol)
        predicted = estimate(entry.recipe, spec, entry.cell.ipc, entry.cell.arch, protocol, 1, 1)
        assert predicted.stored_bytes <= 4 * entry.cell.ipc * 10 * prod(spec.image_shape)
        experts.add(next(work.key for work in predicted.work if work.phase == "experts"))
        longest = entry.recipe.values["objective"]
        last = longest["max_start_epoch"] - 1 + longest["expert_epochs"]
        assert last <= entry.recipe.values["experts"]["epochs"]
    assert len(experts) == 1, "all cells share their experts"
