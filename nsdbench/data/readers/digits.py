"""Digits: 1,797 real 8x8 scans that ship inside scikit-learn; a first run downloads nothing."""

from pathlib import Path
from typing import TYPE_CHECKING

from nsdbench.data.description import DSA_WITHOUT_FLIP, DatasetSpec, Source, convnet_depth

if TYPE_CHECKING:
    from nsdbench.data.split import Split

TRAIN_SIZE, TEST_SIZE = 1437, 360
SPLIT_SEED = 0

# Side in pixels; mean and standard deviation of the pixels of the training digits after enlarging
# and rounding. Computed by us, and recomputed by a test.
_SIDE_MEAN_STD = {
    "Digits": (8, 0.3054, 0.3759),
    "Digits16": (16, 0.3054, 0.3186),
    "Digits32": (32, 0.3054, 0.3235),
    "Digits64": (64, 0.3054, 0.3247),
}


def read(folder: Path, spec: DatasetSpec, part: str) -> "Split":
    """Read one split of the digits, enlarged to the size of the spec.

    Grey levels 0..16 become round(x * 255 / 16); the enlarging to 16, 32 or 64 pixels is bilinear
    and rounds to whole grey levels once. The split is stratified, 1,437 / 360, seed 0.

    Args:
        folder: unused; the data is inside scikit-learn.
        spec: of Digits, Digits16, Digits32 or Digits64.
        part: "train" or "test".
    """
    import numpy as np
    import torch
    from sklearn.datasets import load_digits

    from nsdbench.data.formats.resize import resize_to_uint8
    from nsdbench.data.split import Split, stratified_split

    digits = load_digits()
    grey = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    labels = torch.from_numpy(digits.target.astype(np.int64))
    train, test = stratified_split(labels, TEST_SIZE, SPLIT_SEED)
    rows = {"train": train, "test": test}[part]
    _, height, width = spec.image_shape
    images = resize_to_uint8(torch.from_numpy(grey)[rows, None], height, width)
    return Split(images, labels[rows])


DATASETS = {
    DatasetSpec(
        name=name,
        image_shape=(1, side, side),
        num_classes=10,
        train_size=TRAIN_SIZE,
        test_size=TEST_SIZE,
        mean=(mean,),
        std=(std,),
        dsa_strategy=DSA_WITHOUT_FLIP,
        default_depth=convnet_depth(side),
        source="UCI optical recognition of handwritten digits (its test part, 1,797 images), "
        "shipped inside scikit-learn; stratified split and constants are ours",
    ): Source(read)
    for name, (side, mean, std) in _SIDE_MEAN_STD.items()
}
