"""idx files as published, compressed or not, and every way they can be wrong."""

import gzip
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from nsdbench import data
from nsdbench.data import catalog
from nsdbench.data.readers import idx as reader
from nsdbench.errors import DataCorrupt, DataMissing

SPEC = replace(data.spec("FashionMNIST"), image_shape=(1, 3, 2), train_size=12, test_size=5)
DEBIAN = Path("/usr/share/datasets/fashion-mnist")


def idx(array: np.ndarray) -> bytes:
    """Bytes of an idx file: magic 0 0 8 ndim, big-endian sizes, then the data."""
    return struct.pack(f">HBB{array.ndim}i", 0, 8, array.ndim, *array.shape) + array.tobytes()


def write(folder: Path, *, is_compressed: bool = True) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    arrays = {}
    for part, count in (("train", 12), ("test", 5)):
        images, labels = reader.FILES[part]
        arrays[images] = random.integers(0, 256, (count, 3, 2), dtype=np.uint8)
        arrays[labels] = random.integers(0, 10, count, dtype=np.uint8)
    for name, array in arrays.items():
        content = idx(array)
        if is_compressed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / name).write_bytes(content)
    return arrays


def read(folder: Path, part: str):
    return reader.read(folder, SPEC, part, checksums={})


@pytest.mark.parametrize("is_compressed", [True, False])
@pytest.mark.parametrize("part", ["train", "test"])
def test_reads_what_was_written(tmp_path, part, is_compressed):
    arrays = write(tmp_path, is_compressed=is_compressed)
    images, labels = (arrays[name] for name in reader.FILES[part])
    split = read(tmp_path, part)
    assert np.array_equal(split.images.numpy(), images[:, None])
    assert np.array_equal(split.labels.numpy(), labels)


def test_missing_file_is_named(tmp_path):
    write(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte.gz").unlink()
    assert len(read(tmp_path, "train")) == 12
    with pytest.raises(DataMissing, match=r"t10k-labels-idx1-ubyte"):
        read(tmp_path, "test")


IMAGES, LABELS = reader.FILES["train"]


def replaced(folder: Path, name: str, content: bytes) -> None:
    (folder / f"{name}.gz").write_bytes(gzip.compress(content))


def test_truncated_gzip(tmp_path):
    write(tmp_path)
    file = tmp_path / f"{IMAGES}.gz"
    file.write_bytes(file.read_bytes()[:-12])
    with pytest.raises(DataCorrupt, match=rf"{IMAGES}\.gz: expected a complete gzip file"):
        read(tmp_path, "train")


def test_altered_gzip(tmp_path):
    write(tmp_path)
    file = tmp_path / f"{IMAGES}.gz"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(content)
    with pytest.raises(DataCorrupt, match=rf"{IMAGES}\.gz"):
        read(tmp_path, "train")


def test_not_gzip_at_all(tmp_path):
    write(tmp_path)
    (tmp_path / f"{IMAGES}.gz").write_text("<html>404</html>")
    with pytest.raises(DataCorrupt, match="expected a complete gzip file"):
        read(tmp_path, "train")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "got an empty file"),
        (b"\0\0\x0d\x03" + bytes(100), "idx header 00000803 .* got 00000d03"),
        (idx(np.zeros((12, 2, 3), np.uint8)), r"shape \(12, 3, 2\), the header says \(12, 2, 3\)"),
        (idx(np.zeros((11, 3, 2), np.uint8)), r"shape \(12, 3, 2\), the header says \(11, 3, 2\)"),
        (idx(np.zeros((12, 3, 2), np.uint8))[:-1], "expected 88 bytes .* got 87"),
        (idx(np.zeros((12, 3, 2), np.uint8)) + b"\0", "expected 88 bytes .* got 89"),
        (b"\0\0\x08\x03\0\0", r"the header says"),
    ],
)
def test_wrong_image_file(tmp_path, content, message):
    write(tmp_path)
    replaced(tmp_path, IMAGES, content)
    with pytest.raises(DataCorrupt, match=message) as caught:
        read(tmp_path, "train")
    assert str(tmp_path / f"{IMAGES}.gz") in str(caught.value)


def test_label_out_of_range(tmp_path):
    write(tmp_path)
    replaced(tmp_path, LABELS, idx(np.full(12, 10, np.uint8)))
    with pytest.raises(DataCorrupt, match=rf"{LABELS}\.gz: expected labels 0..9, got 10"):
        read(tmp_path, "train")


@pytest.mark.parametrize("name", ["MNIST", "FashionMNIST"])
def test_files_of_another_data_set_in_the_same_format(tmp_path, name):
    write(tmp_path)
    _, source = catalog.DATASETS[name]
    with pytest.raises(DataCorrupt, match="not that of the published file .* FashionMNIST have"):
        source.read(tmp_path, SPEC, "train")


@pytest.mark.skipif(not DEBIAN.is_dir(), reason="Debian's dataset-fashion-mnist is not installed")
def test_published_files():
    dataset = data.load("FashionMNIST")
    assert dataset.train.images.shape == (60_000, 1, 28, 28)
    assert dataset.train.labels.bincount().tolist() == [6_000] * 10
    assert dataset.test.labels.bincount().tolist() == [1_000] * 10
    assert dataset.train.labels[:3].tolist() == [9, 0, 0]  # ankle boot, two T-shirts
    levels = torch.zeros(256, dtype=torch.int64)
    for images in dataset.train.images.split(10_000):
        levels += images.flatten().bincount(minlength=256)
    share, grey = levels.double() / levels.sum(), torch.arange(256).double() / 255
    mean = float(share @ grey)
    std = float((share @ grey**2 - mean**2).sqrt())
    # the literature's constants, whose fourth digit is not rounded everywhere
    assert abs(mean - dataset.spec.mean[0]) < 1e-4 and abs(std - dataset.spec.std[0]) < 1e-4
