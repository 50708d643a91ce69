"""Reports: a status for every cell, no number of one data set in a column of another."""

import ast
import csv
import io
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

import nsdbench.report
from nsdbench import methods
from nsdbench.bench import tables
from nsdbench.bench.facts import Distillation
from nsdbench.bench.record import Record
from nsdbench.bench.verdict import verdict
from nsdbench.evaluation import protocols
from nsdbench.report import build, collect, writers
from nsdbench.report.content import gain
from nsdbench.report.grids import published_grid
from nsdbench.report.writers import write
from nsdbench.spread import summary
from tests.report.records import entry_of, record_of

RANDOM = entry_of("table1", "paper", "Random", dataset="CIFAR10", ipc=1)


def grid(document, title):
    """Return a grid of a document as {row label: {column: text}}."""
    (found,) = [grid for grid in document.grids if grid.title.startswith(title)]
    return {row[0]: dict(zip(found.header, row, strict=True)) for row in found.rows}


def test_a_set_that_ran_away_is_marked_wherever_its_number_stands():
    nsd = entry_of("table1", "paper", "NSD", dataset="CIFAR10", ipc=1)
    learned = {
        "iterations": 40,
        "curve": tuple((i, 1.0 + 0.2 * i) for i in range(40)),
        "images_moved": 2.0,
    }
    table = tables.load("table1")
    sound, ran = (
        record_of(nsd, [68.1, 68.3], distillation=learned | {"curve": curve})
        for curve in (tuple((i, 1.0) for i in range(40)), learned["curve"])
    )
    assert "diverged?" not in write(["table1"], "paper", [sound], "markdown")
    (cell,) = [x for x in collect(table, "paper", [ran]) if x.record is not None]
    assert cell.status == "measured" and cell.number == "68.2 ± 0.1 (diverged?)"
    assert cell.reason.endswith("diverged?: its loss ended at 6.54 times what it began with")
    document = build(table, "paper", [ran])
    note = "diverged? NSD (CIFAR10 ipc 1): its loss ended at 6.54 times what it began with"
    assert note in document.notes
    assert "68.2 ± 0.1 (diverged?)" in write(["table1"], "paper", [ran], "markdown")


def test_paper_scale_shows_measured_beside_published():
    nsd = entry_of("table1", "paper", "NSD", dataset="CIFAR10", ipc=1)
    document = build(
        tables.load("table1"), "paper", [record_of(nsd, [68.1, 68.3, 68.9, 69.1, 68.6])]
    )
    (details,) = [g for g in document.grids if g.title == "Every measured cell"]
    assert details.rows == (
        (
            "NSD", "CIFAR10 ipc 1", "common", "68.6 ± 0.4", "1", "5", "68.1 to 69.1",
            "not measured", "-", "68.5 ± 0.8", "+0.1", "reproduced", "98.3 %",
        ),
    )  # fmt: skip
    assert grid(document, "What every measured cell took")["NSD"] == {
        "method": "NSD", "cell": "CIFAR10 ipc 1", "protocol": "common", "images": "560",
        "batch": "256", "steps": "1001", "experts": "10 s", "distillation": "21 s",
        "evaluation": "3 s",
        "peak memory": "512 MiB", "device": "a processor",
    }  # fmt: skip
    assert grid(document, "Measured")["NSD"]["CIFAR10 ipc 1"] == "68.6 ± 0.4"
    assert grid(document, "Published")["NSD"]["CIFAR10 ipc 1"] == "68.5 ± 0.8"
    assert grid(document, "Published")["Full dataset"]["CIFAR100 ipc 10"] == "56.2 ± 0.3"
    assert grid(document, "Published")["IDC"]["TinyImageNet ipc 1"] == "-"
    assert "leave out the variation between sets" in writers.markdown(document)


def nsd_and_random(nsd_rows, random_values):
    """Report NSD and Random on CIFAR10 at ipc 1: the grid, and both lines of the CSV."""
    nsd = entry_of("table1", "paper", "NSD", dataset="CIFAR10", ipc=1)
    recipe = methods.resolve("random", "CIFAR10", 1, "paper")
    records = [
        record_of(nsd, [50.0] * 5, accuracy=summary(nsd_rows), seeds=len(nsd_rows)),
        record_of(RANDOM, random_values, recipe=recipe),
    ]
    document = build(tables.load("table1"), "paper", records)
    text = write(["table1"], "paper", records, kind="csv")
    lines = {line["row"]: line for line in csv.DictReader(io.StringIO(text)) if line["mean"]}
    return grid(document, "Every measured cell"), lines["NSD"], lines["Random"]


