"""The stand-in: any shape, reproducible, and learnable from train to test."""

import pytest
import torch

from nsdbench import data


@pytest.mark.parametrize(
    "name", ["synthetic:2x1x1x1", "synthetic:7x4x5x9@3+2", "synthetic:10x3x32x32"]
)
def test_shape_and_balance(name):
    dataset = data.load(name)
    classes = dataset.num_classes
    for split, size in (
        (dataset.train, dataset.spec.train_size),
        (dataset.test, dataset.spec.test_size),
    ):
        assert split.images.shape == (size, *dataset.image_shape)
        assert split.labels.bincount(minlength=classes).tolist() == [size // classes] * classes


def test_sizes_in_the_name():
    assert (
        data.spec("synthetic:5x1x8x8@7+2").train_size,
        data.spec("synthetic:5x1x8x8@7+2").test_size,
    ) == (35, 10)
    assert data.spec("synthetic:10x3x32x32").image_shape == (3, 32, 32)


@pytest.mark.parametrize(
    "name",
    [
        "synthetic:",
        "synthetic:10x3x32",
        "synthetic:0x3x8x8",
        "synthetic:2x1x8x8@0+1",
        "synthetic:2x1x8x8@5",
    ],
)
def test_malformed_name(name):
    with pytest.raises(ValueError, match="synthetic:CLASSESxCHANNELSxHEIGHTxWIDTH"):
        data.spec(name)


def test_same_name_same_data_other_name_other_data():
    one, again = data.load("synthetic:3x1x8x8"), data.load("synthetic:3x1x8x8")
    assert one.checksum == again.checksum and one.test.checksum == again.test.checksum
    assert one.train.checksum != one.test.checksum
    assert one.checksum != data.load("synthetic:3x1x8x9").checksum


def test_class_means_of_train_classify_test():
    dataset = data.load("synthetic:10x3x16x16")
    train, test = dataset.train, dataset.test
    means = torch.stack([train.images[train.labels == c].double().mean(0) for c in range(10)])
    distance = torch.cdist(test.images.double().flatten(1), means.flatten(1))
    assert (distance.argmin(1) == test.labels).double().mean() > 0.9
    # and it is not trivial: images of one class differ
    assert train.images[train.labels == 0].double().std(0).mean() > 20
