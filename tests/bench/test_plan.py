"""Plans: what is to do, what is done, what stands in the way, and what it will cost."""

from dataclasses import replace
from math import prod

import pytest

from nsdbench import data, methods
from nsdbench.bench import plan, tables
from nsdbench.bench.cell import Cell
from nsdbench.bench.cost import Work, estimate, network_size
from nsdbench.bench.record import Record
from nsdbench.bench.store import Store
from nsdbench.bench.tables.where import parse_where
from nsdbench.data.fetching import lookup
from nsdbench.errors import DataMissing
from nsdbench.evaluation import protocols
from nsdbench.experts import Run
from nsdbench.sets import parameterizations, priors
from nsdbench.spread import summary

TABLE = """
name = "{name}"
title = "Mine"
source = "nobody"
[[rows]]
label = "Random"
family = "coreset"
method = "random"
[[rows]]
label = "Dream"
family = "ours"
method = "dream"
[[rows]]
label = "Full"
family = "full"
method = "full"
[scales.smoke]
protocol = "common-10ep"
full_protocol = "full-2ep"
seeds = {seeds}
repeats = 2
columns = [
    {{ dataset = "Digits16", ipc = 1, arch = "convnet2-w8" }},
    {{ dataset = "Digits16", ipc = 10, arch = "convnet2-w8" }},
]
[scales.paper]
protocol = "common"
full_protocol = "full-2ep"
seeds = 1
repeats = 5
columns = [
    {{ dataset = "CIFAR10", ipc = 1, arch = "convnet3-w128" }},
    {{ dataset = "ImageNette", ipc = 1, arch = "convnet5-w128" }},
]
"""


def make_plan(results, names, scale, data_root=None, **choice):
    return plan.make(plan.Choice(names, scale, **choice), Run(results, data_root))


@pytest.fixture
def store(tmp_path, monkeypatch, undescribed):
    """Declare the tables mine and yours, hide all data, and return an empty store."""
    for name, seeds in (("mine", 3), ("yours", 4)):
        (tmp_path / f"{name}.toml").write_text(TABLE.format(name=name, seeds=seeds))
    monkeypatch.setenv(tables.FOLDERS_VARIABLE, str(tmp_path))
    monkeypatch.setenv("NSDBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NSDBENCH_OFFLINE", "1")
    monkeypatch.delenv("NSDBENCH_DATA", raising=False)
    return Store(tmp_path / "results")


def done_record(planned, **changes):
    asked = {"recipe_hash": planned.task.recipe.hash, "protocol_hash": planned.task.protocol.hash}
    return Record.done(
        planned.cell,
        **asked | {"seeds": planned.seeds} | changes,
        repeats=planned.repeats,
        accuracy=summary([[50.0]]),
    )


def statuses(made):
    return {planned.cell.id: planned.status for planned in made.cells}


def test_cells_and_their_statuses(store):
    made = make_plan(store.results, ["mine"], "smoke")
    assert statuses(made) == {
        "Digits16-ipc1-random-convnet2-w8-common-10ep": "todo",
        "Digits16-ipc10-random-convnet2-w8-common-10ep": "todo",
        "Digits16-ipc1-dream-convnet2-w8-common-10ep": "not implemented",
        "Digits16-ipc10-dream-convnet2-w8-common-10ep": "not implemented",
        "Digits16-full-full-convnet2-w8-full-2ep": "todo",
    }
    first = made.cells[0]
    assert first.cell == Cell("Digits16", 1, "random", "convnet2-w8", "common-10ep", "smoke")
    assert first.task.recipe.hash == methods.resolve("random", "Digits16", 1, "smoke").hash
    assert first.task.protocol.hash == protocols.get("common-10ep").hash


