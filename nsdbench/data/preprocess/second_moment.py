"""The whitenings of KIP and RFAD: by the second moment, about 0 and not about the mean image.

    M = sum z^T z / N = U diag(S) U^T,  W = U diag((S + ridge)^-1/2) U^T,  ridge = 0.1 trace(M) / D

z, a row each, are images that were normalised before: by KIP every image by itself, to mean 0 and
length 1; by RFAD every channel, by the mean and the standard deviation of all of its pixels.
KIP: dataset.ipynb; RFAD: data.py of its code.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from nsdbench.data.preprocess.base import as_pictures
from nsdbench.data.preprocess.whitening import Zca

RELATIVE_RIDGE = 0.1
_LEAST_LENGTH = 1e-3  # less than that of one grey level in one pixel
_ROWS = 2_000  # images at a time, to bound the memory of the copies in double


class PerImageZca(Zca):
    """Bring every image to mean 0 and length 1, then whiten it (KIP).

    An image's own mean and length are lost. `invert` gives it the averages of the training images.
    """

    def apply(self, images: Tensor) -> Tensor:
        self._check(images)
        matrix = self.matrix.to(images.device)
        parts = [
            normalise_each(as_pictures(rows, self.shape[0]).flatten(1)) @ matrix
            for rows in images.split(_ROWS)
        ]
        return torch.cat(parts).reshape(images.shape)


def normalise_each(rows: Tensor) -> Tensor:
    """Bring every row [n, D] to mean 0 and length 1; constant ones to 0."""
    centred = rows - rows.mean(1, keepdim=True)
    return centred / centred.norm(dim=1, keepdim=True).clamp(min=_LEAST_LENGTH)


def fit_per_image(images: Tensor) -> dict[str, Tensor]:
    """Fit KIP's whitening to uint8 images [N, C, H, W].

    Returns:
        mean [D] and inverse [D, D], with which the average mean and length of an image come back;
        matrix [D, D], all in float32; ridge [] in double.
    """
    lengths, levels = [], []

    def normalised() -> Iterator[Tensor]:
        for rows in _pictures(images):
            levels.append(rows.mean(1))
            lengths.append((rows - rows.mean(1, keepdim=True)).norm(dim=1))
            yield normalise_each(rows)

    matrix, inverse, ridge = _whiten(normalised(), len(images))
    mean = torch.cat(levels).mean().expand(len(matrix)).clone()
    return _tensors(mean, matrix, inverse * torch.cat(lengths).mean(), ridge)


def fit_standardised(images: Tensor) -> dict[str, Tensor]:
    """Fit RFAD's whitening to uint8 images; returns tensors as `fitting.fit` does."""
    channels, pixels = images.shape[1], images[0, 0].numel()
    count = len(images) * pixels

    def of_channels(values: Tensor) -> Tensor:
        return values.view(channels, pixels).sum(1).repeat_interleave(pixels)

    mean = of_channels(sum((rows.sum(0) for rows in _pictures(images)), torch.tensor(0.0))) / count
    squares = sum(((rows - mean).square().sum(0) for rows in _pictures(images)), torch.tensor(0.0))
    std = (of_channels(squares) / (count - 1)).sqrt()
    std = std.masked_fill(std == 0, 1.0)
    normalised = ((rows - mean) / std for rows in _pictures(images))
    matrix, inverse, ridge = _whiten(normalised, len(images))
    return _tensors(mean, matrix / std[:, None], inverse * std, ridge)


def _pictures(images: Tensor) -> Iterator[Tensor]:
    """Give images in parts, as rows in [0, 1], in double."""
    for rows in images.split(_ROWS):
        yield rows.flatten(1).double() / 255


def _whiten(parts: Iterator[Tensor], count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return W, its inverse and the ridge of `count` rows, by the module's formula."""
    moment: Tensor | None = None
    for rows in parts:
        product = rows.mT @ rows
        moment = product if moment is None else moment.add_(product)
    assert moment is not None, "there is at least one image"
    moment /= count
    ridge = RELATIVE_RIDGE * moment.trace() / len(moment)
    values, vectors = torch.linalg.eigh(moment)
    scale = (values.clamp(min=0) + ridge).sqrt()
    return (vectors / scale) @ vectors.mT, (vectors * scale) @ vectors.mT, ridge


def _tensors(mean: Tensor, matrix: Tensor, inverse: Tensor, ridge: Tensor) -> dict[str, Tensor]:
    return {
        "mean": mean.float(),
        "matrix": matrix.float(),
        "inverse": inverse.float(),
        "ridge": ridge,
    }


FITS: dict[str, Callable[[Tensor], dict[str, Tensor]]] = {
    "zca_kip": fit_per_image,
    "zca_rfad": fit_standardised,
}