def test_the_gain_is_over_random_of_the_same_cell_with_welchs_interval():
    nsd, random = [68.1, 68.3, 68.9, 69.1, 68.6], [14.0, 16.0, 12.0, 15.0, 13.0]
    shown, nsd_line, random_line = nsd_and_random([nsd], random)
    expected = stats.ttest_ind(nsd, random, equal_var=False).confidence_interval(0.95)
    text = f"+54.6 ({expected.low:+.1f} to {expected.high:+.1f})"
    assert shown["NSD"]["gain over Random"] == text
    assert float(nsd_line["gain_over_random"]) == pytest.approx(54.6)
    assert float(nsd_line["gain_low"]) == pytest.approx(expected.low)
    assert float(nsd_line["gain_high"]) == pytest.approx(expected.high)
    assert shown["Random"]["gain over Random"] == "-" and random_line["gain_over_random"] == ""
    assert (shown["Random"]["sets"], shown["Random"]["between sets"]) == ("5", "in the interval")
    few, line, _ = nsd_and_random([[68.0]], random)
    assert few["NSD"]["gain over Random"] == "+54.0" and line["gain_low"] == ""


@pytest.mark.parametrize(
    "changes",
    [
        {"recipe_hash": "another"},
        {"protocol": protocols.get("dc")},
        {"cell": replace(RANDOM.cell, protocol="dc")},
        {"cell": replace(RANDOM.cell, ipc=10)},
        {"cell": replace(RANDOM.cell, dataset="CIFAR100")},
        {"cell": replace(RANDOM.cell, arch="alexnet")},
        {"cell": replace(RANDOM.cell, scale="small")},
    ],
    ids=str,
)
def test_there_is_no_gain_over_random_under_other_conditions(changes):
    nsd = entry_of("table1", "paper", "NSD", dataset="CIFAR10", ipc=1)
    records = [record_of(nsd, [68.5] * 5), record_of(RANDOM, [14.0] * 5, **changes)]
    document = build(tables.load("table1"), "paper", records)
    assert grid(document, "Every measured cell")["NSD"]["gain over Random"] == "-"


def test_intervals_of_several_sets_are_over_sets():
    rows = [[67.0, 67.2], [68.0, 68.4], [70.0, 69.6]]
    shown, line, _ = nsd_and_random(rows, [14.0] * 5)
    means = [sum(row) / 2 for row in rows]
    low, high = stats.t.interval(0.95, 2, loc=np.mean(means), scale=stats.sem(means))
    assert shown["NSD"]["95 % interval"] == f"{low:.1f} to {high:.1f}"
    assert (shown["NSD"]["sets"], shown["NSD"]["n"]) == ("3", "6")
    between = math.sqrt(np.var(means, ddof=1) - (0.02 + 0.08 + 0.08) / 3 / 2)
    assert shown["NSD"]["between sets"] == f"{between:.1f}"
    assert float(line["between_sets"]) == pytest.approx(between)


