"""Standardisation: per channel by constants of the data set, or of a batch by its own moments."""

import hashlib

import torch
from torch import Tensor

from nsdbench.data.preprocess.base import Preprocessing, as_pictures


class Standardise(Preprocessing):
    """Subtract the mean and divide by the standard deviation of each channel.

    x = (picture - mean) / std, picture in [0, 1], mean and std [C]: constants of the catalog.
    """

    def __init__(self, kind: str, mean: Tensor, std: Tensor) -> None:
        self.kind = kind
        self.mean = mean.to(torch.float32)
        self.std = std.to(torch.float32)
        text = f"standardise {self.mean.tolist()} {self.std.tolist()}"
        self.hash = hashlib.sha256(text.encode()).hexdigest()

    def apply(self, images: Tensor) -> Tensor:
        pictures = as_pictures(images, len(self.mean))
        return (pictures - self._row(self.mean, images)) / self._row(self.std, images)

    def invert(self, x: Tensor) -> Tensor:
        return x * self._row(self.std, x) + self._row(self.mean, x)

    def _row(self, values: Tensor, like: Tensor) -> Tensor:
        return values.to(like.device)[:, None, None]


def standardise_batch(x: Tensor) -> Tensor:
    """Subtract the mean of all numbers of a batch and divide by their sample standard deviation.

    HaBa's code does so to every batch [n, C, H, W] of network inputs of experts and of judged
    networks, in training and in tests; what a network says of an image then depends on its batch.
    """
    return (x - x.mean()) / x.std()
