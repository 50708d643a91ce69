"""Standardisation: formula, round trip, inputs, and the choice by name."""

import numpy as np
import pytest
import torch

from nsdbench import data

DATASET = data.load("synthetic:3x3x6x5@20+4")


def test_standardise_is_the_formula():
    chosen = data.preprocessing("standardise", data.load("Digits"))
    images = data.load("Digits").train.images
    mean, std = data.spec("Digits").mean[0], data.spec("Digits").std[0]
    expected = (images.numpy() / 255.0 - mean) / std
    x = chosen.apply(images)
    assert x.dtype == torch.float32
    twin = (images.float() / 255 - torch.tensor(mean)) / torch.tensor(std)
    bound = 2 * np.abs(twin.double().numpy() - expected).max() + 1e-12
    assert np.abs(x.double().numpy() - expected).max() <= bound


def test_standardised_digits_have_mean_0_and_std_1():
    digits = data.load("Digits")
    x = data.preprocessing("standardise", digits).apply(digits.train.images).double()
    # the constants have four digits
    assert abs(float(x.mean())) < 1e-3 and abs(float(x.std()) - 1) < 1e-3


def test_channels_have_their_own_constants():
    rgb = data.Dataset(data.spec("CIFAR10"), DATASET.train, lambda: DATASET.train)
    pictures = torch.full((1, 3, 2, 2), 0.5)
    x = data.preprocessing("standardise", rgb).apply(pictures)[0, :, 0, 0]
    expected = [(0.5 - m) / s for m, s in zip(rgb.spec.mean, rgb.spec.std, strict=True)]
    assert x.tolist() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("kind", ["standardise", "zca", "zca_relative", "zca_standardised"])
def test_uint8_and_floats_in_0_1_agree(kind):
    chosen = data.preprocessing(kind, DATASET)
    images = DATASET.train.images
    assert torch.equal(chosen.apply(images), chosen.apply(images.float() / 255))
    assert torch.equal(chosen.apply(images[:0]), torch.empty(0, 3, 6, 5))


@pytest.mark.parametrize("kind", ["standardise", "zca", "zca_relative", "zca_standardised"])
def test_wrong_images(kind):
    chosen = data.preprocessing(kind, DATASET)
    with pytest.raises(ValueError, match=r"images: expected \[N, .*got \[2, 1, 6, 5\]"):
        chosen.apply(torch.zeros(2, 1, 6, 5))
    with pytest.raises(ValueError, match="uint8 0..255 or float"):
        chosen.apply(torch.zeros(2, 3, 6, 5, dtype=torch.int64))


def test_pictures_outside_the_range_are_not_clipped():
    chosen = data.preprocessing("standardise", DATASET)
    x = torch.full((1, 3, 2, 2), 100.0)
    assert chosen.invert(x).min() > 1
    assert torch.allclose(chosen.apply(chosen.invert(x)), x)


def test_hash_tells_kinds_constants_and_data_apart():
    kinds = ("standardise", "zca", "zca_relative", "zca_standardised")
    hashes = {data.preprocessing(kind, DATASET).hash for kind in kinds}
    hashes.add(data.preprocessing("standardise", data.load("Digits")).hash)
    hashes.add(data.preprocessing("zca", DATASET.holdout(6)).hash)
    assert len(hashes) == 6
    assert data.preprocessing("zca", DATASET).hash == data.preprocessing("zca", DATASET).hash


def test_dc_has_its_own_constants_for_cifar100_alone():
    """utils.py of DC, DSA and DM; MTT's code standardises CIFAR100 as CIFAR10."""
    pictures = torch.full((1, 3, 2, 2), 0.5)
    for name, differs in (("CIFAR10", False), ("CIFAR100", True), ("TinyImageNet", False)):
        rgb = data.Dataset(data.spec(name), DATASET.train, lambda: DATASET.train)
        ours, dc = (data.preprocessing(k, rgb) for k in ("standardise", "standardise_dc"))
        assert dc.kind == "standardise_dc"
        assert (ours.hash != dc.hash) == differs
        assert torch.equal(ours.apply(pictures), dc.apply(pictures)) != differs
        if differs:
            x = dc.apply(pictures)[0, :, 0, 0]
            mean, std = (0.5071, 0.4866, 0.4409), (0.2673, 0.2564, 0.2762)
            expected = [(0.5 - m) / s for m, s in zip(mean, std, strict=True)]
            assert x.tolist() == pytest.approx(expected, rel=1e-5)


def test_unknown_kind():
    known = "standardise, standardise_dc, zca, zca_relative, zca_standardised, zca_kip, zca_rfad"
    with pytest.raises(ValueError, match=f"expected one of {known}, got 'pca'"):
        data.preprocessing("pca", DATASET)