def test_cells_that_tables_share_are_planned_once_with_the_larger_counts(store):
    made = make_plan(store.results, ["mine", "yours"], "smoke")
    assert len(made.cells) == 5
    assert made.cells[0].tables == ("mine", "yours")
    assert (made.cells[0].seeds, made.cells[0].repeats) == (4, 2)
    assert make_plan(store.results, ["mine"], "smoke", seeds=7).cells[0].seeds == 7


def test_done_cells_and_why_others_are_measured_again(store):
    first = make_plan(store.results, ["mine"], "smoke").cells[0]

    def planned_after(record):
        store.write(record)
        return make_plan(store.results, ["mine"], "smoke").cells[0]

    assert planned_after(done_record(first)).status == "done"
    for changes, reason in (
        ({"recipe_hash": "other"}, "its recipe has changed since"),
        ({"protocol_hash": "other"}, "its protocol has changed since"),
        ({"seeds": 2}, "has 2 x 2 runs"),
    ):
        again = planned_after(done_record(first, **changes))
        assert (again.status, again.reason) == ("todo", reason)
    again = planned_after(Record.failed(first.cell, "error", "broke\nin two"))
    assert (again.status, again.reason) == ("todo", "failed before: broke")


def test_what_is_tried_again(store):
    """A plan keeps the cells that are asked for; what diverged is to do, and starts anew."""
    first = make_plan(store.results, ["mine"], "smoke").cells[0]
    ran = {"iterations": 40, "curve": tuple((i, 1.0 + i) for i in range(40))}
    missing = Record.failed(first.cell, "data_missing", "nowhere")
    for record, former in (
        (missing, ()),
        (done_record(first), ()),
        (Record.failed(first.cell, "memory", "killed"), ("failed",)),
        (Record.failed(first.cell, "diverged", "nan"), ("failed", "diverged")),
        (done_record(first, recipe_hash="other"), ("stale",)),
        (done_record(first, recipe_hash="other", distillation=ran), ("stale",)),
        (done_record(first, distillation=ran), ("diverged",)),
    ):
        store.path("smoke", first.cell.id).unlink(missing_ok=True)
        store.write(record)
        for kind in plan.RETRY_KINDS:
            made = make_plan(store.results, ["mine"], "smoke", retry=(kind,))
            (planned,) = (x for x in made.cells if x.cell == first.cell)
            assert planned.former == former
            assert made.retried((kind,)).cells == ((planned,) if kind in former else ())
            assert planned.starts_anew == (kind == "diverged" and "diverged" in former)
            is_done = record.failure is None and former in ((), ("diverged",))
            assert (planned.status == "done") == (is_done and not planned.starts_anew)
    assert planned.reason.startswith("diverged?: its loss ended at")
    assert made.retried(()) == made
    with pytest.raises(ValueError, match="--retry 'stal': expected .*; did you mean stale?"):
        plan.Choice(["mine"], retry=("stal",))


def test_a_damaged_record_is_a_warning_and_not_done(store):
    first = make_plan(store.results, ["mine"], "smoke").cells[0]
    path = store.write(done_record(first))
    path.write_text(path.read_text()[:50])
    made = make_plan(store.results, ["mine"], "smoke")
    assert made.cells[0].status == "todo"
    assert len(made.warnings) == 1 and str(path) in made.warnings[0]


def test_filters(store):
    def ids(*conditions):
        where = parse_where(conditions)
        return [p.cell.id for p in make_plan(store.results, ["mine"], "smoke", where=where).cells]

    assert len(ids("method=random")) == 2
    assert ids("method=random,ipc=10") == ["Digits16-ipc10-random-convnet2-w8-common-10ep"]
    assert ids("method=random", "ipc=10") == ids("method=random,ipc=10")
    assert len(ids("ipc=1|10")) == 4
    assert ids("ipc=0") == ["Digits16-full-full-convnet2-w8-full-2ep"]


