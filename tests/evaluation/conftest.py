"""The data set that these tests judge on, and a set of its training images."""

import pytest
import torch

from nsdbench import data


@pytest.fixture(scope="module")
def dataset():
    """Three classes of one grey channel, 8x8."""
    return data.load("synthetic:3x1x8x8")


@pytest.fixture
def tensors(dataset):
    """Four images of each class as network inputs, and their classes."""
    split = dataset.train
    rows = torch.cat([torch.nonzero(split.labels == c).flatten()[:4] for c in range(3)])
    return data.preprocessing("standardise", dataset).apply(split.images[rows]), split.labels[rows]
