"""STL-10 in its binary files: 96 px pictures from ImageNet, 500 for training in each class."""

import math
from pathlib import Path
from typing import TYPE_CHECKING

from nsdbench.data.description import (
    DSA_WITH_FLIP,
    IMAGENET_STATISTICS,
    DatasetSpec,
    RemoteFile,
    Source,
    convnet_depth,
)
from nsdbench.data.fetching.archive import is_intact
from nsdbench.errors import DataCorrupt

if TYPE_CHECKING:
    import numpy as np

    from nsdbench.data.split import Split

FILES = {"train": ("train_X.bin", "train_y.bin"), "test": ("test_X.bin", "test_y.bin")}

# torchvision, datasets/stl10.py
FILE_MD5 = {
    "train_X.bin": "918c2871b30a85fa023e0c44e0bee87f",
    "train_y.bin": "5a34089d4802c674881badbb80307741",
    "test_X.bin": "7f263ba9f9e0b06b93213547f721ac82",
    "test_y.bin": "36f9794fa4beb8a2c72628de14fa638e",
}


def read(
    folder: Path, spec: DatasetSpec, part: str, checksums: dict[str, str] | None = None
) -> "Split":
    """Read one split; the unlabelled pictures and the ten folds are not used.

    An image is channels, then columns, then rows of bytes; labels are bytes from 1.

    Args:
        folder: holds train_X.bin, train_y.bin, test_X.bin and test_y.bin.
        spec: expected sizes and number of classes.
        part: "train" or "test".
        checksums: md5 by file name; files not in it are not compared. Default: the published ones.

    Raises:
        DataCorrupt: a file is absent, has another length or content than announced, or labels out
            of range.
    """
    import numpy as np
    import torch

    from nsdbench.data.split import Split

    checksums = FILE_MD5 if checksums is None else checksums
    channels, height, width = spec.image_shape
    count = spec.size(part)
    pixels_name, labels_name = FILES[part]
    pixels = _read_bytes(folder, pixels_name, (count, channels, width, height), checksums)
    labels = _read_bytes(folder, labels_name, (count,), checksums).astype(np.int64)
    if labels.min() < 1 or labels.max() > spec.num_classes:
        raise DataCorrupt(
            f"{folder / labels_name}: expected labels 1..{spec.num_classes}, got "
            f"{labels.min()}..{labels.max()}"
        )
    images = np.ascontiguousarray(pixels.transpose(0, 1, 3, 2))
    return Split(torch.from_numpy(images), torch.from_numpy(labels - 1))


def _read_bytes(
    folder: Path, name: str, shape: tuple[int, ...], checksums: dict[str, str]
) -> "np.ndarray":
    """Read a file of unsigned bytes without a header."""
    import numpy as np

    path = folder / name
    if not path.is_file():
        raise DataCorrupt(f"{path}: expected {', '.join(FILE_MD5)} in {folder}, this one is absent")
    size = path.stat().st_size
    if size != math.prod(shape):
        raise DataCorrupt(
            f"{path}: expected {math.prod(shape)} bytes for shape {shape}, got {size}; delete it "
            "and fetch it again"
        )
    if name in checksums and not is_intact(path, f"md5:{checksums[name]}"):
        raise DataCorrupt(
            f"{path}: altered: expected md5 {checksums[name]}, got another; delete it and fetch it "
            "again"
        )
    return np.fromfile(path, dtype=np.uint8).reshape(shape)


DATASETS = {
    DatasetSpec(
        name="STL10",
        image_shape=(3, 96, 96),
        num_classes=10,
        train_size=5_000,
        test_size=8_000,
        mean=IMAGENET_STATISTICS[0],
        std=IMAGENET_STATISTICS[1],
        dsa_strategy=DSA_WITH_FLIP,
        default_depth=convnet_depth(96),
        is_downloadable=True,
        source="Coates et al. 2011; constants: those of ImageNet, where the pictures are from, our "
        "choice",
        classes=(
            "airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck",
        ),
    ): Source(
        read,
        layout=", ".join(FILE_MD5),
        folders=("STL10", "STL10/stl10_binary", "stl10_binary", "."),
        markers=(tuple(FILE_MD5),),
        downloads=(
            RemoteFile(
                "http://ai.stanford.edu/~acoates/stl10/stl10_binary.tar.gz",
                "md5:91f7769df0f17e558f3565bffb0c7dfb",
                2_640_397_119,
            ),
        ),
        note="the folder stl10_binary as unpacked, or the archive stl10_binary.tar.gz itself, will "
        "do as well",
    )
}  # fmt: skip
