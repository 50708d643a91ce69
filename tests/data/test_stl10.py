"""STL-10: bytes without a header, columns before rows, and every way they can be wrong."""

from dataclasses import replace

import numpy as np
import pytest

from nsdbench import data
from nsdbench.data.readers import stl10
from nsdbench.errors import DataCorrupt

SPEC = replace(data.spec("STL10"), image_shape=(3, 4, 5), train_size=6, test_size=3)


def write(folder):
    """Write the four files; returns the images [N, C, H, W] and labels of each part."""
    random = np.random.default_rng(0)
    parts = {}
    for part, (pixels, labels) in stl10.FILES.items():
        count = SPEC.size(part)
        images = random.integers(0, 256, (count, 3, 4, 5), dtype=np.uint8)
        images.swapaxes(2, 3).tofile(folder / pixels)  # column after column
        (np.arange(count, dtype=np.uint8) % 10 + 1).tofile(folder / labels)
        parts[part] = images, np.arange(count) % 10
    return parts


def test_reads_what_was_written(tmp_path):
    for part, (images, labels) in write(tmp_path).items():
        split = stl10.read(tmp_path, SPEC, part, checksums={})
        assert np.array_equal(split.images.numpy(), images)
        assert np.array_equal(split.labels.numpy(), labels)


def test_the_first_bytes_are_the_first_column_of_red(tmp_path):
    """The layout of the file, by hand: 4 red pixels of the column on the left come first."""
    write(tmp_path)
    first = (tmp_path / "train_X.bin").read_bytes()[:4]
    split = stl10.read(tmp_path, SPEC, "train", checksums={})
    assert split.images[0, 0, :, 0].tolist() == list(first)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train_X.bin", b"", r"expected 360 bytes for shape \(6, 3, 5, 4\), got 0; delete it"),
        ("train_X.bin", bytes(361), "got 361"),
        ("train_y.bin", bytes(5), r"expected 6 bytes for shape \(6,\), got 5"),
        ("train_y.bin", bytes(6), "expected labels 1..10, got 0..0"),
        ("train_y.bin", bytes([11] * 6), "expected labels 1..10, got 11..11"),
    ],
)
def test_wrong_files(tmp_path, name, content, message):
    write(tmp_path)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataCorrupt, match=f"{name}: {message}|{name}: expected .*{message}"):
        stl10.read(tmp_path, SPEC, "train", checksums={})


def test_absent_and_altered_files(tmp_path):
    write(tmp_path)
    with pytest.raises(DataCorrupt, match="train_X.bin: altered: expected md5 918c2871b30a"):
        stl10.read(tmp_path, SPEC, "train")
    (tmp_path / "train_X.bin").unlink()
    with pytest.raises(DataCorrupt, match="train_X.bin: expected train_X.bin, .* is absent"):
        stl10.read(tmp_path, SPEC, "train", checksums={})


def test_its_spec():
    spec = data.spec("STL10")
    assert spec.image_shape == (3, 96, 96) and spec.default_depth == 5  # 3 px after five halvings
    assert spec.train_size + spec.test_size == 13_000 and len(spec.classes) == 10
