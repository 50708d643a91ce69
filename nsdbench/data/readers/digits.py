"""Digits: 1,797 real 8x8 scans that ship inside scikit-learn; a first run downloads nothing."""

from pathlib import Path

import numpy as np
import torch

from nsdbench.data.catalog import DatasetSpec
from nsdbench.data.dataset import Split, stratified_split
from nsdbench.data.readers.resize import resize_to_uint8

TEST_SIZE = 360
SPLIT_SEED = 0


def read(folder: Path | None, spec: DatasetSpec, part: str) -> Split:
    """Read one split of the digits, enlarged to the size of the spec.

    Grey levels 0..16 become round(x * 255 / 16); the enlarging to 16, 32 or 64 pixels is bilinear
    and rounds to whole grey levels once. The split is stratified, 1,437 / 360, seed 0.

    Args:
        folder: unused; the data is inside scikit-learn.
        spec: of Digits, Digits16, Digits32 or Digits64.
        part: "train" or "test".
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    grey = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    labels = torch.from_numpy(digits.target.astype(np.int64))
    train, test = stratified_split(labels, TEST_SIZE, SPLIT_SEED)
    rows = {"train": train, "test": test}[part]
    _, height, width = spec.image_shape
    images = resize_to_uint8(torch.from_numpy(grey)[rows, None], height, width)
    return Split(images, labels[rows])
