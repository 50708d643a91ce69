"""The contract every parameterization keeps: store little, decode to labelled images."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from nsdbench.data import Dataset
from nsdbench.data.training import TrainingData
from nsdbench.sets.budget import Ledger


class Parameterization(nn.Module):
    """What a distilled set stores and how it decodes to `(images, labels)`.

    The stored tensors are the parameters and buffers in `state_dict()`; together with `settings`
    they rebuild the set, so an artefact holds exactly these two.

    It is built of the sizes that its family plans (`registry`).

    Attributes:
        settings: plain JSON values that rebuild the module (shapes, scheme, name).
        labels: [num_images] int64 class of every image, known without decoding.
        soft_labels: [num_images, K] labels that are learned and stored, one-hot less 1/K at the
            start, up to a factor; None where classes are all there is.
        is_stochastic: whether the generator decides what an image looks like; evaluation then
            decodes anew for every epoch.
        num_views: ways in which every image can be decoded, see `decode_view`.
    """

    is_stochastic: bool = False
    num_views: int = 1
    settings: dict
    labels: Tensor
    soft_labels: nn.Parameter | None

    def __init__(self) -> None:
        super().__init__()
        self.register_parameter("soft_labels", None)

    @property
    def num_images(self) -> int:
        """Number of images the whole set decodes to."""
        return len(self.labels)

    def decode(
        self, index: Tensor | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Decode images in network-input space.

        Args:
            index: [n] int64 image numbers (repeats allowed); None decodes all.
            generator: decides where decoding is stochastic, and None then gives fixed images;
                ignored otherwise.

        Returns:
            images [n, C, H, W], differentiable in what is stored, and labels [n].
        """
        raise NotImplementedError

    def decode_view(
        self, index: Tensor, view: int, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Decode images that are all seen in one way, as `decode` draws one for each of them.

        Args:
            index: as of `decode`.
            view: below `num_views`.
            generator: decides what else is drawn.
        """
        return self.decode(index, generator)

    def class_rows(self, label: int) -> Tensor:
        """Return the numbers of the images of a class [n] int64, ascending."""
        return torch.nonzero(self.labels == label).flatten()

    def prepare(
        self, data: Dataset, device: str, progress: Callable[[str, int, int], object]
    ) -> float:
        """Make or load what images are decoded with and a set does not store, before anything else.

        Args:
            data: the data set; its test split is sealed.
            device: where images will be decoded.
            progress: called as progress(phase, done, total) after every piece of work.

        Returns:
            The seconds that making it took, now or earlier, whoever waited.
        """
        return 0.0

    def initialize(self, real: TrainingData, generator: torch.Generator) -> None:
        """Set the stored tensors to their starting values, in place."""
        raise NotImplementedError

    def constrain(self) -> None:
        """Bring what is stored back into its allowed range, in place, after every update."""

    def stored(self) -> "Parameterization":
        """Return the set that an artefact holds: this one, or one of what it decodes to."""
        return self

    def describe(self) -> dict[str, Any]:
        """Return what a record should say of how images are decoded, as plain JSON types."""
        return {}

    def ledger(self) -> Ledger:
        """List every stored tensor with its bits."""
        raise NotImplementedError

    def parameter_groups(self, settings: dict) -> list[dict]:
        """Split the learned tensors into optimiser groups with their learning rates.

        Args:
            settings: the recipe's `optimiser` section.
        """
        raise NotImplementedError
