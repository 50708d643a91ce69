"""Hold-outs by name: the same data as `Dataset.holdout`, wherever a data set's name is taken."""

from dataclasses import replace

import pytest
import torch

from nsdbench import data, methods
from nsdbench.bench import tables
from nsdbench.bench.cell import Cell
from nsdbench.bench.facts import Data
from nsdbench.data.description import Source
from nsdbench.data.fetching import lookup
from nsdbench.data.holdout import base_name, holdout_name, parse
from nsdbench.data.readers import synthetic
from nsdbench.errors import DataMissing
from nsdbench.experts import list_buffers
from nsdbench.methods.conditions import Conditions

WHOLE = "synthetic:3x1x8x8@20+4"
NAME = f"{WHOLE}-holdout12-seed5"


@pytest.fixture
def opened(monkeypatch):
    """List the parts of generated data sets that are read."""
    parts = []

    def read(folder, spec, part):
        parts.append(part)
        return synthetic.read(folder, spec, part)

    monkeypatch.setattr("nsdbench.data.loading.source", lambda name: Source(read))
    return parts


def test_a_holdout_by_name_is_the_holdout_of_the_whole(opened):
    held = data.load(NAME)
    same = data.load(WHOLE).holdout(12, 5)
    assert held.name == same.name == NAME == holdout_name(WHOLE, 12, 5)
    assert held.checksum == same.checksum and held.test.checksum == same.test.checksum
    assert held.spec == same.spec == data.spec(NAME)
    assert (held.spec.name, len(held.train), len(held.test)) == (WHOLE, 48, 12)
    assert set(opened) == {"train"}


def test_a_holdout_of_a_holdout_is_one():
    twice = data.load(f"{NAME}-holdout6-seed0")
    same = data.load(WHOLE).holdout(12, 5).holdout(6, 0)
    assert (twice.name, twice.checksum, twice.spec) == (same.name, same.checksum, same.spec)
    assert (len(twice.train), base_name(twice.name)) == (42, WHOLE)


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("FashionMNIST-holdout5000-seed0", ("FashionMNIST", 5000, 0)),
        ("folder:/a/b-c@32-holdout7-seed12", ("folder:/a/b-c@32", 7, 12)),
        ("FashionMNIST", None),
        ("FashionMNIST-holdout5000", None),
        ("FashionMNIST-holdout0-seed0", None),
        ("FashionMNIST-holdout05-seed0", None),  # would be a second name of one data set
        ("FashionMNIST-holdout5-seed01", None),
        ("-holdout5-seed0", None),
    ],
)
def test_names(name, parts):
    assert parse(name) == parts
    assert base_name(name) == (parts[0] if parts else name)


def test_unknown_and_impossible_holdouts_are_refused():
    with pytest.raises(ValueError, match="-holdoutN-seedS at its end, got 'FashionMNIST-h'"):
        data.spec("FashionMNIST-h")
    with pytest.raises(ValueError, match="got 'EMNIST'"):
        data.spec("EMNIST-holdout5-seed0")
    with pytest.raises(ValueError, match="holdout60-seed0: .* has 60 training images"):
        data.spec(f"{WHOLE}-holdout60-seed0")
    assert data.spec("ImageNette-holdout50-seed0").train_size is None  # only the folder knows


def test_the_files_of_a_holdout_are_those_of_the_whole(tmp_path, monkeypatch):
    monkeypatch.setenv("NSDBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NSDBENCH_OFFLINE", "1")
    folder = tmp_path / "CIFAR10" / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    for name in ("test_batch", *(f"data_batch_{i}" for i in range(1, 6))):
        (folder / name).touch()
    name = "CIFAR10-holdout5000-seed0"
    assert data.locate(name, tmp_path) == lookup.locate("CIFAR10", tmp_path) == folder
    assert data.how_to_get(name) == data.how_to_get("CIFAR10")
    with pytest.raises(DataMissing, match=r"^CIFAR10 is not on this machine"):
        data.load(name, tmp_path / "elsewhere")


