"""FashionMNIST in its four idx files, compressed as published or already unpacked."""

import gzip
import hashlib
import math
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from nsdbench.data.description import DSA_WITH_FLIP, DatasetSpec, RemoteFile, Source
from nsdbench.errors import DataCorrupt, DataMissing

if TYPE_CHECKING:
    import numpy as np

    from nsdbench.data.split import Split

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
) -> "Split":
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
    import torch

    from nsdbench.data.split import Split

    checksums = CONTENT_SHA256 if checksums is None else checksums
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
    folder: Path, name: str, shape: tuple[int, ...], checksums: dict[str, str]
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


_BASE = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
# md5 and bytes of NAME.gz: readme of zalandoresearch/fashion-mnist
_PUBLISHED = {
    "train-images-idx3-ubyte": ("8d4fb7e6c68d591d4c3dfef9ec88bf0d", 26_421_880),
    "train-labels-idx1-ubyte": ("25c81989df183df01b3e8a0aad5dffbe", 29_515),
    "t10k-images-idx3-ubyte": ("bef4ecab320f06d8554ea6380940ec79", 4_422_102),
    "t10k-labels-idx1-ubyte": ("bb300cfdad3c16e7a12a480ee83cd310", 5_148),
}
_NAMES = tuple(_PUBLISHED)

DATASETS = {
    DatasetSpec(
        name="FashionMNIST",
        image_shape=(1, 28, 28),
        num_classes=10,
        train_size=60_000,
        test_size=10_000,
        mean=(0.2861,),
        std=(0.3530,),
        dsa_strategy=DSA_WITH_FLIP,
        default_depth=3,
        is_downloadable=True,
        source="Xiao et al., arXiv 1708.07747; constants: DC reference code",
    ): Source(
        read,
        layout=", ".join(f"{name}.gz" for name in _NAMES),
        folders=("FashionMNIST", "FashionMNIST/raw", "fashion-mnist", "."),
        markers=(tuple(f"{name}.gz" for name in _NAMES), _NAMES),
        system_folders=(Path("/usr/share/datasets/fashion-mnist"),),
        downloads=tuple(
            RemoteFile(f"{_BASE}{name}.gz", f"md5:{md5}", num_bytes)
            for name, (md5, num_bytes) in _PUBLISHED.items()
        ),
        note="Debian and Ubuntu have it as a package: apt install dataset-fashion-mnist",
    )
}
