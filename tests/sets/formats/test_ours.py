"""Artefacts of this package; several files are several sets."""

import pytest
import torch

from nsdbench.data import preprocessing
from nsdbench.data.training import TrainingData
from nsdbench.errors import DataCorrupt
from nsdbench.sets import Artefact, parameterizations


@pytest.fixture
def artefact(dataset, tmp_path):
    module = parameterizations.build({"name": "pixels"}, dataset.spec, 2)
    transform = preprocessing("standardise", dataset)
    module.initialize(TrainingData(dataset, transform), torch.Generator().manual_seed(0))
    made = Artefact(module, {"preprocessing": transform.kind, "preprocessing_hash": transform.hash})
    made.save(tmp_path / "set.safetensors")
    return made


def test_ours(read, tmp_path, artefact):
    reading = read("set.safetensors")
    (one,) = reading.sets
    assert reading.taken_for == "an artefact of nsdbench, parameterization pixels"
    assert torch.equal(one.images(), artefact.images())
    assert len(read("set.safetensors", "set.safetensors").sets) == 2
    (tmp_path / "set.safetensors").rename(tmp_path / "set.pt")  # the content tells, not the name
    assert torch.equal(read("set.pt").sets[0].images(), artefact.images())


def test_labels_beside_and_damage(read, tmp_path, artefact, labels):
    torch.save(labels, tmp_path / "labels.pt")
    with pytest.raises(ValueError, match="set.safetensors holds labels, .*which of the two"):
        read("set.safetensors", "labels.pt")
    content = bytearray((tmp_path / "set.safetensors").read_bytes())
    content[-1] ^= 1
    (tmp_path / "set.safetensors").write_bytes(content)
    with pytest.raises(DataCorrupt, match="set.safetensors"):
        read("set.safetensors")
