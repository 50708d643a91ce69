"""Whitening of whole images, as kornia does it for MTT, and with a relative ridge as KIP does."""

import hashlib
import logging
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from nsdbench.data.dataset import Dataset
from nsdbench.data.fetching.cache import cache_dir
from nsdbench.data.preprocess.base import Preprocessing, as_pictures
from nsdbench.files import write_atomically

# MTT reference code: ZCAWhitening(eps=0.1), added to the eigenvalues of the covariance of pixels
# in [0, 1].
ABSOLUTE_RIDGE = 0.1
# KIP and FRePo: 0.1 * trace(covariance) / D.
RELATIVE_RIDGE = 0.1
# 64 x 64 RGB. At 128 x 128 the covariance alone would take 19 GB in double.
LARGEST_DIMENSION = 12_288
_ROWS = 2_000  # images at a time, to bound the memory of the copies in double


class Zca(Preprocessing):
    """Whiten images by a symmetric matrix fitted on the training split.

    x = (picture - mean) W,  W = U diag((S + ridge)^-1/2) U^T,  covariance = U diag(S) U^T, with
    pictures in [0, 1] flattened to D = C*H*W. The inverse is W^-1 = U diag((S + ridge)^1/2) U^T.

    Attributes:
        mean: [D] float32.
        matrix: [D, D] float32, W.
        inverse: [D, D] float32, W^-1.
        ridge: what was added to the eigenvalues.
    """

    def __init__(
        self, kind: str, mean: Tensor, matrix: Tensor, inverse: Tensor, ridge: float,
        shape: tuple[int, int, int], fitted_on: str,
    ) -> None:  # fmt: skip
        self.kind = kind
        self.mean, self.matrix, self.inverse = mean, matrix, inverse
        self.ridge = ridge
        self.shape = shape
        self.hash = _identity(kind, fitted_on)

    def apply(self, images: Tensor) -> Tensor:
        self._check(images)
        mean, matrix = self.mean.to(images.device), self.matrix.to(images.device)
        parts = [
            (as_pictures(rows, self.shape[0]).flatten(1) - mean) @ matrix
            for rows in images.split(_ROWS)
        ]
        return torch.cat(parts).reshape(images.shape)

    def invert(self, x: Tensor) -> Tensor:
        self._check(x)
        mean, inverse = self.mean.to(x.device), self.inverse.to(x.device)
        return (x.flatten(1) @ inverse + mean).reshape(x.shape)

    def statistics(self) -> dict[str, Tensor]:
        return {"mean": self.mean, "matrix": self.matrix, "inverse": self.inverse}

    def _check(self, images: Tensor) -> None:
        if tuple(images.shape[1:]) != self.shape:
            raise ValueError(f"images: expected [N, {self.shape}], got {list(images.shape)}")


def whitening(dataset: Dataset, kind: str) -> Zca:
    """Give the whitening of a dataset, from the cache or by fitting it to the training split.

    Args:
        dataset: only `train` is used.
        kind: "zca" or "zca_relative".

    Raises:
        ValueError: images of more than 12,288 numbers; their covariance would not fit in memory.
    """
    channels, height, width = dataset.image_shape
    dimension = channels * height * width
    if dimension > LARGEST_DIMENSION:
        raise ValueError(
            f"{kind} of {dataset.name}: expected images of at most {LARGEST_DIMENSION} numbers, "
            f"got {channels} x {height} x {width} = {dimension}; use standardise"
        )
    store = cache_dir() / "zca" / f"{kind}-{_identity(kind, dataset.checksum)[:32]}.safetensors"
    tensors = _read_cache(store, dimension)
    if tensors is None:
        tensors = fit(dataset.train.images, kind)
        try:
            write_atomically(store, lambda path: save_file(tensors, path))
        except OSError as error:
            logging.getLogger(__name__).warning("whitening is not cached: %s", error)
    return Zca(
        kind, tensors["mean"], tensors["matrix"], tensors["inverse"], float(tensors["ridge"]),
        dataset.image_shape, dataset.checksum,
    )  # fmt: skip


def fit(images: Tensor, kind: str) -> dict[str, Tensor]:
    """Compute mean, whitening matrix and inverse of uint8 images, in double.

    covariance = sum (x - mean)^T (x - mean) / (N - 1): kornia 0.6.3 divides by N - 1 although its
    docstring says otherwise. Two passes, so that no precision is lost in subtracting.

    Args:
        images: uint8 [N, C, H, W], N >= 2.
        kind: "zca" (ridge 0.1) or "zca_relative" (ridge 0.1 * trace / D).

    Returns:
        mean [D], matrix [D, D], inverse [D, D] in float32, ridge [] in double.
    """
    if len(images) < 2:
        raise ValueError(f"whitening: expected at least 2 training images, got {len(images)}")
    rows = images.flatten(1)
    dimension = rows.shape[1]
    mean = sum(part.double().sum(0) for part in rows.split(_ROWS)) / (255 * len(rows))
    covariance = torch.zeros(dimension, dimension, dtype=torch.float64)
    for part in rows.split(_ROWS):
        centred = part.double() / 255 - mean
        covariance.addmm_(centred.T, centred)
    covariance /= len(rows) - 1

    ridge = torch.tensor(ABSOLUTE_RIDGE, dtype=torch.float64)
    if kind == "zca_relative":
        ridge = RELATIVE_RIDGE * covariance.trace() / dimension
    eigenvalues, vectors = torch.linalg.eigh(covariance)
    # rounding may leave tiny negative eigenvalues where the data has no variance
    scale = (eigenvalues.clamp(min=0) + ridge).sqrt()
    return {
        "mean": mean.float(),
        "matrix": ((vectors / scale) @ vectors.T).float(),
        "inverse": ((vectors * scale) @ vectors.T).float(),
        "ridge": ridge,
    }


def _identity(kind: str, fitted_on: str) -> str:
    """Hash what decides a whitening: its kind, the constants of this file and the training data.

    Not the matrix: its last digits depend on the linear algebra library, and experts recorded on
    one machine are to be found again on another.
    """
    text = f"{kind} 1 {ABSOLUTE_RIDGE} {RELATIVE_RIDGE} {fitted_on}"
    return hashlib.sha256(text.encode()).hexdigest()


def _read_cache(store: Path, dimension: int) -> dict[str, Tensor] | None:
    """Read cached tensors; None, so that they are made again, if absent or damaged."""
    try:
        tensors = load_file(store)
    except (OSError, SafetensorError):
        return None
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    square = (dimension, dimension)
    expected = {"mean": (dimension,), "matrix": square, "inverse": square, "ridge": ()}
    return tensors if shapes == expected else None
