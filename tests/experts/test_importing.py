"""Buffers of MTT's code: read as ours, refused where they do not fit or would do harm."""

import os

import pytest
import torch

from nsdbench import data, experts, models
from nsdbench.errors import DataCorrupt, DataMissing
from tests.experts.recorded import ARCH, DATASET


def replay_buffer(path, num_experts, num_snapshots=3, arch=ARCH, seed=0):
    """Write a file in MTT's format; return its experts."""
    stream = torch.Generator().manual_seed(seed)
    model = models.from_id(arch, in_channels=1, image_size=8, num_classes=3)
    content = [
        [
            [torch.randn(p.shape, generator=stream) for p in model.parameters()]
            for _ in range(num_snapshots)
        ]
        for _ in range(num_experts)
    ]
    torch.save(content, path)
    return content


def import_files(root, files, name="imported", arch=ARCH):
    spec = data.spec(DATASET)
    return experts.import_mtt(
        files, arch_id=arch, spec=spec, preprocessing="standardise", root=root, name=name
    )


@pytest.mark.parametrize("name", ["../../x", "/tmp/x", "", "..", ".x", "a/b", "a b"])
def test_the_name_of_a_buffer_never_leaves_its_folder(tmp_path, name):
    file = tmp_path / "replay_buffer_0.pt"
    replay_buffer(file, 1, seed=0)
    with pytest.raises(ValueError, match="the name of a buffer: .* cannot name a file"):
        import_files(tmp_path / "root", [file], name=name)
    assert list(tmp_path.iterdir()) == [file]


def test_import_of_mtt_buffers(tmp_path):
    files = [tmp_path / f"replay_buffer_{n}.pt" for n in range(2)]
    written = [*replay_buffer(files[0], 2, seed=0), *replay_buffer(files[1], 1, seed=1)]
    found = import_files(tmp_path / "root", files)
    assert (found.num_experts, found.num_epochs) == (3, 2)
    for expert, snapshots in enumerate(written):
        for epoch, tensors in enumerate(snapshots):
            theta = torch.cat([tensor.flatten() for tensor in tensors])
            assert torch.equal(found.snapshot(expert, epoch), theta)
    found.verify()
    assert [file["name"] for file in found.manifest["files"]] == [file.name for file in files]
    assert experts.list_buffers(tmp_path / "root")[0]["kind"] == "imported"
    with pytest.raises(ValueError, match="exists already"):
        import_files(tmp_path / "root", files)


def test_import_refuses_what_does_not_fit(tmp_path):
    file = tmp_path / "replay_buffer_0.pt"
    replay_buffer(file, 1)
    with pytest.raises(ValueError, match=r"features.0.weight is \[4, 1, 3, 3\].*\[8, 1, 3, 3\]"):
        import_files(tmp_path, [file], arch="convnet1-w8")
    with pytest.raises(ValueError, match="snapshot 0 has 6 tensors, the network has 10"):
        import_files(tmp_path, [file], arch="convnet2-w4")
    longer = tmp_path / "replay_buffer_1.pt"
    replay_buffer(longer, 1, num_snapshots=4)
    with pytest.raises(ValueError, match="have 3 to 4 snapshots"):
        import_files(tmp_path, [file, longer])
    with pytest.raises(ValueError, match="files is empty"):
        import_files(tmp_path, [])
    with pytest.raises(DataMissing, match="nowhere.pt does not exist"):
        import_files(tmp_path, [tmp_path / "nowhere.pt"])
    assert not experts.list_buffers(tmp_path)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e300])
def test_import_refuses_numbers_that_are_not_finite(tmp_path, value):
    files = [tmp_path / f"replay_buffer_{n}.pt" for n in range(2)]
    replay_buffer(files[0], 2)
    content = replay_buffer(files[1], 2)
    content[1][2] = [tensor.double() for tensor in content[1][2]]
    content[1][2][0].view(-1)[5] = value
    torch.save(content, files[1])
    where = r"replay_buffer_1.pt, expert 1, snapshot 2: features.0.weight holds numbers that are"
    with pytest.raises(DataCorrupt, match=where):
        import_files(tmp_path, files)
    assert not experts.list_buffers(tmp_path)


class Harmful:
    def __reduce__(self):
        return print, ("code in a pickle was executed",)


class Commanding:
    def __reduce__(self):
        return os.system, ("echo executed",)


TENSOR = torch.zeros(3)


@pytest.mark.parametrize(
    "content",
    [b"", b"garbage", {"a": TENSOR}, [], [[]], [[[1], [2]]], [[TENSOR] * 2], Harmful()]
    + [Commanding()],
)
def test_import_of_what_is_not_a_replay_buffer(tmp_path, content, capfd):
    file = tmp_path / "replay_buffer_0.pt"
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        torch.save(content, file)
    with pytest.raises(DataCorrupt, match="replay_buffer_0.pt") as refused:
        import_files(tmp_path, [file])
    assert "executed" not in capfd.readouterr().out
    assert "weights_only" not in str(refused.value), "torch's advice to load it all the same"
