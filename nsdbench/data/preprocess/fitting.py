"""Preprocessing by name, fitted to a data set.

Whitening is fitted as kornia does it for MTT, with a relative ridge as FRePo does, or by the second
moment as KIP and RFAD do (`second_moment`), and cached.
"""

import hashlib
from pathlib import Path

import torch
from torch import Tensor

from nsdbench.data.dataset import Dataset
from nsdbench.data.description import KINDS, DatasetSpec
from nsdbench.data.fetching.cache import find_cache_dir, keep_tensors, read_tensors
from nsdbench.data.preprocess.base import Preprocessing
from nsdbench.data.preprocess.second_moment import FITS, PerImageZca
from nsdbench.data.preprocess.standardise import Standardise
from nsdbench.data.preprocess.whitening import Zca

# MTT reference code: ZCAWhitening(eps=0.1), added to the eigenvalues of the covariance of pixels
# in [0, 1].
ABSOLUTE_RIDGE = 0.1
# FRePo: 0.1 * trace(covariance) / D.
RELATIVE_RIDGE = 0.1
# 64 x 64 RGB. At 128 x 128 the covariance alone would take 19 GB in double.
LARGEST_DIMENSION = 12_288
_ROWS = 2_000  # images at a time, to bound the memory of the copies in double


def preprocessing(kind: str, dataset: Dataset) -> Preprocessing:
    """Make the preprocessing of a dataset.

    Args:
        kind: "standardise" (constants of the catalog), "standardise_dc" (those of the code of DC,
            where they are others), "zca" (kornia's whitening: 0.1 added to the eigenvalues) or
            "zca_relative" (0.1 * trace / D added to them) or "zca_standardised" (the same of pixels
            whose channels have been divided by their standard deviation first: FRePo); "zca_kip"
            and "zca_rfad" are those of `second_moment`.
        dataset: whitening is fitted on its training split and cached.

    Raises:
        ValueError: unknown kind, or images of more than 12,288 numbers to whiten; their covariance
            would not fit in memory.
    """
    if standard := standardising(kind, dataset.spec):
        return standard
    if kind in KINDS:
        return _whitening(kind, dataset)
    raise ValueError(f"preprocessing: expected one of {', '.join(KINDS)}, got {kind!r}")


def standardising(kind: str | None, spec: DatasetSpec) -> Standardise | None:
    """Make a preprocessing that needs constants and no data; None of another kind."""
    if kind == "standardise":
        return Standardise(kind, torch.tensor(spec.mean), torch.tensor(spec.std))
    if kind == "standardise_dc":
        mean, std = spec.dc_statistics or (spec.mean, spec.std)
        return Standardise(kind, torch.tensor(mean), torch.tensor(std))
    return None


def _whitening(kind: str, dataset: Dataset) -> Zca:
    """Give the whitening of a dataset, from the cache or by fitting it to the training split."""
    channels, height, width = dataset.image_shape
    dimension = channels * height * width
    if dimension > LARGEST_DIMENSION:
        raise ValueError(
            f"{kind} of {dataset.name}: expected images of at most {LARGEST_DIMENSION} numbers, "
            f"got {channels} x {height} x {width} = {dimension}; use standardise"
        )
    identity = _identity(kind, dataset.checksum)
    cache = find_cache_dir()
    store = cache / "zca" / f"{kind}-{identity[:32]}.safetensors" if cache else None
    tensors = _read_cache(store, dimension)
    if tensors is None:
        images = dataset.train.images
        tensors = FITS[kind](images) if kind in FITS else fit(images, kind)
        keep_tensors(store, tensors)
    whitening = PerImageZca if kind == "zca_kip" else Zca
    return whitening(kind, identity, dataset.image_shape, tensors)


def fit(images: Tensor, kind: str) -> dict[str, Tensor]:
    """Compute mean, whitening matrix and inverse of uint8 images, in double.

    covariance = sum (x - mean)^T (x - mean) / (N - 1): kornia 0.6.3 divides by N - 1 although its
    docstring says otherwise. Two passes, so that no precision is lost in subtracting.

    Args:
        images: uint8 [N, C, H, W], N >= 2.
        kind: "zca" (ridge 0.1), "zca_relative" (ridge 0.1 * trace / D) or "zca_standardised": of
            x / s instead of x, with s the standard deviation of all pixels of a channel, so that
            the matrix is diag(1 / s) W. FRePo's code has s with four digits from elsewhere (CIFAR10
            .2470 .2435 .2616).

    Returns:
        mean [D], matrix [D, D], inverse [D, D] in float32, ridge [] in double.

    Raises:
        ValueError: fewer than two images.
    """
    if len(images) < 2:
        raise ValueError(f"whitening: expected at least 2 training images, got {len(images)}")
    rows = images.flatten(1)
    dimension = rows.shape[1]
    mean = torch.zeros(dimension, dtype=torch.float64)
    for part in rows.split(_ROWS):
        mean += part.double().sum(0)
    mean /= 255 * len(rows)
    covariance = torch.zeros(dimension, dimension, dtype=torch.float64)
    for part in rows.split(_ROWS):
        centred = part.double() / 255 - mean
        covariance.addmm_(centred.T, centred)
    covariance /= len(rows) - 1

    scale_of_pixels = torch.ones(dimension, dtype=torch.float64)
    if kind == "zca_standardised":
        scale_of_pixels = _channel_std(covariance, mean, images)
        covariance /= torch.outer(scale_of_pixels, scale_of_pixels)
    ridge = torch.tensor(ABSOLUTE_RIDGE, dtype=torch.float64)
    if kind != "zca":
        ridge = RELATIVE_RIDGE * covariance.trace() / dimension
    eigenvalues, vectors = torch.linalg.eigh(covariance)
    # rounding may leave tiny negative eigenvalues where the data has no variance
    scale = (eigenvalues.clamp(min=0) + ridge).sqrt()
    return {
        "mean": mean.float(),
        "matrix": ((vectors / scale) @ vectors.T / scale_of_pixels[:, None]).float(),
        "inverse": ((vectors * scale) @ vectors.T * scale_of_pixels).float(),
        "ridge": ridge,
    }


def _channel_std(covariance: Tensor, mean: Tensor, images: Tensor) -> Tensor:
    """Return the standard deviation of all pixels of its channel for every number, [D] double.

    The variance of a channel is that within its positions and that of their means; one that does
    not vary has 1.

    Args:
        covariance: [D, D], divided by N - 1.
        mean: [D].
        images: [N, C, H, W], for their sizes.
    """
    count, channels, height, width = images.shape
    within = covariance.diagonal().view(channels, -1).mean(1) * (count - 1) / count
    std = (within + mean.view(channels, -1).var(1, correction=0)).sqrt()
    return std.masked_fill(std == 0, 1.0).repeat_interleave(height * width)


def _identity(kind: str, fitted_on: str) -> str:
    """Hash what decides a whitening: its kind, the constants of this file and the training data.

    Not the matrix: its last digits depend on the linear algebra library, and experts recorded on
    one machine are to be found again on another.
    """
    text = f"{kind} 1 {ABSOLUTE_RIDGE} {RELATIVE_RIDGE} {fitted_on}"
    return hashlib.sha256(text.encode()).hexdigest()


def _read_cache(store: Path | None, dimension: int) -> dict[str, Tensor] | None:
    """Read cached tensors; None, so that they are made again, if absent or damaged."""
    square = (dimension, dimension)
    expected = {"mean": (dimension,), "matrix": square, "inverse": square, "ridge": ()}
    return read_tensors(store, "a whitening matrix", lambda shapes: shapes == expected)