def test_one_set_gets_the_spread_that_was_measured_elsewhere_as_an_estimate():
    entry = entry_of("table1", "paper", "NSD", dataset="CIFAR10", ipc=1)
    one = record_of(entry, [68.1, 68.3, 68.9, 69.1, 68.6])

    def elsewhere(rows, recipe_hash=None, runaways=None, **where):
        cell = replace(entry.cell, **where)
        recipe = methods.resolve(cell.method, cell.dataset, cell.ipc, cell.scale)
        changes = {"cell": cell, "recipe_hash": recipe_hash or recipe.hash}
        changes["distillation"] = Distillation(iterations=9, other_runaways=runaways or {})
        return record_of(entry, [0.0], accuracy=summary(rows), **changes)

    spread = [[60.0, 60.0], [62.0, 62.0]]
    wide = [[50.0, 50.0], [62.0, 62.0]]
    for others, text in (
        ([elsewhere(spread, ipc=10)], "about 1.4 (estimate: 2 sets of CIFAR10 ipc 10 "),
        ([elsewhere(wide, ipc=10), elsewhere(spread, arch="alexnet")], "about 1.4 (estimate: 2 "),
        ([elsewhere(spread, dataset="CIFAR10-holdout500-seed0")], "about 1.4 (estimate: 2 sets of"),
        ([elsewhere(spread, dataset="CIFAR100")], "not measured"),
        ([elsewhere(spread, method="nsd-unguided")], "not measured"),
        ([elsewhere(spread, ipc=10, recipe_hash="another")], "not measured"),
        ([elsewhere(spread, ipc=10, runaways={"2": "its loss was not finite"})], "not measured"),
        ([elsewhere([[60.0], [62.0]], ipc=10)], "not measured"),
    ):
        document = build(tables.load("table1"), "paper", [one, *others])
        (details,) = [g for g in document.grids if g.title == "Every measured cell"]
        rows = [dict(zip(details.header, row, strict=True)) for row in details.rows]
        (shown,) = [row for row in rows if row["measured"] == "68.6 ± 0.4"]
        assert shown["between sets"].startswith(text)
        assert shown["95 % interval"] == "68.1 to 69.1"


def test_a_copy_stands_beside_the_published_numbers_and_no_verdict_is_given_at_small():
    entry = entry_of("table4", "small", "NSD", dataset="CIFAR10-JPEG", arch="alexnet-w16")
    document = build(tables.load("table4"), "small", [record_of(entry, [50.0, 51.0, 52.0])])
    beside = grid(document, "On a lossy copy, beside the published numbers, which were distilled")
    assert beside["NSD"]["CIFAR10-JPEG ipc 10 alexnet-w16"] == "51.0 ± 0.8"
    assert beside["NSD"]["CIFAR10 ipc 10 AlexNet, published"] == "71.4 ± 0.3"
    assert beside["NSD"]["CIFAR10-JPEG ipc 10 vgg11-w8"] == "not run"
    assert list(beside["DC"].values())[-1] == "22.4 ± 1.4"
    details = grid(document, "Every measured cell")["NSD"]
    assert details["verdict"] == "not comparable: scale small, on a lossy copy"
    assert (details["published"], details["difference"]) == ("71.4 ± 0.3", "-")
    no_copy = build(tables.load("table4"), "smoke", [])
    assert not [found for found in no_copy.grids if "copy" in found.title]


def test_notes_are_those_of_the_rows_that_a_scale_has():
    for name, scale, kernel in (("table1", "small", "rfad"), ("table1", "paper", "kip")):
        (note,) = [
            x for x in build(tables.load(name), scale, []).notes if x.startswith("KIP to NN:")
        ]
        assert f"the method `{kernel}`" in note
    for scale, count in (("small", 1), ("paper", 0)):
        notes = build(tables.load("table4"), scale, []).notes
        assert sum(note.startswith("Random:") for note in notes) == count


def test_a_set_over_its_budget_says_what_it_stores_and_is_never_compared():
    """HaBa's own: 1.91 images per class at "ipc 1"."""
    haba = entry_of("table1", "paper", "HaBa", dataset="CIFAR10", ipc=1)
    budget = {"stored_bits": 32 * 58_560, "limit_bits": 32 * 30_720}
    record = record_of(haba, [48.3] * 5, budget=budget)
    document = build(tables.load("table1"), "paper", [record])
    number = "48.3 ± 0.0 (stores 1.91 ipc)"
    assert grid(document, "Measured")["HaBa"]["CIFAR10 ipc 1"] == number
    details = grid(document, "Every measured cell")["HaBa"]
    assert details["measured"] == number and details["budget used"] == "190.6 %"
    assert details["difference"] == "-" and details["verdict"].startswith("not comparable")
    same = replace(haba.published, protocol=haba.cell.protocol)
    assert verdict(record, same).reason == "over budget (190.6 %)"
    assert "stores more than its budget has more room than that Random" in document.paragraphs[-1]


