"""SVHN: MATLAB files as published, and every way they can be wrong."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.io import savemat

from nsdbench import data
from nsdbench.data.readers import svhn
from nsdbench.errors import DataCorrupt

SPEC = replace(data.spec("SVHN"), image_shape=(3, 4, 5), train_size=7, test_size=3)


def write(folder, part="train", **changes):
    """Write a file as SVHN has it: X [height, width, channels, N], y [N, 1] from 1 to 10."""
    random = np.random.default_rng(0)
    count = SPEC.size(part)
    arrays = {
        "X": random.integers(0, 256, (4, 5, 3, count), dtype=np.uint8),
        "y": (np.arange(count, dtype=np.uint8)[:, None] + 4) % 10 + 1,
    } | changes
    savemat(folder / svhn.FILES[part], arrays, do_compression=True)
    return arrays


@pytest.mark.parametrize("part", ["train", "test"])
def test_reads_what_was_written_and_ten_is_zero(tmp_path, part):
    arrays = write(tmp_path, part)
    split = svhn.read(tmp_path, SPEC, part, checksums={})
    for n in range(SPEC.size(part)):
        assert np.array_equal(split.images[n].permute(1, 2, 0).numpy(), arrays["X"][..., n])
    assert split.labels.tolist() == [5, 6, 7, 8, 9, 0, 1][: SPEC.size(part)]
    assert (10 in arrays["y"]) == (part == "train")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"X": np.zeros((4, 5, 3, 6), np.uint8)},
            r"X of unsigned bytes \(4, 5, 3, 7\), got ui",
        ),
        ({"X": np.zeros((5, 4, 3, 7), np.uint8)}, r"got uint8 \(5, 4, 3, 7\)"),
        ({"X": np.zeros((4, 5, 3, 7))}, r"got float64 \(4, 5, 3, 7\)"),
        ({"y": np.full((6, 1), 1, np.uint8)}, r"expected y of unsigned bytes \(7, 1\)"),
        ({"y": np.full((7, 1), 11, np.uint8)}, "expected labels 1..10, got 11..11"),
        ({"y": np.full((7, 1), 0, np.uint8)}, "expected labels 1..10, got 0..0"),
    ],
)
def test_other_arrays(tmp_path, changes, message):
    write(tmp_path, **changes)
    with pytest.raises(DataCorrupt, match=message) as refused:
        svhn.read(tmp_path, SPEC, "train", checksums={})
    assert "\n" not in str(refused.value) and "train_32x32.mat" in str(refused.value)


def test_an_absent_array(tmp_path):
    savemat(tmp_path / "train_32x32.mat", {"z": np.zeros(3)})
    with pytest.raises(DataCorrupt, match="expected X of unsigned bytes .* got none"):
        svhn.read(tmp_path, SPEC, "train", checksums={})


def test_damage_is_said_in_a_line(tmp_path):
    file = tmp_path / "train_32x32.mat"
    with pytest.raises(DataCorrupt, match="expected train_32x32.mat and test_32x32.mat in"):
        svhn.read(tmp_path, SPEC, "train")
    write(tmp_path)
    with pytest.raises(DataCorrupt, match="truncated or altered: expected md5 e26dedcc434d"):
        svhn.read(tmp_path, SPEC, "train")
    whole = file.read_bytes()
    damaged = [b"", b"<html>404</html>" * 20, b"MATLAB 7.3 MAT-file" + bytes(500)]
    damaged += [whole[:size] for size in range(20, len(whole), 20)]
    for content in damaged:
        file.write_bytes(content)
        with pytest.raises(DataCorrupt, match="train_32x32.mat: expected") as refused:
            svhn.read(tmp_path, SPEC, "train", checksums={})
        assert "\n" not in str(refused.value)
