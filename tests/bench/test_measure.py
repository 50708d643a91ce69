"""Cells: complete records, failures as records, resumption, shared sets."""

import re

import numpy
import pytest
import torch

from nsdbench import methods
from nsdbench.bench import artefacts
from nsdbench.bench.cell import Cell
from nsdbench.bench.measure import recorded
from nsdbench.bench.plan import Task
from nsdbench.bench.record import Record
from nsdbench.bench.store import Store
from nsdbench.evaluation import Judge, protocols
from nsdbench.experts import Run
from nsdbench.ops.precision import PRECISIONS

NAME = "synthetic:3x1x8x8"


pytestmark = pytest.mark.usefixtures("tiny_methods")


def cell(method="tiny-nsd", ipc=4, arch="convnet1-w8", protocol="common-20ep", dataset=NAME):
    return Cell(dataset, ipc, method, arch, protocol, "smoke")


def test_a_record_is_complete_and_plain_json(tmp_path, measure_cell):
    record = measure_cell(cell(), tmp_path, seeds=2, repeats=2, command="test")
    assert record.status == "done", record.failure
    assert Record.parse(record.text()) == record
    assert re.fullmatch(
        "synthetic_3x1x8x8~[0-9a-f]{16}-ipc4-tiny-nsd-convnet1-w8-common-20ep", record.cell.id
    )
    values = record.accuracy.values
    assert [len(row) for row in values] == [2, 2]
    assert record.accuracy.mean == pytest.approx(numpy.mean(values))
    assert record.accuracy.std == pytest.approx(numpy.std(values))
    assert record.accuracy.n == 4
    stored, limit = record.budget.stored_bits, record.budget.limit_bits
    assert 0 < stored <= limit == 4 * 3 * 64 * 32
    assert sum(tensor.bits for tensor in record.budget.entries) == stored
    assert record.budget.decoded_images == record.training.num_images
    assert record.cost.seconds.keys() == {"experts", "distill", "evaluate"}
    assert record.cost.peak_bytes > 1e6
    assert record.distillation.iterations == 6
    assert record.training.code_path == {"evaluation": "native", "unroll": "native"}
    assert record.provenance.build["native"] is True
    assert len(record.work.commits) == 1
    with numpy.load(Store(tmp_path).images_path("smoke", record.pictures_name)) as pictures:
        assert pictures["images"].dtype == numpy.uint8
        assert pictures["images"].shape[1:] == (1, 8, 8)
        assert len(pictures["images"]) == len(pictures["labels"])


def test_what_ran_away_in_any_set_is_recorded(tmp_path, measure_cell, monkeypatch):
    record = measure_cell(cell(), tmp_path, seeds=3, repeats=1)
    assert record.runaway == "" and "other_runaways" not in record.text()
    moved = record.distillation.images_moved
    monkeypatch.setattr(
        "nsdbench.bench.facts.runaway", lambda curve, far: "" if far == moved else "it ran"
    )
    again = measure_cell(cell(), tmp_path, seeds=3, repeats=1)
    assert again.distillation.other_runaways == {"2": "it ran", "3": "it ran"}
    assert again.runaway == "in set 2 it ran"
    assert Record.parse(again.text()) == again


@pytest.mark.parametrize(("method", "protocol"), [("random", "common-20ep"), ("full", "full-1ep")])
def test_coresets_and_full_data(tmp_path, method, protocol, measure_cell):
    ipc = 0 if method == "full" else 2
    record = measure_cell(cell(method, ipc, protocol=protocol), tmp_path, seeds=1, repeats=2)
    assert record.status == "done", record.failure
    assert record.distillation is None
    if method == "full":
        assert record.budget is None
    else:
        assert record.budget.stored_bits == record.budget.limit_bits
        sets = list((tmp_path / "artefacts").glob("*.safetensors"))
        assert len(sets) == 2, "a set is drawn for every network"
        assert [len(row) for row in record.accuracy.values] == [1, 1]


def test_a_killed_cell_goes_on_and_ends_with_the_same_record(tmp_path, measure_cell):
    options = {"seeds": 2, "repeats": 2, "command": "test"}
    undisturbed = measure_cell(cell(), tmp_path / "a", **options)

    class Killed(BaseException):
        pass

    for kill_at in (("distill", 3), ("evaluate", 1), ("distill", 5), ("evaluate", 3)):

        def kill(phase, done, total, note="", at=kill_at):
            if (phase, done) == at:
                raise Killed

        with pytest.raises(Killed):
            measure_cell(cell(), tmp_path / "b", progress=kill, **options)
    resumed = measure_cell(cell(), tmp_path / "b", **options)
    assert resumed.comparable() == undisturbed.comparable()


def test_finished_networks_are_not_trained_again(tmp_path, monkeypatch, measure_cell):
    first = measure_cell(cell(), tmp_path, seeds=1, repeats=2)
    trained = []
    judged = Judge._judged
    monkeypatch.setattr(
        Judge, "_judged", lambda self, s, g, told: trained.extend(g) or judged(self, s, g, told)
    )
    more = measure_cell(cell(), tmp_path, seeds=1, repeats=3)
    assert trained == [2]
    assert more.accuracy.values[0][:2] == first.accuracy.values[0]


