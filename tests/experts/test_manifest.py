"""Manifests of experts for version control, against numbers recomputed from the snapshots."""

import hashlib
import json

import numpy as np
import pytest
import torch

from nsdbench import data, experts, models
from nsdbench.errors import DataCorrupt
from nsdbench.experts import buffer as buffers
from nsdbench.experts.buffer_manifest import read_manifest, write_manifest
from nsdbench.experts.manifest import write_expert_manifest

WHOLE = "synthetic:3x1x8x8@20+4"
HELD = f"{WHOLE}-holdout12-seed0"
RECIPE = experts.ExpertRecipe(num_experts=2, epochs=3, batch_size=8, lr=0.05)


def record(root, name):
    dataset = data.load(name)
    preprocessing = data.preprocessing("standardise", dataset)
    return experts.record(dataset, preprocessing, "convnet1-w4", RECIPE, seed=3, root=root)


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def test_a_manifest_holds_all_but_the_parameters(tmp_path, monkeypatch):
    found = record(tmp_path, WHOLE)

    def refuse(*_):
        raise AssertionError("the test split was read")

    monkeypatch.setattr(data.Dataset, "test", property(refuse))
    path = write_expert_manifest(found, tmp_path / "results")
    assert path == tmp_path / "results" / "experts" / f"{found.path.name}.json"
    manifest = read(path)
    content = (found.path / buffers.TRAJECTORIES).read_bytes()
    assert manifest["file"] == {
        "name": "trajectories.npy",
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    assert manifest["recipe"]["epochs"] == 3 and manifest["seed"] == 3
    assert manifest["dataset_checksum"] == data.load(WHOLE).checksum
    for entry in manifest["experts"]:
        assert len(entry["accuracy"]) == len(entry["loss"]) == entry["epochs_done"] == 3
        assert "holdout_accuracy" not in entry
    assert path.stat().st_size < 10_000
    before, told = path.read_bytes(), []
    write_expert_manifest(found, tmp_path / "results", progress=lambda *about: told.append(about))
    assert path.read_bytes() == before and told == [("verify", 1, 2), ("verify", 2, 2)]


def test_experts_of_a_holdout_are_tested_at_every_snapshot(tmp_path):
    found = record(tmp_path, HELD)
    held = data.load(WHOLE).holdout(12, 0)
    inputs = data.preprocessing("standardise", held).apply(held.test.images)
    entries = read(write_expert_manifest(found, tmp_path / "results"))["experts"]
    tested = [entry["holdout_accuracy"] for entry in entries]
    assert [len(values) for values in tested] == [4, 4]
    model = models.from_id("convnet1-w4", in_channels=1, image_size=8, num_classes=3)
    for expert in range(2):
        for epoch in range(4):
            models.load_flat(model, found.snapshot(expert, epoch))
            hits = sum(
                int(model(x[None]).argmax()) == int(y)
                for x, y in zip(inputs, held.test.labels, strict=True)
            )
            assert tested[expert][epoch] == pytest.approx(100 * hits / 12)
    assert len({value for values in tested for value in values}) > 1


def test_changed_snapshots_and_other_data_are_refused(tmp_path):
    found = record(tmp_path, HELD)
    manifest = read_manifest(found.path)
    write_manifest(found.path, {**manifest, "dataset_checksum": "0" * 64})
    with pytest.raises(ValueError, match=r"holdout12-seed0 with the checksum 000000000000, here"):
        write_expert_manifest(experts.ExpertBuffer(found.path), tmp_path)
    write_manifest(found.path, manifest)
    values = np.load(found.path / buffers.TRAJECTORIES)
    buffers.write_snapshot(found.path, 1, 3, torch.from_numpy(values[1, 3] + 1))
    with pytest.raises(DataCorrupt, match="snapshot 3 of expert 1 .* does not match its checksum"):
        write_expert_manifest(experts.ExpertBuffer(found.path), tmp_path)
