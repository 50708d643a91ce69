"""Images and labels of one part of a data set, and how a part is divided in two."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from nsdbench import seeding
from nsdbench.data.shares import shares


@dataclass(frozen=True)
class Split:
    """Hold the images and labels of one part of a dataset.

    Attributes:
        images: uint8 [N, C, H, W], 0..255.
        labels: int64 [N], 0..num_classes-1.
    """

    images: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        if self.images.dtype != torch.uint8 or self.images.dim() != 4:
            raise ValueError(
                "images: expected uint8 [N, C, H, W], got "
                f"{self.images.dtype} {list(self.images.shape)}"
            )
        if self.labels.dtype != torch.int64 or self.labels.shape != self.images.shape[:1]:
            raise ValueError(
                f"labels: expected int64 [{len(self.images)}], one per image, got "
                f"{self.labels.dtype} {list(self.labels.shape)}"
            )

    def __len__(self) -> int:
        return len(self.labels)

    def rows(self, index: Tensor) -> "Split":
        """Pick rows by index (int64 [n]), in that order."""
        return Split(self.images[index], self.labels[index])

    @cached_property
    def checksum(self) -> str:
        """Identify the content: sha256 over shape, labels and pixels."""
        digest = hashlib.sha256(f"split {list(self.images.shape)}".encode())
        digest.update(self.labels.contiguous().numpy().data)
        digest.update(self.images.contiguous().numpy().data)
        return digest.hexdigest()


def stratified_split(labels: Tensor, size: int, seed: int) -> tuple[Tensor, Tensor]:
    """Split rows in two so that every class keeps its share in both, see `shares`.

    Args:
        labels: int64 [N].
        size: rows in the second part, 1..N-1.
        seed: decides which rows.

    Returns:
        (rest [N - size], chosen [size]): int64 indices, ascending.

    Raises:
        ValueError: size is out of range.
    """
    total = len(labels)
    if not 1 <= size < total:
        raise ValueError(f"size: expected 1..{total - 1} of {total} images, got {size}")
    return split_by_shares(labels, shares(torch.bincount(labels).tolist(), size), seed)


def split_by_shares(labels: Tensor, share: Sequence[int], seed: int) -> tuple[Tensor, Tensor]:
    """Split rows in two; `share` says how many of each class the second part has.

    Returns:
        (rest, chosen): int64 indices, ascending.
    """
    chosen = torch.zeros(len(labels), dtype=torch.bool)
    for c, number in enumerate(share):
        rows = (labels == c).nonzero().flatten()
        order = torch.randperm(len(rows), generator=seeding.generator(seed, "split", c))
        chosen[rows[order[:number]]] = True
    return (~chosen).nonzero().flatten(), chosen.nonzero().flatten()
