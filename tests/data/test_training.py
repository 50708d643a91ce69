"""The training split in network-input space."""

import pytest
import torch

from nsdbench import data
from nsdbench.data import training
from nsdbench.data.training import TrainingData
from nsdbench.seeding import generator


@pytest.fixture
def dataset(tmp_path, monkeypatch):
    monkeypatch.setenv("NSDBENCH_CACHE", str(tmp_path))
    return data.load("synthetic:3x1x8x8").without_test()


@pytest.mark.parametrize("kind", ["standardise", "zca"])
@pytest.mark.parametrize("whitened_at_once", [0, 2**28])
def test_batches_are_preprocessed_rows(dataset, monkeypatch, kind, whitened_at_once):
    monkeypatch.setattr(training, "_WHITENED_AT_ONCE", whitened_at_once)
    transform = data.preprocessing(kind, dataset)
    real = TrainingData(dataset, transform)
    index = torch.tensor([5, 0, 5, 100])
    images, labels = real.batch(index)
    expected = transform.apply(dataset.train.images)[index]
    torch.testing.assert_close(images, expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(labels, dataset.train.labels[index])


def test_draws(dataset):
    real = TrainingData(dataset, data.preprocessing("standardise", dataset))
    rows = real.class_rows(2, 7, generator(0, "rows"))
    assert len(torch.unique(rows)) == 7 and (real.labels[rows] == 2).all()
    assert len(real.sample(10**6, generator(0, "all"))[0]) == len(real)
    with pytest.raises(ValueError, match="class 2 has .*lower ipc"):
        real.class_rows(2, 10**6, generator(0, "rows"))


def test_pixel_std_is_of_network_inputs(dataset):
    transform = data.preprocessing("standardise", dataset)
    expected = transform.apply(dataset.train.images).double().std()
    assert TrainingData(dataset, transform).pixel_std() == pytest.approx(float(expected), rel=1e-6)
