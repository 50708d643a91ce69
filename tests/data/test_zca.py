"""Whitening against independent statements of the formula, its inverse, and its cache."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.linalg
import torch

from nsdbench import data
from nsdbench.data import Dataset, Split
from nsdbench.data.preprocess import fitting, whitening

DATASET = data.load("synthetic:4x3x5x4@60+5")
DIMENSION = 60
KINDS = ["zca", "zca_relative"]
ALL_KINDS = [*KINDS, "zca_standardised"]


def pixels(images: torch.Tensor) -> np.ndarray:
    return images.numpy().reshape(len(images), -1) / 255.0


def ridge(kind: str, covariance: np.ndarray) -> float:
    return 0.1 if kind == "zca" else 0.1 * np.trace(covariance) / len(covariance)


@pytest.mark.parametrize("kind", KINDS)
def test_matrix_is_the_inverse_root_of_the_ridged_covariance(kind):
    rows = pixels(DATASET.train.images)
    covariance = np.cov(rows, rowvar=False)  # divides by N - 1
    ridged = covariance + ridge(kind, covariance) * np.eye(DIMENSION)
    tensors = fitting.fit(DATASET.train.images, kind)
    one_rounding = {"rtol": 2.0**-23, "atol": 1e-10}  # of double to float, then the double error
    for name, expected in (
        ("mean", rows.mean(0)),
        ("matrix", scipy.linalg.fractional_matrix_power(ridged, -0.5)),
        ("inverse", scipy.linalg.sqrtm(ridged)),
    ):
        np.testing.assert_allclose(tensors[name].double().numpy(), expected, **one_rounding)
    assert float(tensors["ridge"]) == pytest.approx(ridge(kind, covariance), rel=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_whitened_covariance_is_u_s_over_s_plus_ridge_ut(kind):
    """From the singular values of the data, without forming its covariance."""
    rows = pixels(DATASET.train.images)
    centred = rows - rows.mean(0)
    _, singular, vectors = np.linalg.svd(centred, full_matrices=False)
    s = singular**2 / (len(rows) - 1)
    expected = (vectors.T * (s / (s + ridge(kind, np.diag(s))))) @ vectors

    whitened = data.preprocessing(kind, DATASET).apply(DATASET.train.images)
    got = np.cov(whitened.flatten(1).double().numpy(), rowvar=False)
    # the same product in float, straight from the double factors
    root = (vectors.T / np.sqrt(s + ridge(kind, np.diag(s)))) @ vectors
    twin = centred.astype(np.float32) @ root.astype(np.float32)
    allowed = 2 * np.abs(np.cov(twin.astype(np.float64), rowvar=False) - expected).max() + 1e-9
    assert np.abs(got - expected).max() <= allowed


def test_frepos_whitening_is_that_of_standardised_pixels():
    """Channel statistics with numpy, then the centred, ridged inverse root, step by step."""
    train = DATASET.train.images
    pictures = train.numpy() / 255.0
    mean, std = pictures.mean((0, 2, 3)), pictures.std((0, 2, 3))

    def standardised(images):
        scaled = (images.numpy() / 255.0 - mean[:, None, None]) / std[:, None, None]
        return scaled.reshape(len(images), -1)

    rows = standardised(train)
    covariance = np.cov(rows, rowvar=False)
    ridged = covariance + 0.1 * np.trace(covariance) / DIMENSION * np.eye(DIMENSION)
    root = scipy.linalg.fractional_matrix_power(ridged, -0.5)
    expected = (standardised(DATASET.test.images) - rows.mean(0)) @ root
    chosen = data.preprocessing("zca_standardised", DATASET)
    got = chosen.apply(DATASET.test.images).flatten(1).numpy()
    np.testing.assert_allclose(got, expected, atol=1e-5)
    assert chosen.hash != data.preprocessing("zca_relative", DATASET).hash


def test_a_channel_that_does_not_vary_is_not_divided():
    images = DATASET.train.images.clone()
    images[:, 1] = 9
    tensors = fitting.fit(images, "zca_standardised")
    assert all(torch.isfinite(tensor).all() for tensor in tensors.values())


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_inverse_gives_the_pictures_back(kind):
    chosen = data.preprocessing(kind, DATASET)
    images = DATASET.test.images
    back = chosen.invert(chosen.apply(images))
    assert back.shape == images.shape
    assert torch.equal((back * 255).round().to(torch.uint8), images)


def test_test_split_is_whitened_with_the_statistics_of_train():
    chosen = data.preprocessing("zca", DATASET.without_test())
    tensors = fitting.fit(DATASET.train.images, "zca")
    expected = (pixels(DATASET.test.images) - tensors["mean"].numpy()) @ tensors["matrix"].numpy()
    got = chosen.apply(DATASET.test.images).flatten(1).numpy()
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_more_images_than_are_taken_at_a_time(monkeypatch):
    whole = fitting.fit(DATASET.train.images, "zca")
    chosen = data.preprocessing("zca", DATASET)
    at_once = chosen.apply(DATASET.train.images)
    monkeypatch.setattr(fitting, "_ROWS", 7)
    monkeypatch.setattr(whitening, "_ROWS", 7)
    for name, tensor in fitting.fit(DATASET.train.images, "zca").items():
        torch.testing.assert_close(tensor, whole[name])
    torch.testing.assert_close(chosen.apply(DATASET.train.images), at_once)


def test_constant_pixels_and_fewer_images_than_pixels():
    images = DATASET.train.images[:5].clone()
    images[:, :, 0] = 7
    tensors = fitting.fit(images, "zca")
    assert all(torch.isfinite(tensor).all() for tensor in tensors.values())
    identity = tensors["matrix"].double() @ tensors["inverse"].double()
    torch.testing.assert_close(identity, torch.eye(DIMENSION).double(), rtol=0, atol=1e-6)


def test_one_image_is_too_few():
    with pytest.raises(ValueError, match="at least 2 training images, got 1"):
        fitting.fit(DATASET.train.images[:1], "zca")


def test_images_too_large_to_whiten():
    spec = replace(data.spec("ImageNette"), train_size=1)
    split = Split(torch.zeros(1, 3, 128, 128, dtype=torch.uint8), torch.zeros(1, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"at most 12288 numbers, got 3 x 128 x 128 = 49152"):
        data.preprocessing("zca", Dataset(spec, split, lambda: split))


def test_second_time_comes_from_the_cache(cache, monkeypatch):
    first = data.preprocessing("zca", DATASET)
    data.preprocessing("zca_relative", DATASET)
    assert len(list((cache / "zca").iterdir())) == 2
    monkeypatch.setattr(fitting, "fit", lambda *_: pytest.fail("fitted again"))
    again = data.preprocessing("zca", DATASET)
    images = DATASET.test.images
    assert again.hash == first.hash
    assert torch.equal(again.apply(images), first.apply(images))
    assert torch.equal(again.invert(first.apply(images)), first.invert(first.apply(images)))


@pytest.mark.parametrize("keep", [0, 4, 1000])
def test_damaged_cache_is_made_again(cache, keep):
    first = data.preprocessing("zca", DATASET)
    (stored,) = (cache / "zca").iterdir()
    stored.write_bytes(stored.read_bytes()[:keep])
    again = data.preprocessing("zca", DATASET)
    assert torch.equal(first.matrix, again.matrix)


def test_cache_of_another_shape_is_not_used(cache):
    data.preprocessing("zca", data.load("synthetic:2x1x3x3"))
    (other,) = (cache / "zca").iterdir()
    other.rename(cache / "zca" / f"zca-{DATASET.checksum[:32]}.safetensors")
    assert data.preprocessing("zca", DATASET).matrix.shape == (DIMENSION, DIMENSION)


def test_unwritable_cache_is_no_error(cache, caplog):
    cache.write_text("a file where the folder should be")
    assert data.preprocessing("zca", DATASET).matrix.shape == (DIMENSION, DIMENSION)
    assert "not kept for the next time" in caplog.text


def test_cache_is_keyed_by_content():
    """A hold-out has the shape and kind of the whole set, but its own statistics."""
    whole, part = (data.preprocessing("zca", d) for d in (DATASET, DATASET.holdout(60)))
    assert not torch.equal(whole.matrix, part.matrix)
    assert torch.equal(part.matrix, fitting.fit(DATASET.holdout(60).train.images, "zca")["matrix"])
