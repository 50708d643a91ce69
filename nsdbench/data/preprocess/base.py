"""The contract every preprocessing keeps: a fixed map from pictures to network inputs."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor


class Preprocessing(ABC):
    """Hold the fixed map between pictures in [0, 1] and the space networks see.

    Attributes:
        kind: one of `data.KINDS`.
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
