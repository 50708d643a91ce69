"""CIFAR10 and CIFAR100: both published formats, byte for byte, and damaged files."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nsdbench import data
from nsdbench.data.readers import cifar
from nsdbench.errors import DataCorrupt

from .test_safe_pickle import python2_pickle

PER_CLASS = {10: (5, 2), 100: (1, 1)}


def spec_of(classes: int):
    train, test = PER_CLASS[classes]
    return replace(
        data.spec(f"CIFAR{classes}"), train_size=train * classes, test_size=test * classes
    )


def arrays(classes: int, part: str) -> tuple[np.ndarray, np.ndarray]:
    per_class = PER_CLASS[classes][("train", "test").index(part)]
    random = np.random.default_rng(len(part))
    labels = random.permutation(np.repeat(np.arange(classes), per_class)).astype(np.uint8)
    return random.integers(0, 256, (len(labels), 3072), dtype=np.uint8), labels


def write(folder: Path, classes: int, version: str) -> None:
    names = {"python": cifar.PYTHON_FILES, "binary": cifar.BINARY_FILES}[version][classes]
    for part, files in names.items():
        pixels, labels = arrays(classes, part)
        chunks = zip(np.split(pixels, len(files)), np.split(labels, len(files)), strict=True)
        for name, (rows, classes_of_rows) in zip(files, chunks, strict=True):
            (folder / name).write_bytes(encode(classes, version, rows, classes_of_rows))


def encode(classes: int, version: str, pixels: np.ndarray, labels: np.ndarray) -> bytes:
    if version == "binary":
        coarse = [labels[:, None] // 5] if classes == 100 else []
        return np.concatenate([*coarse, labels[:, None], pixels], axis=1).tobytes()
    fields = {"batch_label": "training batch 1 of 5", "data": pixels, "filenames": []}
    if classes == 10:
        return python2_pickle(fields | {"labels": labels.tolist()})
    coarse = (labels // 5).tolist()
    return python2_pickle(fields | {"fine_labels": labels.tolist(), "coarse_labels": coarse})


def read(folder: Path, classes: int, part: str):
    return cifar.read(folder, spec_of(classes), part, checksums={})


@pytest.mark.parametrize("version", ["python", "binary"])
@pytest.mark.parametrize("classes", [10, 100])
@pytest.mark.parametrize("part", ["train", "test"])
def test_reads_what_was_written(tmp_path, classes, version, part):
    write(tmp_path, classes, version)
    pixels, labels = arrays(classes, part)
    split = read(tmp_path, classes, part)
    assert np.array_equal(split.labels.numpy(), labels)
    # a row is 1,024 red, then green, then blue values, each row by row
    assert np.array_equal(split.images.numpy(), pixels.reshape(-1, 3, 32, 32))


@pytest.mark.parametrize("classes", [10, 100])
def test_published_checksum_is_compared(tmp_path, classes):
    write(tmp_path, classes, "python")
    name = cifar.PYTHON_FILES[classes]["train"][-1]
    with pytest.raises(
        DataCorrupt, match=rf"expected md5 {cifar.FILE_MD5[classes][name]}"
    ) as error:
        checksums = {name: cifar.FILE_MD5[classes][name]}
        cifar.read(tmp_path, spec_of(classes), "train", checksums)
    assert str(tmp_path / name) in str(error.value)
    md5 = hashlib.md5((tmp_path / name).read_bytes()).hexdigest()
    assert cifar.read(tmp_path, spec_of(classes), "train", {name: md5})


def test_every_published_batch_has_a_checksum():
    for classes, parts in cifar.PYTHON_FILES.items():
        assert set(cifar.FILE_MD5[classes]) == {name for files in parts.values() for name in files}


@pytest.mark.parametrize("version", ["python", "binary"])
def test_truncated_file(tmp_path, version):
    write(tmp_path, 10, version)
    name = {"python": "data_batch_3", "binary": "data_batch_3.bin"}[version]
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[:-1])
    with pytest.raises(DataCorrupt) as error:
        read(tmp_path, 10, "train")
    assert str(tmp_path / name) in str(error.value)


def test_missing_batch(tmp_path):
    write(tmp_path, 10, "python")
    (tmp_path / "data_batch_5").unlink()
    with pytest.raises(DataCorrupt, match="data_batch_5: .* absent"):
        read(tmp_path, 10, "train")


def overwritten(folder: Path, classes: int, **changes: object) -> None:
    pixels, labels = arrays(classes, "test")
    name = {10: "labels", 100: "fine_labels"}[classes]
    fields = {"data": pixels, name: labels.tolist()} | changes
    (folder / cifar.PYTHON_FILES[classes]["test"][0]).write_bytes(python2_pickle(fields))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": [1] * 19}, "expected 20 labels, got 19"),
        ({"labels": "abc"}, "expected a list of whole numbers under 'labels'"),
        ({"labels": [10] + [1] * 19}, r"expected labels 0\.\.9, got 1\.\.10"),
        ({"labels": [1] * 20}, "expected 2 test images of every class, got 0 to 20"),
        ({"data": np.zeros((19, 3072), np.uint8)}, r"shape \(20, 3072\), got \(19, 3072\)"),
        ({"data": np.zeros((20, 784), np.uint8)}, r"shape \(20, 3072\), got \(20, 784\)"),
        ({"data": [1, 2]}, r"shape \(20, 3072\), got list"),
    ],
)
def test_wrong_content(tmp_path, changes, message):
    write(tmp_path, 10, "python")
    overwritten(tmp_path, 10, **changes)
    with pytest.raises(DataCorrupt, match=message) as error:
        read(tmp_path, 10, "test")
    assert str(tmp_path) in str(error.value)
    assert len(read(tmp_path, 10, "train")) == 50


def test_cifar10_batches_are_not_taken_for_cifar100(tmp_path):
    write(tmp_path, 10, "python")
    (tmp_path / "test_batch").rename(tmp_path / "test")
    with pytest.raises(DataCorrupt, match=r"test: expected data of shape|fine_labels"):
        read(tmp_path, 100, "test")


def test_wrong_label_byte_in_the_binary_version(tmp_path):
    write(tmp_path, 100, "binary")
    content = bytearray((tmp_path / "test.bin").read_bytes())
    content[1] = 100  # the fine label of the first record
    (tmp_path / "test.bin").write_bytes(content)
    with pytest.raises(DataCorrupt, match=r"test\.bin: expected labels 0\.\.99, got 0\.\.100"):
        read(tmp_path, 100, "test")
