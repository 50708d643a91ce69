"""A data set: training images and labels, and a test split shut until asked for."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property

from nsdbench.data.description import DatasetSpec
from nsdbench.data.holdout import holdout_name
from nsdbench.data.split import Split, stratified_split
from nsdbench.errors import TestSplitSealed


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

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.image_shape))
        images = f"{len(self.train.labels):,} training images of {shape}"
        return f"<Dataset {self.name}: {images} in {self.num_classes} classes>"

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
            ValueError: size is out of range, or a class would be missing from one part.
        """
        rest, held = stratified_split(self.train.labels, size, seed)
        train, test = self.train.rows(rest), self.train.rows(held)
        for part, left in ((train, "to train on"), (test, "to test")):
            if absent := set(range(self.num_classes)) - set(part.labels.tolist()):
                raise ValueError(
                    f"a hold-out of {size} images of {self.name} leaves class {min(absent)} none "
                    f"{left}; hold out {'fewer' if part is train else 'more'}"
                )
        spec = replace(self.spec, train_size=len(train), test_size=len(test))
        return Dataset(spec, train, lambda: test, holdout_name(self.name, size, seed))
