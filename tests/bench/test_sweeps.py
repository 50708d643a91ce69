"""Sweeps: a row with a grid becomes its cells, and equal recipes are one cell with one record."""

from itertools import product
from pathlib import Path

import pytest

from nsdbench import methods
from nsdbench.bench import plan, tables
from nsdbench.bench.record import Record
from nsdbench.bench.run import run_plan
from nsdbench.bench.store import Store
from nsdbench.cli import explain
from nsdbench.cli.console import RunDisplay, make_console
from nsdbench.evaluation import protocols
from nsdbench.experts import Run
from nsdbench.methods.variants import split_variant
from nsdbench.report import collect
from nsdbench.report.status import summarise
from nsdbench.spread import summary

RECORDS = Path(__file__).parents[2] / "results"
TABLE = """
name = "mine"
title = "Mine"
source = "nobody"
[[rows]]
label = "NSD"
family = "ours"
method = "tiny-nsd"
grid = { "objective.guided_weight" = [0, 0.1, 0.3, 1] }
seeds = 3
[[rows]]
label = "stronger"
family = "ours"
method = "tiny-nsd"
set = { "objective.guided_weight" = 1.0 }
[scales.smoke]
protocol = "common-2ep"
seeds = 1
repeats = 1
columns = [{ dataset = "synthetic:3x1x8x8", ipc = 4, arch = "convnet1-w8" }]
"""
GRID = 'grid = { "objective.guided_weight" = [0, 0.1, 0.3, 1] }'

pytestmark = pytest.mark.usefixtures("tiny_methods")


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """Declare the table `mine` and return its path."""
    folder = tmp_path / "tables"
    folder.mkdir()
    monkeypatch.setenv(tables.FOLDERS_VARIABLE, str(folder))
    path = folder / "mine.toml"
    path.write_text(TABLE)
    return path


def cells_of(name="mine", scale="smoke", **choice):
    return tables.load(name).entries(scale, **choice)


def test_a_row_becomes_a_cell_for_every_value_and_those_of_its_own_sets(mine):
    entries = cells_of()
    assert [entry.row.label for entry in entries] == [
        *(f"NSD, guided_weight {value}" for value in (0, 0.1, 0.3, 1)), "stronger",
    ]  # fmt: skip
    # 0.3 is what the method has anyway, and 1 what another row writes as 1.0.
    assert [entry.cell.method for entry in entries] == [
        "tiny-nsd+objective.guided_weight=0.0",
        "tiny-nsd+objective.guided_weight=0.1",
        "tiny-nsd",
        "tiny-nsd+objective.guided_weight=1.0",
        "tiny-nsd+objective.guided_weight=1.0",
    ]
    assert entries[3].cell == entries[4].cell
    values = [entry.recipe.values["objective"]["guided_weight"] for entry in entries]
    assert values == [0.0, 0.1, 0.3, 1.0, 1.0]
    own = methods.resolve("tiny-nsd", "synthetic:3x1x8x8", 4, "smoke")
    assert entries[2].recipe.hash == own.hash
    assert [entry.seeds for entry in entries] == [3, 3, 3, 3, 1]
    assert {entry.seeds for entry in cells_of(seeds=2)} == {2}


def test_two_settings_are_multiplied_out_and_the_last_changes_first(mine):
    two = GRID.replace("}", ', "optimiser.iterations" = [2, 3] }').replace(
        "[0, 0.1, 0.3, 1]", "[0, 1]"
    )
    mine.write_text(TABLE.replace(GRID, two))
    points = [entry.row.values for entry in cells_of() if entry.row.sweep]
    assert [tuple(values.values()) for values in points] == list(product([0, 1], [2, 3]))