def test_a_comma_in_a_value_is_one_of_it():
    """As in the path of a user's file or folder, and in a list of a variant."""
    text = (
        "dataset=folder:/a,b/c@16,arch=x, y.py:Net|convnet3-w8,method=nsd+optimiser.a=[1,2],ipc=1"
    )
    assert parse_where([f"{text},"]) == {
        "dataset": ["folder:/a,b/c@16"],
        "arch": ["x, y.py:Net", "convnet3-w8"],
        "method": ["nsd+optimiser.a=[1,2]"],
        "ipc": ["1"],
    }


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("colour=red", "expected key=value with a key of dataset, ipc, method, arch, protocol"),
        ("ipc", "expected key=value"),
        ("ipc=", "expected key=value"),
        ("ipc=1,icp=1", "--where 'icp=1': expected key=value"),
        ("ipc=1,random", "--where ipc=1,random matches no cell; ipc is one of 1, 10, 0"),
        ("ipc=3", "--where ipc=3 matches no cell; ipc is one of 1, 10, 0"),
        ("method=random|magic", "method=magic matches no cell; method is one of random, dream"),
    ],
)
def test_filters_that_select_nothing_name_what_there_is(store, condition, message):
    with pytest.raises(ValueError, match=message):
        make_plan(store.results, ["mine"], "smoke", where=parse_where([condition]))


def test_missing_data_blocks_its_cells_only_and_names_all_ways(store):
    made = make_plan(store.results, ["mine"], "paper")
    assert made.missing_data() == ["CIFAR10", "ImageNette"]
    assert [p.status for p in made.cells].count("data missing") == 4
    reasons = plan.fetch(made, notify=lambda text: pytest.fail(text))
    for name, reason in reasons.items():
        for way in (name, "--data-root", "NSDBENCH_DATA", "download"):
            assert way in reason


def test_only_what_can_be_downloaded_is_tried_and_only_once(store, monkeypatch):
    monkeypatch.delenv("NSDBENCH_OFFLINE")
    tried = []

    def load(name, root):
        tried.append(name)
        raise DataMissing(f"{name}: the download failed")

    monkeypatch.setattr(data, "load", load)
    said = []
    reasons = plan.fetch(make_plan(store.results, ["mine"], "paper"), notify=said.append)
    assert tried == ["CIFAR10"] and len(said) == 1 and "CIFAR10" in said[0]
    assert reasons["CIFAR10"] == "CIFAR10: the download failed"
    assert "download: not offered" in reasons["ImageNette"]
    assert lookup.is_offline() is False


def test_a_disk_that_is_full_keeps_one_data_set_out(store, monkeypatch):
    monkeypatch.delenv("NSDBENCH_OFFLINE")

    def load(name, root):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(data, "load", load)
    reasons = plan.fetch(make_plan(store.results, ["mine"], "paper"), notify=lambda text: None)
    assert list(reasons) == ["CIFAR10", "ImageNette"]
    assert "[OSError: [Errno 28] No space left on device]" in reasons["CIFAR10"]
    assert "--data-root" in reasons["CIFAR10"]


def test_data_that_is_there_is_found_under_the_given_root(store, tmp_path):
    folder = tmp_path / "data" / "CIFAR10"
    folder.mkdir(parents=True)
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        (folder / name).touch()
    made = make_plan(store.results, ["mine"], "paper", data_root=tmp_path / "data")
    assert made.missing_data() == ["ImageNette"]
    assert [p.cell.dataset for p in made.with_status("todo")] == ["CIFAR10", "CIFAR10"]


