"""CIFAR10 and CIFAR100, from the python batches or from the binary version."""

import hashlib
import math
from pathlib import Path
from typing import TYPE_CHECKING

from nsdbench.data.description import DSA_WITH_FLIP, DatasetSpec, RemoteFile, Source
from nsdbench.errors import DataCorrupt

if TYPE_CHECKING:
    import numpy as np

    from nsdbench.data.split import Split

# By number of classes: file names of both versions.
PYTHON_FILES: dict[int, dict[str, tuple[str, ...]]] = {
    10: {"train": tuple(f"data_batch_{i}" for i in range(1, 6)), "test": ("test_batch",)},
    100: {"train": ("train",), "test": ("test",)},
}
BINARY_FILES: dict[int, dict[str, tuple[str, ...]]] = {
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
) -> "Split":
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
    import numpy as np
    import torch

    from nsdbench.data.split import Split

    checksums = FILE_MD5[spec.num_classes] if checksums is None else checksums
    names = PYTHON_FILES[spec.num_classes][part]
    is_python = (folder / names[0]).is_file()
    if not is_python:
        names = BINARY_FILES[spec.num_classes][part]
    size = spec.size(part)
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


def _read_python(path: Path, spec: DatasetSpec, count: int) -> "tuple[np.ndarray, np.ndarray]":
    """Read one pickled batch: uint8 [count, C*H*W] and int64 [count]."""
    import numpy as np

    from nsdbench.data.formats import safe_pickle

    batch = safe_pickle.load(path)
    key = PYTHON_LABEL_KEYS[spec.num_classes]
    pixels, labels = batch.get(b"data"), batch.get(key)
    floats = math.prod(spec.image_shape)
    if not isinstance(pixels, np.ndarray) or pixels.shape != (count, floats):
        got = pixels.shape if isinstance(pixels, np.ndarray) else type(pixels).__name__
        raise DataCorrupt(f"{path}: expected data of shape ({count}, {floats}), got {got}")
    if not isinstance(labels, list) or not all(isinstance(n, int) for n in labels):
        raise DataCorrupt(f"{path}: expected a list of whole numbers under {key.decode()!r}")
    if len(labels) != count:
        raise DataCorrupt(f"{path}: expected {count} labels, got {len(labels)}")
    return pixels, np.array(labels, dtype=np.int64)


def _read_binary(path: Path, spec: DatasetSpec, count: int) -> "tuple[np.ndarray, np.ndarray]":
    """Read one file of records <label bytes><C*H*W pixel bytes>."""
    import numpy as np

    before = BINARY_LABEL_BYTES[spec.num_classes]
    record = before + math.prod(spec.image_shape)
    content = np.frombuffer(path.read_bytes(), dtype=np.uint8)
    if content.size != count * record:
        raise DataCorrupt(
            f"{path}: expected {count * record} bytes ({count} records of {record}), got "
            f"{content.size}; delete it and fetch it again"
        )
    records = content.reshape(count, record)
    return records[:, before:], records[:, before - 1].astype(np.int64)


# The std is the mean over images of each image's own std, as the literature uses it; the std over
# all pixels would be about 0.247. MTT and its family reuse the constants of CIFAR10 for CIFAR100;
# DC, DSA and DM have its own (utils.py of their code), of all pixels.
_MEAN, _STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
_DC_STATISTICS = {100: ((0.5071, 0.4866, 0.4409), (0.2673, 0.2564, 0.2762))}
_CLASSES = {
    10: (
        "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
    ),
}  # fmt: skip


def _spec(num_classes: int, constants: str) -> DatasetSpec:
    return DatasetSpec(
        name=f"CIFAR{num_classes}",
        image_shape=(3, 32, 32),
        num_classes=num_classes,
        train_size=50_000,
        test_size=10_000,
        mean=_MEAN,
        std=_STD,
        dsa_strategy=DSA_WITH_FLIP,
        default_depth=3,
        is_downloadable=True,
        source=f"Krizhevsky 2009; constants: {constants}",
        classes=_CLASSES.get(num_classes, ()),
        dc_statistics=_DC_STATISTICS.get(num_classes),
    )


def _source(num_classes: int, md5: str, num_bytes: int) -> Source:
    stem = f"cifar-{num_classes}"
    name = f"CIFAR{num_classes}"
    python_folder = f"{stem}-batches-py" if num_classes == 10 else f"{stem}-python"
    binary_folder = f"{stem}-batches-bin" if num_classes == 10 else f"{stem}-binary"
    python_files, binary_files = (
        (*files[num_classes]["train"], *files[num_classes]["test"])
        for files in (PYTHON_FILES, BINARY_FILES)
    )
    url = f"https://www.cs.toronto.edu/~kriz/{stem}-python.tar.gz"
    return Source(
        read,
        layout=f"{', '.join(python_files)} (python version), or "
        f"{', '.join(binary_files)} (binary version)",
        folders=(
            name, f"{name}/{python_folder}", f"{name}/{binary_folder}", python_folder,
            binary_folder, ".",
        ),
        markers=(python_files, binary_files),
        downloads=(RemoteFile(url, f"md5:{md5}", num_bytes),),
        note=f"the folder {python_folder} or {binary_folder} as unpacked, or the archive "
        f"{stem}-python.tar.gz itself, will do as well",
    )  # fmt: skip


CIFAR10 = _spec(10, "DC and MTT reference code")

# md5 sums: www.cs.toronto.edu/~kriz/cifar.html
DATASETS = {
    CIFAR10: _source(10, "c58f30108f718f92721af3b95e74349a", 170_498_071),
    _spec(
        100, "those of CIFAR10, as in the MTT reference code; standardise_dc has its own"
    ): _source(100, "eb9058c3a382ffc7106e4002c42a8d85", 169_001_437),
}
