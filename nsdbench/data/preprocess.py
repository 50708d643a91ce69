"""Map pictures to network inputs and back: per-channel standardisation or whitening."""

import hashlib
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from nsdbench.data.dataset import Dataset

KINDS = ("standardise", "zca", "zca_relative")


class Preprocessing(ABC):
    """Hold the fixed map between pictures in [0, 1] and the space networks see.

    Attributes:
        kind: one of `KINDS`.
        hash: identifies kind, constants and data it was fitted on (sha256, hex).
    """

    kind: str
    hash: str

    @abstractmethod
    def apply(self, images: Tensor) -> Tensor:
        """Map uint8 0..255 or float [0, 1] pictures [N, C, H, W] to float32 network inputs."""

    @abstractmethod
    def invert(self, x: Tensor) -> Tensor:
        """Map network inputs [N, C, H, W] back to pictures; [0, 1] up to what was never a picture.

        Nothing is clipped: distilled images may leave the range.
        """

    @abstractmethod
    def statistics(self) -> dict[str, Tensor]:
        """The tensors that define the map."""


class Standardise(Preprocessing):
    """Subtract the mean and divide by the standard deviation of each channel.

    x = (picture - mean) / std, picture in [0, 1], mean and std [C]: constants of the catalog.
    """

    kind = "standardise"

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        self.mean = mean.to(torch.float32)
        self.std = std.to(torch.float32)
        text = f"standardise {self.mean.tolist()} {self.std.tolist()}"
        self.hash = hashlib.sha256(text.encode()).hexdigest()

    def apply(self, images: Tensor) -> Tensor:
        pictures = as_pictures(images, len(self.mean))
        return (pictures - self._row(self.mean, images)) / self._row(self.std, images)

    def invert(self, x: Tensor) -> Tensor:
        return x * self._row(self.std, x) + self._row(self.mean, x)

    def statistics(self) -> dict[str, Tensor]:
        return {"mean": self.mean, "std": self.std}

    def _row(self, values: Tensor, like: Tensor) -> Tensor:
        return values.to(like.device)[:, None, None]


def as_pictures(images: Tensor, channels: int) -> Tensor:
    """Convert uint8 0..255 to float32 [0, 1]; floats are taken to be in [0, 1] already.

    Raises:
        ValueError: not [N, C, H, W] with the expected channels, or neither uint8 nor float.
    """
    if images.dim() != 4 or images.shape[1] != channels:
        raise ValueError(f"images: expected [N, {channels}, H, W], got {list(images.shape)}")
    if images.dtype == torch.uint8:
        return images.to(torch.float32) / 255
    if not images.is_floating_point():
        raise ValueError(f"images: expected uint8 0..255 or float [0, 1], got {images.dtype}")
    return images.to(torch.float32)


def preprocessing(kind: str, dataset: Dataset) -> Preprocessing:
    """Make the preprocessing of a dataset.

    Args:
        kind: "standardise" (constants of the catalog), "zca" (kornia's whitening: 0.1 added to the
            eigenvalues) or "zca_relative" (0.1 * trace / D added to them).
        dataset: whitening is fitted on its training split and cached.

    Raises:
        ValueError: unknown kind.
    """
    if kind == "standardise":
        return Standardise(torch.tensor(dataset.spec.mean), torch.tensor(dataset.spec.std))
    if kind in KINDS:
        from nsdbench.data import zca  # it builds on this module

        return zca.whitening(dataset, kind)
    raise ValueError(f"preprocessing: expected one of {', '.join(KINDS)}, got {kind!r}")