def test_the_time_of_a_prior_is_shown_where_a_cell_has_one():
    glad, mtt = (entry_of("table3", "smoke", row) for row in ("GLaD (suite-trained prior)", "MTT"))
    seconds = {"prior": 8.4, "experts": 0.0, "distill": 20.0, "evaluate": 3.0}
    with_prior = record_of(glad, [90.0], cost={"seconds": seconds})
    table = tables.load("table3")
    document = build(table, "smoke", [with_prior, record_of(mtt, [70.0])])
    took = grid(document, "What every measured cell took")
    assert (took["GLaD (suite-trained prior)"]["prior"], took["MTT"]["prior"]) == ("8 s", "-")
    document = build(table, "smoke", [record_of(mtt, [70.0])])
    assert "prior" not in grid(document, "What every measured cell took")["MTT"]


def test_other_protocols_show_no_difference():
    mtt = entry_of("table1", "paper", "MTT", dataset="CIFAR10", ipc=1)
    document = build(tables.load("table1"), "paper", [record_of(mtt, [46.3] * 5)])
    (details,) = [g for g in document.grids if g.title == "Every measured cell"]
    assert details.rows[0][9:12] == (
        "46.3 ± 0.8", "-", "not comparable: protocol common, published mtt, best on test",
    )  # fmt: skip


@pytest.mark.parametrize(("scale", "dataset"), [("smoke", "Digits16"), ("small", "FashionMNIST")])
def test_other_data_never_stands_beside_published_numbers(scale, dataset):
    table = tables.load("table1")
    entry = entry_of("table1", scale, "NSD", dataset=dataset, ipc=1)
    document = build(table, scale, [record_of(entry, [80.0] * 5)])
    (details,) = [g for g in document.grids if g.title == "Every measured cell"]
    assert details.rows[0][9:12] == ("-", "-", f"not comparable: scale {scale}")
    own = {column.dataset for column in table.settings(scale).columns}
    for found in document.grids:
        if found.title.startswith("On a lossy copy"):
            continue  # measured and published stand in columns of their own, named so
        words = {word for name in found.header for word in name.split()}
        named = words & (own | {"CIFAR10", "TinyImageNet"})
        assert named <= own or not named & own, found.title
    (published,) = [g for g in document.grids if g.title.startswith("Published")]
    on = "Published on CIFAR10, CIFAR100, TinyImageNet"
    assert (
        published.title
        == {
            "smoke": f"{on}: other data than above, not to be compared with it",
            "small": "Published, distilled at the full settings: no verdict at this scale; "
            "FashionMNIST is other data",
        }[scale]
    )


def test_a_copy_stands_beside_the_published_numbers_of_what_it_stands_for():
    entry = entry_of("table1", "small", "NSD", dataset="CIFAR10-JPEG", ipc=10)
    document = build(tables.load("table1"), "small", [record_of(entry, [60.0] * 5)])
    assert grid(document, "Measured")["NSD"]["CIFAR10-JPEG ipc 10"] == "60.0 ± 0.0"
    assert grid(document, "Published")["NSD"]["CIFAR10 ipc 10"] == "73.4 ± 0.2"
    (details,) = [g for g in document.grids if g.title == "Every measured cell"]
    assert details.rows[0][9:12] == (
        "73.4 ± 0.2", "-", "not comparable: scale small, on a lossy copy",
    )  # fmt: skip
    full = entry_of("table1", "small", "Full dataset", dataset="CIFAR10-JPEG")
    assert full.published.mean == 84.8 and len(full.columns) == 2


def test_columns_of_two_protocols_stand_in_two_grids():
    table, equal = tables.load("table5"), "common-equal-steps-3000"
    arch = "convnet3-w32"
    records = [
        record_of(entry_of("table5", "small", label, dataset=data, arch=arch), [value] * 5)
        for label, data, value in (
            ("MTT", "CIFAR10-JPEG", 48.0), ("MTT w. ours", "CIFAR10-JPEG", 55.0),
            ("MTT", "FashionMNIST", 76.0), ("MTT w. ours", "FashionMNIST", 80.0),
        )
    ]  # fmt: skip
    document = build(table, "small", records)
    copy = grid(document, "Measured by protocol common-300ep")
    own = grid(document, f"Measured by protocol {equal}")
    gain = "MTT gain (measured)"
    assert copy[gain]["CIFAR10-JPEG ipc 10 convnet3-w32"] == "+7.0"
    assert own[gain]["FashionMNIST ipc 1 convnet3-w32"] == "+4.0"
    assert len(copy["MTT"]) == 5 and len(own["MTT"]) == 3, "no column of the other protocol"
    assert copy.keys() == own.keys()
    by_data = f"protocol common-300ep (CIFAR10-JPEG ipc 10), protocol {equal} (FashionMNIST ipc 1)"
    assert any(by_data in text for text in document.paragraphs)