def test_what_a_part_does_by_default_makes_no_other_recipe(mine):
    """The recipe says nothing of `init`, whose default is noise."""
    assert (
        "init" not in methods.resolve("tiny-nsd", "Digits16", 4, "smoke").values["parameterization"]
    )
    grid = 'grid = { "parameterization.init" = ["noise", "real"] }'
    mine.write_text(TABLE.replace(GRID, grid))
    found = [entry.cell.method for entry in cells_of() if entry.row.sweep]
    assert found == ["tiny-nsd", "tiny-nsd+parameterization.init=real"]


def test_a_setting_that_the_recipe_lacks_may_be_swept(mine, tiny_methods):
    """Tiles need a factor, which this recipe leaves to whoever uses it."""
    text = 'name = "open"\ntitle = "S"\nextends = "tiny-mtt"\n[[settings]]\nsource = "x"\n'
    (tiny_methods / "open.toml").write_text(text + 'parameterization = { name = "tiles" }')
    grid = 'method = "open"\ngrid = { "parameterization.factor" = [2, 4] }'
    mine.write_text(TABLE.replace(f'method = "tiny-nsd"\n{GRID}', grid))
    found = [entry.cell.method for entry in cells_of() if entry.row.sweep]
    assert found == [f"open+parameterization.factor={factor}" for factor in (2, 4)]


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ('{ "objective.guided_weight" = [] }', "objective.guided_weight.*: has no value; list"),
        ('{ "objective.guided_weight" = [0, 0.1, 0.0] }', "has the value 0.0 twice"),
        ('{ "objective.guided_weight" = 1 }', "objective.guided_weight.* is 1; expected a list"),
        ("{}", "`grid` is empty; expected settings with lists of values"),
        ("3", "`grid` is 3; expected a table"),
        ('{ "objective.guided_wieght" = [0, 1] }', "guided_wieght.*did you mean guided_weight"),
        ('{ "objective.guided_weight" = [0, -1] }', "`guided_weight` is -1; expected a .*number"),
        ('{ "objective.guided_weight" = [0, "much"] }', "`guided_weight` is 'much'; expected a"),
        ('{ "optimiser.iterations" = [0] }', "`optimiser.iterations` is 0; .* at least 1"),
        ('{ "optimiser.lr_sin" = [1.0] }', "unknown key `optimiser.lr_sin`; .*did you mean lr_syn"),
        ('{ "optimizer.lr_syn" = [1.0] }', "'optimizer.lr_syn': expected section.key"),
        ('{ "optimiser.lr_syn" = [[1.0]] }', "expected section.key and a number"),
        ('{ "parameterization.init" = ["reel"] }', "`init` is 'reel'; .*did you mean real"),
        ('{ "data.preprocessing" = ["zca", "zac"] }', "`data.preprocessing` is 'zac'; .* mean zca"),
        ('{ "network.name" = ["convnet", "resnet81"] }', "unknown network 'resnet81'; .*resnet18"),
        ('{ "network.norm" = ["none", "batch"] }', "unknown norm 'batch'; choose one of"),
        ('{ "network.norm" = ["batch_norm"] }', "takes no networks with batch norm"),
        ('{ "coreset.name" = ["random"] }', "coreset.name has no effect: .* has no coreset"),
        ('{ "objective.name" = ["gradient", "distribution"] }', "objective '.*`.*` is missing"),
    ],
)
def test_a_wrong_grid_is_refused_at_the_door_in_one_line(mine, grid, message):
    mine.write_text(TABLE.replace(GRID, f"grid = {grid}"))
    with pytest.raises(ValueError, match=message) as caught:
        tables.load("mine")
    text = str(caught.value)
    assert "mine.toml" in text and "\n" not in text


def test_a_setting_is_swept_or_set_not_both(mine):
    both = f'{GRID}\nset = {{ "objective.guided_weight" = 1.0 }}'
    mine.write_text(TABLE.replace(GRID, both))
    with pytest.raises(ValueError, match="objective.guided_weight stands in `grid` and in `set`"):
        tables.load("mine")
    mine.write_text(TABLE.replace('method = "tiny-nsd"\ngrid', 'method = "full"\ngrid'))
    with pytest.raises(ValueError, match="`grid` has no place in .* the full data's"):
        tables.load("mine")


