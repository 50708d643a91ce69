"""FashionMNIST in its four idx files, compressed as published or already unpacked."""

import gzip
import hashlib
import math
import zlib
from pathlib import Path

import numpy as np
import torch

from nsdbench.data.catalog import DatasetSpec
from nsdbench.data.dataset import Split
from nsdbench.errors import DataCorrupt, DataMissing

FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}

# sha256 of the unpacked files. MNIST uses the same file names, sizes and headers, so nothing but
# the content tells the two apart. Taken from Debian's files, which differ from the published ones
# only in the gzip header: with file name and time put back they have the published md5 sums.
CONTENT_SHA256 = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}


def read(
    folder: Path, spec: DatasetSpec, part: str, checksums: dict[str, str] | None = None
) -> Split:
    """Read one split from a folder of idx files.

    Args:
        folder: holds the four files, each as NAME.gz or NAME.
        spec: expected sizes and number of classes.
        part: "train" or "test".
        checksums: sha256 of the unpacked content by file name; files not in it are not compared.
            Default: those of FashionMNIST.

    Raises:
        DataMissing: a file is not in the folder.
        DataCorrupt: a file is truncated, has another header than announced, other counts than the
            spec, labels out of range, or the content of another dataset.
    """
    checksums = CONTENT_SHA256 if checksums is None else checksums
    images_name, labels_name = FILES[part]
    channels, height, width = spec.image_shape
    count = spec.train_size if part == "train" else spec.test_size
    images, _ = _read_idx(folder, images_name, (count, height, width), checksums)
    labels, labels_path = _read_idx(folder, labels_name, (count,), checksums)
    if labels.max() >= spec.num_classes:
        raise DataCorrupt(
            f"{labels_path}: expected labels 0..{spec.num_classes - 1}, got {labels.max()}"
        )
    return Split(
        torch.from_numpy(images.reshape(count, channels, height, width)),
        torch.from_numpy(labels.astype(np.int64)),
    )


def _read_idx(
    folder: Path, name: str, shape: tuple[int, ...], checksums: dict[str, str]
) -> tuple[np.ndarray, Path]:
    """Read one idx file of unsigned bytes and compare its header with the expected shape."""
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
            "has files of the same name and size"
        )
    return np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape).copy(), path
