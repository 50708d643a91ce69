"""The training split as networks see it: preprocessed on demand, drawn through a generator."""

import torch

from nsdbench.data.dataset import Dataset
from nsdbench.data.preprocess.base import Preprocessing

_WHITENED_AT_ONCE = 2**28  # elements, 1 GiB of float32: CIFAR fits, TinyImageNet does not
_CHUNK = 5000


class TrainingData:
    """Serve real training images in network-input space.

    Images stay uint8 until asked for, so that a data set of any size fits; whitening, which costs a
    product with a D x D matrix, is done once where the result takes at most 1 GiB. The test split
    is not reachable from here.

    Args:
        dataset: its training split is used.
        preprocessing: maps uint8 images to network inputs.
        device: where served batches live.
    """

    def __init__(self, dataset: Dataset, preprocessing: Preprocessing, device: str = "cpu"):
        split = dataset.train
        self._images = split.images
        self._inputs = None
        if preprocessing.kind != "standardise" and split.images.numel() <= _WHITENED_AT_ONCE:
            chunks = split.images.split(_CHUNK)
            self._inputs = torch.cat([preprocessing.apply(chunk) for chunk in chunks])
        self.labels = split.labels
        self.preprocessing = preprocessing
        self.num_classes = dataset.num_classes
        self.image_shape = dataset.image_shape
        self.device = torch.device(device)
        self._rows_by_class = [
            torch.nonzero(self.labels == c).flatten() for c in range(self.num_classes)
        ]

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return images [n, C, H, W] float32 and labels [n] int64 of the given rows."""
        if self._inputs is not None:
            images = self._inputs[index]
        else:
            images = self.preprocessing.apply(self._images[index])
        return images.to(self.device), self.labels[index].to(self.device)

    def sample(self, size: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Draw a batch uniformly without replacement; all of the data if it is smaller."""
        return self.batch(torch.randperm(len(self), generator=generator)[:size])

    def class_rows(self, label: int, size: int, generator: torch.Generator) -> torch.Tensor:
        """Draw row numbers of one class without replacement.

        Raises:
            ValueError: the class has fewer images than asked for.
        """
        rows = self.rows_of_class(label, at_least=size)
        return rows[torch.randperm(len(rows), generator=generator)[:size]]

    def rows_of_class(self, label: int, at_least: int = 0) -> torch.Tensor:
        """Return the row numbers of one class, ascending.

        Raises:
            ValueError: the class has fewer images than `at_least`.
        """
        rows = self._rows_by_class[label]
        if at_least > len(rows):
            raise ValueError(
                f"class {label} has {len(rows)} training images, {at_least} were asked for; "
                "lower ipc or use a larger data set"
            )
        return rows

    def pixel_std(self, limit: int = 5000) -> float:
        """Return the standard deviation of network inputs over `limit` evenly spaced images."""
        images, _ = self.batch(torch.linspace(0, len(self) - 1, min(limit, len(self))).long())
        return float(images.double().std())