def test_plan_run_status_and_explain_know_the_cells_of_a_sweep(mine, tmp_path):
    mine.write_text(
        TABLE.replace("[0, 0.1, 0.3, 1]", "[0.3, 1]").replace("seeds = 3", "seeds = 1", 1)
    )
    run = Run(tmp_path / "results")
    made = plan.make(plan.Choice(["mine"]), run)
    assert [planned.cell.method for planned in made.cells] == [
        "tiny-nsd", "tiny-nsd+objective.guided_weight=1.0",
    ]  # fmt: skip
    assert all(planned.estimate for planned in made.cells)
    with RunDisplay(make_console(), made, made.seconds(1)) as display:
        outcome = run_plan(made, run, display)
    assert len(outcome.done) == 2 and not outcome.failed
    assert plan.make(plan.Choice(["mine"]), run).todo() == []
    records, _ = Store(run.results).records("smoke")
    reports = collect(tables.load("mine"), "smoke", records)
    assert [cell.status for cell in reports] == ["measured"] * 3
    assert reports[1].record == reports[2].record, "the point and the row share a record"
    counts = summarise([tables.load("mine")], "smoke", records)["tables"][0]["counts"]
    assert counts["measured"] == 2
    assert explain.find_cells(made.cells[1].cell.id) == [made.cells[1].cell]


def test_the_search_kept_its_cells_and_their_records():
    """Written as sweeps it has the 34 cells that it had as single rows, all measured."""
    entries = cells_of("nsd-search", "small")
    known = {
        record.cell.id
        for record in Store(RECORDS).records("small")[0]
        if split_variant(record.cell.method)[0] == "nsd-search"
        and record.cell.dataset == "FashionMNIST-holdout5000-seed0"
    }
    assert {entry.cell.id for entry in entries} == known and len(known) == 34
    by_cell = {record.cell: record for record in Store(RECORDS).records("small")[0]}
    for entry in entries:
        assert by_cell[entry.cell].recipe_hash == entry.recipe.hash
    assert sum(entry.row.sweep is not None for entry in entries) > 25


def test_the_search_on_cifar10_varies_what_it_says_around_the_recipe():
    entries = cells_of("nsd-search-cifar10", "small")
    assert len({entry.cell for entry in entries}) == 32
    swept = {
        ipc: {path for e in entries if e.cell.ipc == ipc for path in e.row.values}
        for ipc in (1, 10)
    }
    assert swept[10] == {"optimiser.lr_kernels", "optimiser.lr_syn", "parameterization.init"}
    assert swept[1] == swept[10] | {
        "objective.expert_epochs", "objective.guided_weight", "objective.max_start_epoch",
        "objective.syn_steps", "optimiser.lr_lr",
    }  # fmt: skip
    for ipc in (1, 10):
        centre = methods.resolve("nsd", "FashionMNIST", ipc, "small").values
        start = methods.resolve("nsd-search", "CIFAR10", ipc, "small").values
        for path in swept[ipc]:
            section, _, key = path.partition(".")
            assert start[section][key] == centre[section][key], "FashionMNIST's choices"


def record_of(entry, values):
    """Make the record of a cell with a set for every row of values."""
    return Record.done(
        entry.cell,
        recipe_hash=entry.recipe.hash,
        protocol_hash=protocols.get(entry.cell.protocol).hash,
        seeds=len(values),
        repeats=len(values[0]),
        accuracy=summary(values),
    )


def test_a_point_with_fewer_sets_than_its_row_asks_for_says_so(mine):
    entries = cells_of()
    (cell, *_) = collect(tables.load("mine"), "smoke", [record_of(entries[0], [[50.0]])])
    assert (cell.status, cell.reason) == ("measured", "1 x 1 of 3 x 1 runs")
