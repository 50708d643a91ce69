"""CIFAR10 and CIFAR100, from the python batches or from the binary version."""

import hashlib
from pathlib import Path

import numpy as np
import torch

from nsdbench.data.catalog import DatasetSpec
from nsdbench.data.dataset import Split
from nsdbench.data.readers import safe_pickle
from nsdbench.errors import DataCorrupt

# By number of classes: file names of both versions.
PYTHON_FILES = {
    10: {"train": tuple(f"data_batch_{i}" for i in range(1, 6)), "test": ("test_batch",)},
    100: {"train": ("train",), "test": ("test",)},
}
BINARY_FILES = {
    10: {"train": tuple(f"data_batch_{i}.bin" for i in range(1, 6)), "test": ("test_batch.bin",)},
    100: {"train": ("train.bin",), "test": ("test.bin",)},
}
# Each record of the binary version starts with its labels: CIFAR100 has the coarse one first.
BINARY_LABEL_BYTES = {10: 1, 100: 2}
PYTHON_LABEL_KEYS = {10: b"labels", 100: b"fine_labels"}

# torchvision, datasets/cifar.py. None are published for the files of the binary version.
FILE_MD5 = {
    10: {
        "data_batch_1": "c99cafc152244af753f735de768cd75f",
        "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
        "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
        "data_batch_4": "634d18415352ddfa80567beed471001a",
        "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
        "test_batch": "40351d587109b95175f43aff81a1287e",
    },
    100: {
        "train": "16019d7e3df5f24257cddd939b257f8d",
        "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
    },
}


def read(
    folder: Path, spec: DatasetSpec, part: str, checksums: dict[str, str] | None = None
) -> Split:
    """Read one split, from python batches if they are there, else from the binary version.

    Args:
        folder: holds the batches.
        spec: of CIFAR10 or CIFAR100; expected sizes and number of classes.
        part: "train" or "test".
        checksums: md5 by file name; files not in it are not compared. Default: the published ones.

    Raises:
        DataCorrupt: a file is absent, truncated, altered, asks for code instead of data, has
            another number of images than expected, labels out of range or classes out of balance.
    """
    checksums = FILE_MD5[spec.num_classes] if checksums is None else checksums
    names = PYTHON_FILES[spec.num_classes][part]
    is_python = (folder / names[0]).is_file()
    if not is_python:
        names = BINARY_FILES[spec.num_classes][part]
    size = spec.train_size if part == "train" else spec.test_size
    per_file = size // len(names)

    images, labels = [], []
    for name in names:
        path = folder / name
        if not path.is_file():
            raise DataCorrupt(
                f"{path}: expected {', '.join(names)} in {folder}, this one is absent"
            )
        _compare_md5(path, checksums.get(name))
        pixels, classes = (_read_python if is_python else _read_binary)(path, spec, per_file)
        if classes.min() < 0 or classes.max() >= spec.num_classes:
            raise DataCorrupt(
                f"{path}: expected labels 0..{spec.num_classes - 1}, got "
                f"{classes.min()}..{classes.max()}"
            )
        images.append(pixels.reshape(per_file, *spec.image_shape))
        labels.append(classes)
    split = Split(
        torch.from_numpy(np.concatenate(images)), torch.from_numpy(np.concatenate(labels))
    )
    counts = torch.bincount(split.labels, minlength=spec.num_classes)
    if counts.min() != counts.max():
        raise DataCorrupt(
            f"{folder}: expected {size // spec.num_classes} {part} images of every class, got "
            f"{counts.min()} to {counts.max()}"
        )
    return split


def _compare_md5(path: Path, expected: str | None) -> None:
    if expected is None:
        return
    got = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
    if got != expected:
        raise DataCorrupt(
            f"{path}: truncated or altered: expected md5 {expected}, got {got} "
            f"({path.stat().st_size} bytes); delete it and fetch it again"
        )


def _read_python(path: Path, spec: DatasetSpec, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Read one pickled batch: uint8 [count, C*H*W] and int64 [count]."""
    batch = safe_pickle.load(path)
    key = PYTHON_LABEL_KEYS[spec.num_classes]
    pixels, labels = batch.get(b"data"), batch.get(key)
    floats = int(np.prod(spec.image_shape))
    if not isinstance(pixels, np.ndarray) or pixels.shape != (count, floats):
        got = pixels.shape if isinstance(pixels, np.ndarray) else type(pixels).__name__
        raise DataCorrupt(f"{path}: expected data of shape ({count}, {floats}), got {got}")
    if not isinstance(labels, list) or not all(isinstance(n, int) for n in labels):
        raise DataCorrupt(f"{path}: expected a list of whole numbers under {key.decode()!r}")
    if len(labels) != count:
        raise DataCorrupt(f"{path}: expected {count} labels, got {len(labels)}")
    return pixels, np.array(labels, dtype=np.int64)


def _read_binary(path: Path, spec: DatasetSpec, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Read one file of records <label bytes><C*H*W pixel bytes>."""
    before = BINARY_LABEL_BYTES[spec.num_classes]
    record = before + int(np.prod(spec.image_shape))
    content = np.frombuffer(path.read_bytes(), dtype=np.uint8)
    if content.size != count * record:
        raise DataCorrupt(
            f"{path}: expected {count * record} bytes ({count} records of {record}), got "
            f"{content.size}; delete it and fetch it again"
        )
    records = content.reshape(count, record)
    return records[:, before:], records[:, before - 1].astype(np.int64)