def test_architectures_share_one_distilled_set(tmp_path, monkeypatch, measure_cell):
    calls = []
    distill = artefacts.distill_recipe
    monkeypatch.setattr(artefacts, "distill_recipe", lambda *a: calls.append(a) or distill(*a))
    for arch in ("convnet1-w8", "convnet2-w8"):
        record = measure_cell(cell(arch=arch), tmp_path)
        assert record.status == "done", record.failure
    assert len(calls) == 1
    (pictures,) = (tmp_path / "images" / "smoke").iterdir()
    assert pictures.stem == record.pictures_name


def test_the_pictures_of_a_cell_are_those_of_its_recipe_and_its_first_set(
    tmp_path, tiny_methods, measure_cell
):
    """However many sets a cell has: so cells of one recipe never write other pictures."""
    one = measure_cell(cell(), tmp_path, seeds=1, repeats=1)
    path = Store(tmp_path).images_path("smoke", one.pictures_name)
    with numpy.load(path) as file:
        first = dict(file)
    measure_cell(cell(protocol="common-1ep"), tmp_path, seeds=3, repeats=1)
    with numpy.load(path) as file:
        assert all(numpy.array_equal(first[key], file[key]) for key in first)
    method = tiny_methods / "tiny-nsd.toml"
    method.write_text(method.read_text().replace("lr_syn = ", "lr_syn = 2"))
    other = measure_cell(cell(), tmp_path, seeds=1, repeats=1)
    names = {path.stem for path in (tmp_path / "images" / "smoke").iterdir()}
    assert names == {one.pictures_name, other.pictures_name} and len(names) == 2


def test_the_generic_path_says_so(tmp_path, monkeypatch, measure_cell):
    monkeypatch.setenv("NSDBENCH_NATIVE", "0")
    record = measure_cell(cell(), tmp_path)
    assert record.training.code_path == {"evaluation": "generic", "unroll": "generic"}


def test_another_protocol_does_not_reuse_numbers(tmp_path, measure_cell):
    numbers = [
        measure_cell(cell(protocol=protocol), tmp_path)
        for protocol in ("common-20ep", "common-1ep")
    ]
    assert numbers[0].training.steps != numbers[1].training.steps


@pytest.mark.parametrize(
    ("arguments", "kind", "reason"),
    [
        ({"dataset": "CIFAR10", "method": "mtt", "ipc": 1}, "data_missing", "NSDBENCH_DATA"),
        ({"method": "tiny-greedy"}, "budget", "Eq. 3"),
        ({"arch": "convnet9-w8"}, "error", "image"),
    ],
)
def test_failures_are_records(
    tmp_path, tiny_methods, monkeypatch, arguments, kind, reason, measure_cell
):
    text = (tiny_methods / "tiny-nsd.toml").read_text().replace("tiny-nsd", "tiny-greedy")
    greedy = text.replace("num_kernel_sets = 1", "num_kernel_sets = 1000")
    (tiny_methods / "tiny-greedy.toml").write_text(greedy)
    monkeypatch.setenv("NSDBENCH_OFFLINE", "1")
    record = measure_cell(cell(**arguments), tmp_path)
    assert record.status == "failed"
    assert record.failure.kind == kind
    assert reason in record.failure.reason
    assert record.failure.peak_bytes > 0
    assert Record.parse(record.text()) == record


@pytest.mark.parametrize("protocol", ["common-20ep", "frepo"])
def test_images_that_the_judging_network_cannot_take_are_refused_before_the_work(
    tmp_path, protocol, measure_cell
):
    record = measure_cell(cell(arch="vgg11-w8", protocol=protocol), tmp_path)
    assert "VGG11 needs images of at least 28 px, got 8 px" in record.failure.line
    assert not list(tmp_path.glob("artefacts/*"))


def test_a_diverging_cell_says_so(tmp_path, tiny_methods, measure_cell):
    text = (tiny_methods / "tiny-mtt.toml").read_text().replace("lr_lr = 1e-5", "lr_lr = 1e6")
    (tiny_methods / "tiny-wild.toml").write_text(text.replace("tiny-mtt", "tiny-wild"))
    record = measure_cell(cell("tiny-wild", 2), tmp_path)
    assert record.failure.kind == "diverged"
    assert "step" in record.failure.reason


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_gpu_computes_in_the_precision_that_the_record_keeps(precision, monkeypatch):
    def tell():
        raise ValueError(f"rounds: {torch.backends.cudnn.allow_tf32}")

    task = Task(cell(), methods.resolve("random", "Digits", 1, "smoke"), protocols.get("dc"), 1, 1)
    on_cpu = recorded(task, Run(precision=precision), tell)
    assert '"precision":' not in on_cpu.text() and on_cpu.provenance.precision is None
    monkeypatch.setattr(Run, "has_gpu", True)  # on the CPU, whose numbers are those of every name
    on_gpu = recorded(task, Run(precision=precision), tell)
    assert on_gpu.failure.line == f"ValueError: rounds: {precision == 'tf32'}"
    assert Record.parse(on_gpu.text()).provenance.precision == precision


def test_sets_of_another_precision_are_others(tmp_path, measure_cell, monkeypatch):
    monkeypatch.setattr(Run, "has_gpu", True)
    ours = cell(method="random")
    for precision in PRECISIONS:
        measure_cell(ours, tmp_path, repeats=1, precision=precision)
    names = sorted(path.stem for path in (tmp_path / "artefacts").glob("*.safetensors"))
    assert [name.partition("-seed0")[2] for name in names] == ["-draw0", "-float32-draw0"]
