"""Artefacts: the file holds exactly what is counted, and comes back as it was."""

import numpy
import pytest
import safetensors
import torch

from nsdbench import data
from nsdbench.errors import DataCorrupt
from nsdbench.sets import parameterizations
from nsdbench.sets.artefact import Artefact, load_artefact
from nsdbench.sets.foreign import load_tensors

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


def test_reads_sets_of_other_projects(tmp_path):
    images, labels = torch.randn(6, 3, 8, 8), torch.arange(6)
    torch.save(images, tmp_path / "images_best.pt")
    torch.save(labels, tmp_path / "labels_best.pt")
    torch.save((images, labels), tmp_path / "pair.pt")
    soft = labels.float()[:, None].expand(6, 4)
    torch.save({"images": images, "labels": soft}, tmp_path / "d.pt")
    for arguments in ([tmp_path / "images_best.pt", tmp_path / "labels_best.pt"],
                      [tmp_path / "pair.pt"]):  # fmt: skip
        read_images, read_labels = load_tensors(*arguments)
        assert torch.equal(read_images, images) and torch.equal(read_labels, labels)
    assert load_tensors(tmp_path / "d.pt")[1].shape == (6, 4)
    with pytest.raises(DataCorrupt, match="file of labels"):
        load_tensors(tmp_path / "images_best.pt")
    torch.save((images, labels[:4]), tmp_path / "wrong.pt")
    with pytest.raises(DataCorrupt, match="6 images but 4 labels"):
        load_tensors(tmp_path / "wrong.pt")


def test_does_not_execute_what_a_file_carries(tmp_path):
    class Harmful:
        def __reduce__(self):
            return (open, (str(tmp_path / "executed"), "w"))

    torch.save(Harmful(), tmp_path / "harmful.pt")
    with pytest.raises(DataCorrupt, match="harmful.pt"):
        load_tensors(tmp_path / "harmful.pt")
    assert not (tmp_path / "executed").exists()
