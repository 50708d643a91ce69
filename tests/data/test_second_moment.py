"""The whitenings of KIP and RFAD: against their formulas in numpy, and back to pictures."""

import numpy as np
import pytest
import torch

from nsdbench import data
from nsdbench.data.preprocess import second_moment

DATASET = data.load("synthetic:4x3x5x4@60+5")
KINDS = ["zca_kip", "zca_rfad"]


def normalised(kind, images):
    """Return images as rows, before whitening; statistics are of the training images."""
    rows = images.numpy().astype(float).reshape(len(images), -1)
    if kind == "zca_kip":
        rows = rows - rows.mean(1, keepdims=True)
        return rows / np.sqrt((rows**2).sum(1, keepdims=True))
    train = DATASET.train.images.numpy().astype(float)  # 0 to 255, as RFAD's code takes them
    mean, std = train.mean((0, 2, 3)), train.std((0, 2, 3), ddof=1)
    pixels = train[0, 0].size
    return (rows - mean.repeat(pixels)) / std.repeat(pixels)


@pytest.mark.parametrize("kind", KINDS)
def test_whitening_is_the_formula(kind):
    """Singular vectors of the regularised second moment, as both codes take them."""
    train = normalised(kind, DATASET.train.images)
    moment = train.T @ train / len(train)
    left, values, _ = np.linalg.svd(moment + 0.1 * np.trace(moment) / len(moment) * np.eye(60))
    expected = normalised(kind, DATASET.test.images) @ (left * values**-0.5) @ left.T
    found = data.preprocessing(kind, DATASET).apply(DATASET.test.images).flatten(1).double()
    assert np.abs(found.numpy() - expected).max() < 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize("kind", KINDS)
def test_uint8_and_floats_in_0_1_agree(kind):
    chosen, images = data.preprocessing(kind, DATASET), DATASET.train.images
    assert torch.equal(chosen.apply(images), chosen.apply(images.float() / 255))
    assert torch.equal(chosen.apply(images[:0]), torch.empty(0, 3, 5, 4))
    with pytest.raises(ValueError, match=r"images: expected \[N, .*got \[2, 1, 5, 4\]"):
        chosen.apply(torch.zeros(2, 1, 5, 4))


def test_rfad_goes_back_to_the_picture():
    chosen, images = data.preprocessing("zca_rfad", DATASET), DATASET.test.images
    torch.testing.assert_close(
        chosen.invert(chosen.apply(images)), images.float() / 255, rtol=0, atol=1e-4
    )


def test_kip_goes_back_to_a_picture_of_average_brightness_and_contrast():
    """Its own mean and length are lost; the pattern is not."""
    chosen, pictures = data.preprocessing("zca_kip", DATASET), DATASET.test.images.double() / 255
    back = chosen.invert(chosen.apply(DATASET.test.images)).double().flatten(1)
    train = (DATASET.train.images.double() / 255).flatten(1)
    centred = train - train.mean(1, keepdim=True)
    rows = pictures.flatten(1)
    pattern = rows - rows.mean(1, keepdim=True)
    expected = train.mean() + centred.norm(dim=1).mean() * pattern / pattern.norm(dim=1)[:, None]
    torch.testing.assert_close(back, expected, rtol=0, atol=1e-4)


def test_a_constant_image_is_0_and_a_constant_channel_stays():
    chosen = data.preprocessing("zca_kip", DATASET)
    assert chosen.apply(torch.full((1, 3, 5, 4), 7, dtype=torch.uint8)).abs().max() < 1e-3
    images = DATASET.train.images.clone()
    images[:, 1] = 9
    tensors = second_moment.fit_standardised(images)
    assert all(tensor.isfinite().all() for tensor in tensors.values())


def test_images_are_taken_in_parts(monkeypatch):
    whole = {kind: fit(DATASET.train.images) for kind, fit in second_moment.FITS.items()}
    monkeypatch.setattr(second_moment, "_ROWS", 7)
    for kind, fit in second_moment.FITS.items():
        for name, tensor in fit(DATASET.train.images).items():
            torch.testing.assert_close(tensor, whole[kind][name], rtol=1e-5, atol=1e-6)