def test_printed_numbers_of_the_same_data_stand_beside_a_reduced_run_without_a_verdict():
    table = tables.load("fashion-mnist")
    random = entry_of("fashion-mnist", "small", "Random")
    document = build(table, "small", [record_of(random, [51.0] * 5)])
    (details,) = [g for g in document.grids if g.title == "Every measured cell"]
    assert details.rows[0][2] == "dc"
    assert details.rows[0][9:12] == ("51.4", "-", "not comparable: scale small")
    assert grid(document, "Published, distilled at the full settings")["DC"] == {
        "method": "DC", "FashionMNIST ipc 1": "70.5 ± 0.6",
    }  # fmt: skip
    assert any(
        "protocol dc (Random, Herding, DC), protocol common (DSA, DM), 1 set x 5 networks a" in text
        for text in document.paragraphs
    )


def test_another_protocol_shows_its_own_cells_and_no_others():
    table, steps = tables.load("table5"), "common-equal-steps-3000"
    usual, equal, mtt = (
        record_of(entry_of("table5", "paper", label, judged_by=protocol, arch="vgg11"), [value] * 5)
        for label, protocol, value in (
            ("MTT w. ours", None, 67.8), ("MTT w. ours", steps, 60.0), ("MTT", steps, 51.0),
        )
    )  # fmt: skip
    column = "CIFAR10 ipc 10 vgg11"

    def shown(protocol, *records):
        document = build(table, "paper", records, protocol=protocol)
        measured = grid(document, "Measured")
        titles = [g.title for g in document.grids if g.title.startswith("Published")]
        numbers = [measured[f"MTT{x}"][column] for x in ("", " w. ours", " gain (measured)")]
        return numbers, titles, writers.markdown(document)

    numbers, titles, text = shown(None, usual, equal, mtt)
    assert numbers == ["not run", "67.8 ± 0.0", "-"]
    assert titles == ["Published"] and "protocol common," in text and steps not in text
    numbers, titles, text = shown(steps, usual, equal, mtt)
    assert numbers == ["51.0 ± 0.0", "60.0 ± 0.0", "+9.0"]
    assert titles == ["Published, judged by other protocols than above: no verdict"]
    assert f"protocol {steps}," in text and "67.8 ± 0.0" not in text
    assert f"not comparable: protocol {steps}, published common" in text
    with pytest.raises(ValueError, match="unknown protocol 'equal'"):
        shown("equal")


def test_rows_of_two_protocols_share_no_column_and_have_no_difference():
    table = tables.load("fashion-mnist")
    document = build(table, "small", [])
    assert {g.title: [row[0] for row in g.rows] for g in document.grids[:2]} == {
        "Measured by protocol dc": ["Random", "Herding", "DC"],
        "Measured by protocol common": ["DSA", "DM"],
    }
    assert all(g.header == ("method", "FashionMNIST ipc 1") for g in document.grids[:2])
    every = grid(build(table, "small", [], protocol="dc"), "Measured")
    assert list(every) == ["Random", "Herding", "DC", "DSA", "DM"]
    values = {"Random": [50.0] * 5, "Herding": [52.0] * 5}
    records = [record_of(entry_of("fashion-mnist", "small", x), values[x]) for x in values]
    random, herding = (cell for cell in collect(table, "small", records) if cell.record)
    (column,) = table.settings("small").columns
    assert gain([random, herding], ("Herding", "Random"), column) == "+2.0"
    other = replace(
        herding, entry=replace(herding.entry, cell=replace(herding.entry.cell, protocol="common"))
    )
    assert gain([random, other], ("Herding", "Random"), column) == "-"


def test_fewer_runs_than_the_table_asks_for_are_said():
    entry = entry_of("table1", "smoke", "NSD", ipc=1)
    (cell,) = [
        cell
        for cell in collect(tables.load("table1"), "smoke", [record_of(entry, [80.0], seeds=1)])
        if cell.record
    ]
    assert (cell.status, cell.reason) == ("measured", "1 x 1 of 3 x 1 runs")