@pytest.mark.parametrize(("ipc", "scale"), [(1, "small"), (10, "small"), (1, "paper")])
@pytest.mark.parametrize("method", ["nsd", "mtt", "random"])
def test_recipes_are_those_of_the_whole(method, ipc, scale):
    held = methods.resolve(method, "FashionMNIST-holdout5000-seed0", ipc, scale)
    whole = methods.resolve(method, "FashionMNIST", ipc, scale)
    assert (held.values, held.hash) == (whole.values, whole.hash)
    if method == "nsd":  # its sizes are those the file gives for FashionMNIST
        assert held.values["parameterization"]["t1"] == {1: 3, 10: 37}[ipc]


@pytest.mark.parametrize("method", methods.names())
@pytest.mark.parametrize("scale", ["small", "paper"])
@pytest.mark.parametrize("ipc", [1, 10])
def test_recipes_of_a_copy_are_those_of_what_it_stands_for(method, scale, ipc):
    whole = methods.resolve(method, "CIFAR10", ipc, scale)
    for name in ("CIFAR10-JPEG", "CIFAR10-JPEG-holdout5000-seed0", "folder:/no/where@32=CIFAR10"):
        copy = methods.resolve(method, name, ipc, scale)
        assert (copy.values, copy.hash) == (whole.values, whole.hash)


def test_conditions_may_name_the_copy():
    of_copy, of_whole = (Conditions(dataset=[name]) for name in ("CIFAR10-JPEG", "CIFAR10"))
    for held in ("CIFAR10-JPEG", "CIFAR10-JPEG-holdout5-seed0"):
        assert of_copy.hold(scale="small", dataset=held, ipc=1)
        assert of_whole.hold(scale="small", dataset=held, ipc=1)
    assert not of_copy.hold(scale="small", dataset="CIFAR10", ipc=1)
    assert not of_whole.hold(scale="small", dataset="folder:/no/where=CIFAR100", ipc=1)


def test_a_cell_on_a_holdout_sees_training_data_alone(tmp_path, tiny_methods, opened, measure_cell):
    cell = Cell(NAME, 4, "tiny-nsd", "convnet1-w8", "common-2ep", "smoke")
    record = measure_cell(cell, tmp_path)
    assert record.status == "done", record.failure
    assert set(opened) == {"train"}
    held = data.load(NAME)
    assert record.data == Data(checksum=held.checksum, test_checksum=held.test.checksum)
    assert cell.id.startswith("synthetic_3x1x8x8_20_4-holdout12-seed5~")
    measure_cell(replace(cell, dataset=WHOLE), tmp_path)
    buffers = list_buffers()
    assert {buffer["dataset"] for buffer in buffers} == {NAME, WHOLE}, "experts were shared"
    manifests = [buffer["path"] / "manifest.json" for buffer in buffers]
    assert sum(held.checksum in manifest.read_text() for manifest in manifests) == 1
    seen = {row.tobytes() for row in held.train.images.flatten(1).numpy()}
    assert not any(row.tobytes() in seen for row in held.test.images.flatten(1).numpy())
    assert torch.equal(held.train.labels.bincount(), torch.tensor([16, 16, 16]))


def test_tables_may_have_holdouts_as_columns(tmp_path, monkeypatch):
    monkeypatch.setenv(tables.FOLDERS_VARIABLE, str(tmp_path))
    (tmp_path / "tuning.toml").write_text(
        f"""
name = "tuning"
title = "t"
source = "s"
published = "table1.csv"
[[rows]]
label = "NSD"
family = "ours"
method = "nsd"
[scales.small]
protocol = "common-2ep"
seeds = 1
repeats = 1
columns = [
    {{ dataset = "{NAME}", ipc = 1, arch = "convnet1-w8" }},
    {{ dataset = "CIFAR10-holdout5000-seed0", ipc = 1, arch = "convnet3-w128" }},
]
"""
    )
    first, second = tables.load("tuning").entries("small")
    assert first.recipe.hash == methods.resolve("nsd", WHOLE, 1, "small").hash
    assert second.recipe.hash == methods.resolve("nsd", "CIFAR10", 1, "small").hash
    assert second.published is None, "a number printed for the test split is not the hold-out's"
