"""A data set of four classes of 3 x 8 x 8 images, and sets of two images a class."""

import pytest
import torch

from nsdbench import data
from nsdbench.sets.formats.registry import read_set
from nsdbench.sets.meaning import Meaning

NAME = "synthetic:4x3x8x8@40+8"


@pytest.fixture(scope="session")
def dataset():
    return data.load(NAME)


@pytest.fixture
def read(dataset, tmp_path):
    """Read files of the folder by name, as a set of the data set."""

    def reader(*names, **said):
        paths = [tmp_path / name for name in names]
        return read_set(*paths, spec=dataset.spec, said=Meaning(**said))

    return reader


@pytest.fixture
def images():
    return torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def labels():
    return torch.arange(4).repeat_interleave(2)