def test_records_of_other_cells_are_not_shown():
    entry = entry_of("table1", "smoke", "NSD", ipc=1)
    for key, value in (
        ("scale", "small"),
        ("protocol", "common-9ep"),
        ("arch", "convnet2-w64"),
        ("dataset", "Digits32"),
    ):
        record = record_of(entry, [80.0], cell=replace(entry.cell, **{key: value}))
        assert all(
            cell.record is None for cell in collect(tables.load("table1"), "smoke", [record])
        )


@pytest.mark.parametrize("what", ["recipe", "protocol"])
def test_records_of_another_recipe_or_protocol_are_shown_but_not_compared(what):
    table = tables.load("table5")
    ours, mtt = (
        record_of(entry_of("table5", "paper", label, dataset="CIFAR10", arch="convnet3-w128"), v)
        for label, v in (("MTT w. ours", [73.8] * 5), ("MTT", [65.3] * 5))
    )
    change = f"its {what} has changed since"

    def shown(ours):
        document = build(table, "paper", [ours, mtt])
        (details,) = [g for g in document.grids if g.title == "Every measured cell"]
        (row,) = [row for row in details.rows if row[0] == "MTT w. ours"]
        gains = grid(document, "Measured")["MTT gain (measured)"]
        notes = [note for note in document.notes if change in note]
        return row[3], row[10], row[11], gains["CIFAR10 ipc 10 convnet3-w128"], notes

    number, difference, verdict, gain, notes = shown(ours)
    assert (verdict, gain, notes) == ("reproduced", "+8.5", [])
    stale = ours.model_copy(update={f"{what}_hash": "another"})
    assert shown(stale)[:4] == (f"{number} (stale)", "-", f"not comparable: {change}", "-")
    (note,) = shown(stale)[4]
    assert "MTT w. ours (CIFAR10 ipc 10 convnet3-w128)" in note


def test_every_cell_has_a_status():
    table = tables.load("table1")
    nsd, mtt = (entry_of("table1", "smoke", label, ipc=1) for label in ("NSD", "MTT"))
    random = entry_of("table1", "smoke", "Random", ipc=1)
    records = [
        record_of(nsd, [80.0]),
        Record.failed(mtt.cell, "diverged", "Diverged: step 3: the loss is nan\nmore"),
        Record.failed(random.cell, "data_missing", "Digits16 is not here"),
    ]
    cells = {(c.entry.row.label, c.entry.cell.ipc): c for c in collect(table, "smoke", records)}
    assert cells["NSD", 1].status == "measured"
    assert cells["NSD", 10].status == "not run"
    assert (cells["MTT", 1].status, cells["MTT", 1].reason) == (
        "failed", "Diverged: step 3: the loss is nan",
    )  # fmt: skip
    assert cells["Random", 1].status == "data missing"
    unknown = {c.entry.row.label for c in cells.values() if c.status == "not implemented"}
    declared = {row.label for row in table.rows if row.method not in methods.names()}
    assert unknown == declared
    document = build(table, "smoke", records)
    shown = grid(document, "Measured")
    assert {text for row in shown.values() for text in row.values()} >= {
        "failed", "data missing", "not run", "80.0",
    }  # fmt: skip
    assert list(shown) == list(dict.fromkeys(row.label for row in table.rows))
    assert any(
        line == "failed: MTT (Digits16 ipc 1) - Diverged: step 3: the loss is nan"
        for line in document.unmeasured
    )


def test_full_data_stands_in_all_columns_of_its_data_set():
    full = entry_of("table1", "smoke", "Full dataset", dataset="Digits16")
    document = build(tables.load("table1"), "smoke", [record_of(full, [97.0, 98.0], budget=None)])
    row = grid(document, "Measured")["Full dataset"]
    protocols_shown = {r[0]: r[1] for r in document.grids[0].rows}
    assert (protocols_shown["Full dataset"], protocols_shown["NSD"]) == (
        full.cell.protocol, "common-150ep",
    )  # fmt: skip
    assert row["Digits16 ipc 1"] == row["Digits16 ipc 10"] == "97.5 ± 0.5"
    (details,) = [g for g in document.grids if g.title == "Every measured cell"]
    assert details.rows[0][:2] == ("Full dataset", "Digits16 full")
    assert details.rows[0][12] == "-"
    assert grid(document, "What every")["Full dataset"]["images"] == "560"


