"""Whitening of whole images by a fixed matrix."""

import torch
from torch import Tensor

from nsdbench.data.preprocess.base import Preprocessing, as_pictures

_ROWS = 2_000  # images at a time, to bound the memory of their copies


class Zca(Preprocessing):
    """Whiten images by a matrix.

    x = (picture - mean) W,  W = U diag((S + ridge)^-1/2) U^T,  covariance = U diag(S) U^T, with
    pictures in [0, 1] flattened to D = C*H*W. The inverse is W^-1 = U diag((S + ridge)^1/2) U^T.
    Where channels are divided by their standard deviations s first, diag(1/s) stands before W.

    Attributes:
        shape: channels, height, width.
        mean: [D] float32.
        matrix: [D, D] float32, W.
        inverse: [D, D] float32, W^-1.
    """

    def __init__(
        self, kind: str, identity: str, shape: tuple[int, int, int], tensors: dict[str, Tensor]
    ) -> None:
        """Take the tensors as `fitting.fit` makes them; `identity` becomes the hash."""
        self.kind = kind
        self.hash = identity
        self.shape = shape
        self.mean, self.matrix = tensors["mean"], tensors["matrix"]
        self.inverse = tensors["inverse"]

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

    def _check(self, images: Tensor) -> None:
        if tuple(images.shape[1:]) != self.shape:
            raise ValueError(f"images: expected [N, {self.shape}], got {list(images.shape)}")
