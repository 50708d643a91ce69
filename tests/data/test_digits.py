"""Digits: split, grey levels, enlarging and the constants of the catalog."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from nsdbench import data

NAMES = ["Digits", "Digits16", "Digits32", "Digits64"]


@pytest.mark.parametrize("name", NAMES)
def test_sizes_agree_with_the_spec(name):
    dataset = data.load(name)
    assert dataset.train.images.shape == (1437, *dataset.spec.image_shape)
    assert dataset.test.images.shape == (360, *dataset.spec.image_shape)


@pytest.mark.parametrize("name", NAMES)
def test_constants_are_those_of_the_training_split(name):
    spec, pixels = data.spec(name), data.load(name).train.images.numpy() / 255.0
    assert round(float(pixels.mean()), 4) == spec.mean[0]
    assert round(float(pixels.std()), 4) == spec.std[0]


def test_split_is_stratified_and_complete():
    dataset = data.load("Digits")
    source = load_digits()
    everything = torch.cat([dataset.train.images, dataset.test.images]).flatten(1).tolist()
    grey = np.floor(source.data * 255 / 16 + 0.5).astype(int)
    assert sorted(everything) == sorted(grey.tolist())
    for label, count in enumerate(np.bincount(source.target)):
        share = int((dataset.test.labels == label).sum())
        assert abs(share - 360 * count / 1797) < 1


def test_labels_stay_with_their_images():
    dataset = data.load("Digits")
    source = load_digits()
    rows = {tuple(row): int(label) for row, label in zip(source.data, source.target, strict=True)}
    for part in (dataset.train, dataset.test):
        levels = np.rint(part.images.flatten(1).double().numpy() * 16 / 255)
        assert [rows[tuple(level)] for level in levels] == part.labels.tolist()


def test_enlarged_digits_are_the_same_images_in_the_same_order():
    small, large = data.load("Digits"), data.load("Digits16")
    assert torch.equal(small.train.labels, large.train.labels)
    block_mean = large.train.images.double().unfold(2, 2, 2).unfold(3, 2, 2).mean((-1, -2))
    # a 2 x 2 block averages to (a row of) [1, 6, 1] / 8 of the small image on both axes
    inner = small.train.images.double()[:, 0]
    rows = (inner[:, :-2] + 6 * inner[:, 1:-1] + inner[:, 2:]) / 8
    expected = (rows[:, :, :-2] + 6 * rows[:, :, 1:-1] + rows[:, :, 2:]) / 8
    assert (block_mean[:, 0, 1:-1, 1:-1] - expected).abs().max() <= 0.5  # rounding to uint8


def test_digits_are_not_flipped():
    assert all("flip" not in data.spec(name).dsa_strategy for name in NAMES)