def test_a_set_smaller_than_a_batch_is_a_batch():
    entry = entry_of("table6", "smoke", "MTT", ipc=1)
    small = record_of(entry, [50.0], training={"steps": 151, "num_images": 10}, budget=None)
    (cell,) = [c for c in collect(tables.load("table6"), "smoke", [small]) if c.record]
    assert (cell.record.images, cell.record.batch, cell.record.training.steps) == (10, 10, 151)


def test_gains_are_differences_of_measured_rows():
    table = tables.load("table5")
    at = {"arch": "alexnet"}
    records = [
        record_of(entry_of("table5", "paper", "MTT w. ours", **at), [71.0] * 5),
        record_of(entry_of("table5", "paper", "MTT", **at), [34.5] * 5),
    ]
    document = build(table, "paper", records)
    measured, published = grid(document, "Measured"), grid(document, "Published")
    assert measured["MTT gain (measured)"]["CIFAR10 ipc 10 alexnet"] == "+36.5"
    assert measured["MTT gain (measured)"]["CIFAR10 ipc 10 vgg11"] == "-"
    assert measured["DM gain (measured)"]["CIFAR10 ipc 10 alexnet"] == "-"
    assert published["MTT gain (printed)"]["CIFAR10 ipc 10 ConvNet3"] == "8.5"


def test_inconsistencies_of_the_paper_are_notes():
    notes = {name: "\n".join(tables.load(name).footnotes) for name in tables.names()}
    for name, words in {
        "table1": ["21.3", "ConvNet3 for every column", "width 1024", "SPEED"],
        "table2": ["DCT-IV", "guided loss"],
        "table3": ["37.3", "26.6"],
        "table4": ["8.5, 5.6 and 2.0", "64.3"],
        "table5": ["8.1", "54.1"],
        "table6": ["0.9 %"],
    }.items():
        text = writers.markdown(build(tables.load(name), "paper", []))
        assert all(word in notes[name] and word in text for word in words), name


def test_the_highest_comparable_number_of_a_column_is_the_best():
    """Neither the full data's, nor a stale one, nor that of a set over its budget."""
    table = tables.load("table1")
    over = {"stored_bits": 1001, "limit_bits": 1000}
    records = [
        record_of(entry_of("table1", "smoke", label, **where), values, **changes)
        for label, where, values, changes in (
            ("Random", {"ipc": 1}, [50.04], {}),
            ("NSD", {"ipc": 1}, [50.0], {}),
            ("DC", {"ipc": 1}, [49.9], {}),
            ("HaBa", {"ipc": 1}, [70.0], {"budget": over}),
            ("MTT", {"ipc": 1}, [80.0], {}),
            ("Full dataset", {}, [98.0], {"budget": None}),
            ("NSD", {"ipc": 10}, [90.0], {}),
        )
    ]
    records[4] = records[4].model_copy(update={"protocol_hash": "another"})
    (measured,) = [g for g in build(table, "smoke", records).grids if g.title == "Measured"]
    best = {(measured.rows[row][0], measured.header[column]) for row, column in measured.best}
    assert best == {("Random", "Digits16 ipc 1"), ("NSD", "Digits16 ipc 1")}, "equal as printed"
    (published,) = published_grid(table, "paper", [])
    best = {(published.rows[row][0], published.header[column]) for row, column in published.best}
    assert ("NSD", "CIFAR10 ipc 1") in best
    assert {column for _, column in best} == set(published.header[1:])


def test_reports_read_records_and_tables_and_nothing_else():
    allowed = (
        "nsdbench.report", "nsdbench.bench.tables", "nsdbench.bench.verdict",
        "nsdbench.bench.store", "nsdbench.bench.cell", "nsdbench.bench.record",
            "nsdbench.bench.facts", "nsdbench.bench.comparison", "nsdbench.spread",
        "nsdbench.evaluation.protocols", "nsdbench.errors", "nsdbench.files", "nsdbench.sums",
            "nsdbench.bench.arrays", "nsdbench.bench.figures", "nsdbench.bench.divergence",
        "nsdbench.data.holdout",
    )  # fmt: skip
    for path in Path(nsdbench.report.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            for name in names:
                if name.startswith("nsdbench"):
                    assert name.startswith(allowed), f"{path.name} imports {name}"
