"""Artefacts: the file holds exactly what is counted, and comes back as it was."""

import json
import os
import stat

import numpy
import pytest
import safetensors
import torch

from nsdbench import data
from nsdbench.errors import DataCorrupt
from nsdbench.sets import parameterizations
from nsdbench.sets.artefact import Artefact, load_artefact

SPEC = data.spec("Digits16")


def artefact(name="spectral"):
    module = parameterizations.build({"name": name}, SPEC, 2)
    torch.manual_seed(0)
    for parameter in module.parameters():
        parameter.data = torch.randn_like(parameter)
    return Artefact(module, {"method": "nsd", "learned": {"lr": 0.02}})


@pytest.mark.parametrize("name", ["pixels", "spectral"])
def test_round_trip(tmp_path, name):
    written = artefact(name)
    read = load_artefact(written.save(tmp_path / "deep" / "set.safetensors"))
    assert torch.equal(read.images(), written.images())
    assert torch.equal(read.labels(), written.labels())
    assert read.metadata == written.metadata
    assert not any(parameter.requires_grad for parameter in read.parameterization.parameters())
    images, labels = read.dataset().tensors
    assert torch.equal(images, written.images()) and torch.equal(labels, written.labels())
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["set.safetensors"]


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_who_may_read_a_file_is_for_the_umask_to_say(tmp_path, mask):
    before = os.umask(mask)
    try:
        path = artefact().save(tmp_path / "set.safetensors")
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask


def test_the_file_stores_what_the_ledger_counts(tmp_path):
    """Bits of the tensors in the file, counted by another reader, equal the ledger's."""
    written = artefact()
    with safetensors.safe_open(written.save(tmp_path / "s.safetensors"), framework="np") as file:
        arrays = [numpy.asarray(file.get_tensor(name)) for name in file.keys()]  # noqa: SIM118
    assert sum(array.nbytes for array in arrays) * 8 == written.ledger().stored_bits


def test_missing_truncated_and_foreign_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load_artefact(tmp_path / "nowhere.safetensors")
    path = artefact().save(tmp_path / "set.safetensors")
    (tmp_path / "short.safetensors").write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataCorrupt, match="short.safetensors"):
        load_artefact(tmp_path / "short.safetensors")
    safetensors.torch.save_file({"x": torch.zeros(2)}, tmp_path / "foreign.safetensors")
    with pytest.raises(DataCorrupt, match="foreign.safetensors.*format is None"):
        load_artefact(tmp_path / "foreign.safetensors")


def header_of(path):
    with safetensors.safe_open(path, framework="pt") as file:
        return file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("format", "nsdbench-artefact-9", "format is"),
        ("parameterization", "5", "is 5; expected an object"),
        ("parameterization", "[1]", "expected an object"),
        ("parameterization", "{", "not valid JSON"),
        ("parameterization", "[" * 100_000, "not valid JSON"),
        ("parameterization", None, "is missing"),
        ("parameterization", "{}", "`name` of the parameterization is None"),
        ("parameterization", {"name": "spectrum"}, "did you mean spectral"),
        ("parameterization", {"name": ["spectral"]}, "expected text"),
        ("parameterization", {"num_spectra": 10**12}, "the file holds"),
        ("parameterization", {"num_spectra": "ten"}, "`num_spectra` is 'ten'"),
        ("parameterization", {"num_spectra": -10}, "at least 1"),
        ("parameterization", {"num_classes": 0}, "at least 1"),
        ("parameterization", {"num_kernel_sets": 2.5}, "`num_kernel_sets` is 2.5"),
        ("parameterization", {"t": [1, 1, 8]}, "parameterization 'spectral'"),
        ("parameterization", {"t": None}, "`t` is None"),
        ("parameterization", {"u": [10**12, 1, 16, 16]}, "the file holds"),
        ("parameterization", {"u": [4, 1, 10**9, 16]}, "at most 4096"),
        ("parameterization", {"learned": [1, 2, 3, 4]}, "parameterization 'spectral'"),
        ("parameterization", {"class_scheme": "rows"}, "`class_scheme` is 'rows'"),
        ("parameterization", {"init_scale": float("nan")}, "init_scale"),
        ("parameterization", {"shape": 3}, "unknown shape; known: name, num_classes"),
        ("metadata", "null", "expected an object"),
        ("metadata", "nonsense", "not valid JSON"),
        ("metadata", None, "is missing"),
        ("metadata", {"learned": {"lr": "fast"}}, "`learned.lr` is 'fast'"),
        ("metadata", {"learned": {"lr": -0.5}}, "`learned.lr` is -0.5"),
        ("metadata", {"learned": {"lr": float("inf")}}, "`learned.lr` is inf"),
        ("metadata", {"learned": [0.1]}, "`learned` is"),
        ("metadata", {"preprocessing": 3}, "`preprocessing` is 3"),
        ("metadata", {"dataset": 3}, "`dataset` is 3"),
        ("metadata", {"commit": "abc"}, "`commit` is 'abc'"),
        ("metadata", {"cost": {"distill": "long"}}, "`cost.distill` is 'long'"),
    ],
)
def test_a_header_that_is_wrong_names_the_file(tmp_path, key, value, message):
    path = artefact().save(tmp_path / "set.safetensors")
    header, tensors = header_of(path)
    if isinstance(value, dict) and value:
        value = json.dumps(json.loads(header[key]) | value)
    header[key] = value
    header = {name: text for name, text in header.items() if text is not None}
    safetensors.torch.save_file(tensors, path, header)
    with pytest.raises(DataCorrupt) as caught:
        load_artefact(path)
    text = str(caught.value)
    assert text.startswith(str(path)) and message in text and "\n" not in text, text


def test_tensors_that_do_not_fit_name_the_file(tmp_path):
    path = artefact().save(tmp_path / "set.safetensors")
    header, tensors = header_of(path)
    spectra = tensors["spectra"]
    for changed in (
        {"spectra": spectra.view(torch.int32)},
        {"spectra": spectra.transpose(0, 1).contiguous()},
        {"spectra": spectra.flatten()},
        {"more": torch.zeros(1)},
        {"more": torch.zeros(0)},
    ):
        safetensors.torch.save_file(tensors | changed, path, header)
        with pytest.raises(DataCorrupt, match="set.safetensors: "):
            load_artefact(path)
