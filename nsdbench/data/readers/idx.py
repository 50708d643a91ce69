"""The idx files of MNIST and of data sets in its form, compressed as published or unpacked.

Data sets of this form share file names, sizes and headers: nothing but the content tells them
apart.
"""

import gzip
import hashlib
import math
import zlib
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from nsdbench.data.description import DatasetSpec, RemoteFile, Source
from nsdbench.errors import DataCorrupt, DataMissing

if TYPE_CHECKING:
    import numpy as np

    from nsdbench.data.split import Split

FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}


class Published(NamedTuple):
    """A file as published: sha256 of its content, and md5 and bytes of its compressed form."""

    sha256: str
    md5: str
    num_bytes: int


def source(
    base: str,
    published: Mapping[str, Published],
    *,
    folders: tuple[str, ...],
    note: str,
    system_folders: tuple[Path, ...] = (),
) -> Source:
    """Describe how a data set of this form gets from disk into memory.

    Args:
        base: address of its files, up to their names.
        published: its files by name, without the ending of compressed ones.
        folders, note, system_folders: as of `Source`.
    """
    compressed = tuple(f"{name}.gz" for name in published)
    return Source(
        partial(read, checksums={name: file.sha256 for name, file in published.items()}),
        layout=", ".join(compressed),
        folders=folders,
        markers=(compressed, tuple(published)),
        system_folders=system_folders,
        downloads=tuple(
            RemoteFile(f"{base}{name}.gz", f"md5:{file.md5}", file.num_bytes)
            for name, file in published.items()
        ),
        note=note,
    )


def read(folder: Path, spec: DatasetSpec, part: str, checksums: Mapping[str, str]) -> "Split":
    """Read one split from a folder of idx files.

    Args:
        folder: holds the four files, each as NAME.gz or NAME.
        spec: expected sizes and number of classes.
        part: "train" or "test".
        checksums: sha256 of the unpacked content by file name; files not in it are not compared.

    Raises:
        DataMissing: a file is not in the folder.
        DataCorrupt: a file is truncated, has another header than announced, other counts than the
            spec, labels out of range, or the content of another dataset.
    """
    import torch

    from nsdbench.data.split import Split

    images_name, labels_name = FILES[part]
    channels, height, width = spec.image_shape
    count = spec.size(part)
    images, _ = _read_idx(folder, images_name, (count, height, width), checksums)
    labels, labels_path = _read_idx(folder, labels_name, (count,), checksums)
    if labels.max() >= spec.num_classes:
        raise DataCorrupt(
            f"{labels_path}: expected labels 0..{spec.num_classes - 1}, got {labels.max()}"
        )
    return Split(
        torch.from_numpy(images.reshape(count, channels, height, width)),
        torch.from_numpy(labels).long(),
    )


def _read_idx(
    folder: Path, name: str, shape: tuple[int, ...], checksums: Mapping[str, str]
) -> "tuple[np.ndarray, Path]":
    """Read one idx file of unsigned bytes and compare its header with the expected shape."""
    import numpy as np

    path = next((p for p in (folder / f"{name}.gz", folder / name) if p.is_file()), None)
    if path is None:
        raise DataMissing(f"{folder}: neither {name}.gz nor {name} is there")
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataCorrupt(
            f"{path}: expected a complete gzip file, got one that fails to unpack ({error}); "
            "delete it and fetch it again"
        ) from error

    # idx: two zero bytes, the type (8 = unsigned byte), the number of dimensions, then each
    # dimension as a big-endian 32-bit integer.
    magic = bytes([0, 0, 8, len(shape)])
    if content[:4] != magic:
        raise DataCorrupt(
            f"{path}: expected the idx header {magic.hex()} (unsigned bytes, {len(shape)} "
            f"dimensions), got {content[:4].hex() or 'an empty file'}"
        )
    start = 4 + 4 * len(shape)
    got = tuple(int.from_bytes(content[i : i + 4], "big") for i in range(4, start, 4))
    if got != shape:
        raise DataCorrupt(f"{path}: expected an array of shape {shape}, the header says {got}")
    if len(content) != start + math.prod(shape):
        raise DataCorrupt(
            f"{path}: expected {start + math.prod(shape)} bytes for shape {shape}, got "
            f"{len(content)}; delete it and fetch it again"
        )
    if name in checksums and hashlib.sha256(content).hexdigest() != checksums[name]:
        raise DataCorrupt(
            f"{path}: the format is right but the content is not that of the published file "
            f"(sha256 {hashlib.sha256(content).hexdigest()}, expected {checksums[name]}); MNIST "
            "and FashionMNIST have files of the same names and sizes"
        )
    return np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape).copy(), path