def test_unknown_protocol_is_refused(store, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(path.read_text().replace("common-10ep", "usual"))
    with pytest.raises(ValueError, match="unknown protocol 'usual'"):
        make_plan(store.results, ["mine"], "smoke")


def test_convnet_flops_by_hand():
    # ConvNet2 of width 8 on 16 px gray: padding 3 makes 20 px maps, then 10 px, then 5 px
    by_hand = 2 * 9 * 8 * 20 * 20 + 2 * 9 * 8 * 8 * 10 * 10 + 2 * 8 * 5 * 5 * 10
    size = network_size("convnet2-w8", (1, 16, 16), 10)
    assert size.flops == by_hand
    assert size.parameters == (9 * 8 + 8) + (9 * 64 + 8) + 2 * 16 + (200 * 10 + 10)


def test_estimate_of_a_coreset_by_hand():
    recipe = methods.resolve("random", "Digits16", 10, "smoke")
    size = network_size("convnet2-w8", (1, 16, 16), 10)
    cost = estimate(
        recipe, data.spec("Digits16"), 10, "convnet2-w8", protocols.get("common-10ep"), 3, 2
    )
    assert cost.stored_bytes == 4 * 100 * 256 and cost.num_images == 100
    (work,) = cost.work
    assert work.steps == 6 * 11  # 11 epochs of one batch each, 6 networks
    assert work.flops == 66 * 100 * 3 * size.flops
    assert cost.peak_bytes > 4 * 100 * 256


def test_shared_work_is_counted_once(store):
    made = make_plan(store.results, ["mine"], "smoke", where=parse_where(["method=random"]))
    shared = Work("experts", ("experts", 1), 16e10, 0)
    own = [Work("evaluate", (i,), 8e10, 300) for i in range(2)]
    cells = tuple(
        replace(planned, estimate=replace(planned.estimate, work=(shared, own[i])))
        for i, planned in enumerate(made.cells)
    )
    seconds = list(replace(made, cells=cells).seconds(cores=2).values())
    assert seconds == pytest.approx([1.0 + 0.5 + 0.6, 0.5 + 0.6])
    finished = (replace(cells[0], status="done"), cells[1])
    assert list(replace(made, cells=finished).seconds(2)) == [cells[1].cell.id]


OVER_BUDGET = {"haba", "frepo"}  # recipes that declare it


def test_every_shipped_cell_has_an_estimate_within_its_budget(store):
    for name in set(tables.names()) - {"mine", "yours"}:
        for scale in tables.load(name).scales:
            made = make_plan(store.results, [name], scale)
            for planned in made.cells:
                if planned.status == "not implemented" or planned.needs:
                    continue
                assert planned.estimate is not None, (planned.cell.id, planned.reason)
                spec = data.spec(planned.cell.dataset)
                channels, height, width = spec.image_shape
                limit = 4 * planned.cell.ipc * spec.num_classes * channels * height * width
                if planned.cell.ipc:
                    declared = planned.cell.method in OVER_BUDGET
                    assert (planned.estimate.stored_bytes > limit) == declared
                    assert (planned.estimate.excess_ipc is not None) == declared


def test_every_method_can_start_in_every_column_of_every_table():
    """Every class has images, and no more than it has real ones to start.

    Storage is within Eq. 3 unless declared otherwise.

    A class has at least nine tenths of the mean number of images (Digits: 139 of 143.7), and 732 of
    ImageNet (ILSVRC 2012: 732 to 1,300).
    """
    columns = {
        (column.dataset, column.ipc, scale)
        for name in tables.names()
        for scale, settings in tables.load(name).scales.items()
        for column in settings.columns
    }
    assert len(columns) >= 20
    distilling = [name for name in methods.names() if methods.load(name).kind == "distillation"]
    for dataset, ipc, scale in sorted(columns):
        spec = data.spec(dataset)
        fewest = 0.9 * spec.train_size / spec.num_classes if spec.train_size else 732
        for method in distilling:
            where = (method, dataset, ipc, scale)
            settings = methods.resolve(*where).values["parameterization"]
            if priors.lacking(settings):
                continue
            module = parameterizations.build(settings, spec, ipc)
            limit = ipc * spec.num_classes * prod(spec.image_shape)
            is_over = module.ledger().stored_bits > 32 * limit
            assert is_over == (method in OVER_BUDGET), where
            counts = module.labels.bincount(minlength=spec.num_classes)
            assert len(counts) == spec.num_classes and counts.min() >= 1, where
            assert counts.max() <= fewest, where
