"""Buffers of experts: segments drawn from them, damage found, what a folder holds."""

import json

import numpy as np
import pytest
import torch

from nsdbench import experts
from nsdbench.errors import DataCorrupt, DataMissing
from nsdbench.experts import buffer, buffer_manifest
from tests.experts.recorded import ARCH, DATASET, Killed, record


def test_segments_are_drawn_uniformly(dataset, tmp_path):
    found = record(tmp_path, dataset)
    stream, counts = torch.Generator().manual_seed(0), np.zeros((2, 2))
    for _ in range(400):
        segment = found.sample(stream, max_start_epoch=2, expert_epochs=2)
        counts[segment.expert, segment.start] += 1
        assert torch.equal(segment.theta_start, found.snapshot(segment.expert, segment.start))
        assert torch.equal(segment.theta_target, found.snapshot(segment.expert, segment.start + 2))
    assert np.abs(counts - 100).max() < 5 * 75**0.5  # binomial: variance 400 / 4 * 3 / 4


def test_segments_beyond_the_last_epoch(dataset, tmp_path):
    found = record(tmp_path, dataset)
    stream = torch.Generator().manual_seed(0)
    found.sample(stream, max_start_epoch=2, expert_epochs=2)
    for start, length in ((3, 2), (2, 3), (0, 1), (1, 0)):
        with pytest.raises(ValueError, match=f"max_start_epoch {start} .* has 3 epochs"):
            found.sample(stream, max_start_epoch=start, expert_epochs=length)
    for expert, epoch in ((2, 0), (0, 4), (-1, 0), (0, -1)):
        with pytest.raises(ValueError, match="holds experts 0...1 and epochs 0...3"):
            found.snapshot(expert, epoch)


def test_the_mapping_is_read_only(dataset, tmp_path):
    found = record(tmp_path, dataset)
    with pytest.raises(ValueError, match="read-only"):
        found._trajectories[0, 0, 0] = 1


def test_unfinished_and_damaged_buffers(dataset, tmp_path):
    with pytest.raises(DataMissing, match="no experts in"):
        experts.ExpertBuffer(tmp_path / "nothing")
    found = record(tmp_path, dataset)
    file, manifest = found.path / buffer.TRAJECTORIES, found.path / buffer_manifest.MANIFEST
    found.verify()
    buffer.write_snapshot(found.path, 1, 3, torch.zeros(found.num_parameters))
    with pytest.raises(DataCorrupt, match="snapshot 3 of expert 1 .* does not match its checksum"):
        experts.ExpertBuffer(found.path).verify()
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(DataCorrupt, match="cannot be read"):
        experts.ExpertBuffer(found.path)
    with open(file, "wb") as stream:
        np.savez(stream, snapshots=np.zeros((2, 4, 5), np.float32))
    with pytest.raises(DataCorrupt, match="cannot be read"):
        experts.ExpertBuffer(found.path)
    np.save(file, np.zeros((2, 4, 5), np.float32))
    with pytest.raises(DataCorrupt, match=r"float32 \[2, 4, 5\], its manifest says"):
        experts.ExpertBuffer(found.path)
    text = manifest.read_text()
    manifest.write_text(text.replace('"complete": true', '"complete": false'))
    with pytest.raises(DataCorrupt, match="its content has changed since it was written"):
        experts.ExpertBuffer(found.path)
    manifest.write_text(text)
    whole = buffer_manifest.read_manifest(found.path)
    buffer_manifest.write_manifest(found.path, {**whole, "complete": False})
    with pytest.raises(DataMissing, match="not finished: run the command"):
        experts.ExpertBuffer(found.path)
    manifest.write_text(text[:100])
    with pytest.raises(DataCorrupt, match="is damaged: not JSON"):
        experts.ExpertBuffer(found.path)
    manifest.write_text(json.dumps({"schema": 99}))
    with pytest.raises(DataCorrupt, match="schema 99, this version reads 1"):
        experts.ExpertBuffer(found.path)


def test_list_buffers(dataset, tmp_path):
    assert experts.list_buffers(tmp_path) == []
    found = record(tmp_path, dataset)

    def stop(phase, done, total):
        if done == 4:
            raise Killed

    with pytest.raises(Killed):
        record(tmp_path, dataset, seed=1, progress=stop)
    listed = {entry["path"]: entry for entry in experts.list_buffers(tmp_path)}
    assert len(listed) == 2
    entry = listed.pop(found.path)
    assert entry["num_bytes"] == 4 * 2 * 4 * found.num_parameters
    assert (entry["kind"], entry["dataset"], entry["arch"]) == ("recorded", DATASET, ARCH)
    assert (entry["num_experts"], entry["num_epochs"]) == (2, 3)
    assert (entry["epochs_done"], entry["complete"]) == (6, True)
    unfinished = next(iter(listed.values()))
    assert (unfinished["epochs_done"], unfinished["complete"]) == (4, False)


def test_default_root_is_the_cache(dataset, tmp_path, monkeypatch):
    monkeypatch.setenv("NSDBENCH_CACHE", str(tmp_path))
    assert record(None, dataset).path.parent == tmp_path / "experts"
