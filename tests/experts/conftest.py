"""The data set that the tests record experts on."""

import pytest

from nsdbench import data
from tests.experts.recorded import DATASET


@pytest.fixture
def dataset():
    return data.load(DATASET)
