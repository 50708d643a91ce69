"""What every reader returns: images and labels, and a test split shut until asked for."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from nsdbench import seeding
from nsdbench.data.catalog import DatasetSpec
from nsdbench.data.holdout import holdout_name
from nsdbench.errors import TestSplitSealed


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
        digest.update(self.labels.contiguous().numpy())
        digest.update(self.images.contiguous().numpy())
        return digest.hexdigest()


class Dataset:
    """Pair a training split with a test split that is read only when it is first used.

    Attributes:
        spec: what the catalog says about the dataset.
        name: the name it was loaded by; a hold-out says so in its name.
        train: the training split, in memory.
    """

    def __init__(
        self, spec: DatasetSpec, train: Split, read_test: Callable[[], Split], name: str = ""
    ) -> None:
        self.spec = spec
        self.name = name or spec.name
        self.train = train
        self._read_test = read_test

    @cached_property
    def test(self) -> Split:
        """The test split; only evaluation may touch it.

        Raises:
            TestSplitSealed: the dataset came from `without_test`.
            DataCorrupt: the files of the test split are damaged.
        """
        return self._read_test()

    @property
    def num_classes(self) -> int:
        return self.spec.num_classes

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        return self.spec.image_shape

    @cached_property
    def checksum(self) -> str:
        """Identify the training data (sha256, hex) without opening the test split.

        It depends on the content alone: two datasets have the same checksum exactly when number of
        classes, labels and pixels of the training splits agree. A hold-out therefore has its own,
        and so has the test split (`test.checksum`).
        """
        text = f"dataset {self.num_classes} {self.train.checksum}"
        return hashlib.sha256(text.encode()).hexdigest()

    def without_test(self) -> "Dataset":
        """Give the same dataset with its test split sealed, for everything but evaluation."""

        def refuse() -> Split:
            raise TestSplitSealed(
                f"the test split of {self.name} is sealed: experts, coresets and distillation see "
                "training data only. Evaluate through nsdbench.evaluate, or tune on "
                "Dataset.holdout(size, seed)"
            )

        return Dataset(self.spec, self.train, refuse, self.name)

    def holdout(self, size: int, seed: int = 0) -> "Dataset":
        """Set a stratified part of the training split aside as the test split of a new dataset.

        Args:
            size: number of images set aside, 1..N-1; every class gives its exact share, rounded
                by largest remainder.
            seed: which images; the same seed always draws the same.

        Returns:
            A dataset whose `train` is the rest and whose `test` is the hold-out, both in the
            original order. The real test split is not reachable from it.

        Raises:
            ValueError: size is out of range.
        """
        rest, held = stratified_split(self.train.labels, size, seed)
        train, test = self.train.rows(rest), self.train.rows(held)
        spec = replace(self.spec, train_size=len(train), test_size=len(test))
        return Dataset(spec, train, lambda: test, holdout_name(self.name, size, seed))


def stratified_split(labels: Tensor, size: int, seed: int) -> tuple[Tensor, Tensor]:
    """Split rows in two so that every class keeps its share in both.

    Class c gives floor(size * n_c / N) rows; the rows still missing come one each from the classes
    with the largest remainders (the lower class first at a tie).

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
    counts = torch.bincount(labels).tolist()
    share = [size * count // total for count in counts]
    remainder = [size * count % total for count in counts]
    by_remainder = sorted(range(len(counts)), key=lambda c: (-remainder[c], c))
    for c in by_remainder[: size - sum(share)]:
        share[c] += 1

    chosen = torch.zeros(total, dtype=torch.bool)
    for c, number in enumerate(share):
        rows = (labels == c).nonzero().flatten()
        order = torch.randperm(len(rows), generator=seeding.generator(seed, "split", c))
        chosen[rows[order[:number]]] = True
    return (~chosen).nonzero().flatten(), chosen.nonzero().flatten()
