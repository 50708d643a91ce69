"""Images that are their own mirror image: the left half is stored, the right one mirrors it.

A budget of ipc images per class holds 2 ipc of them. An example, and no method that anybody
proposed.
"""

from dataclasses import asdict, dataclass
from math import prod

import torch
from torch import Tensor, nn

from nsdbench.plugin import (
    Budget,
    Entry,
    Ledger,
    Parameterization,
    ParameterizationFamily,
    Settings,
    TrainingData,
)


@dataclass(frozen=True)
class MirroredShape:
    """Sizes of a mirrored set; the fields are what an artefact keeps to rebuild it."""

    name: str
    num_classes: int
    image_shape: tuple[int, int, int]
    images_per_class: int

    @property
    def num_images(self) -> int:
        """Images that the set decodes to."""
        return self.num_classes * self.images_per_class

    @property
    def num_elements(self) -> int:
        """Stored elements: half of every image."""
        return self.num_images * prod(self.image_shape) // 2


class Mirrored(Parameterization):
    """A learned set of left halves.

    Attributes:
        halves: [num_classes * images_per_class, C, H, W/2] float32 parameter, class by class.
    """

    def __init__(self, shape: MirroredShape):
        super().__init__()
        self.settings = asdict(shape)
        channels, height, width = shape.image_shape
        labels = torch.arange(shape.num_classes).repeat_interleave(shape.images_per_class)
        self.register_buffer("labels", labels, persistent=False)
        self.halves = nn.Parameter(torch.zeros(len(labels), channels, height, width // 2))

    def decode(
        self, index: Tensor | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Join the halves with their mirror images."""
        halves = self.halves if index is None else self.halves[index]
        labels = self.labels if index is None else self.labels[index]
        return torch.cat((halves, halves.flip(-1)), dim=-1), labels

    @torch.no_grad()
    def initialize(self, real: TrainingData, generator: torch.Generator) -> None:
        """Start at the left halves of random real images."""
        counts = torch.bincount(self.labels)
        rows = [real.class_rows(c, int(n), generator) for c, n in enumerate(counts)]
        images, _ = real.batch(torch.cat(rows))
        self.halves.copy_(images[..., : self.halves.shape[-1]])

    def ledger(self) -> Ledger:
        """List the halves; the mirror images cost nothing."""
        return Ledger((Entry.of("coefficient", "halves", self.halves),))

    def parameter_groups(self, settings: dict) -> list[dict]:
        """The halves learn at `lr_syn`."""
        return [{"params": [self.halves], "lr": settings["lr_syn"]}]


def plan(settings: Settings, budget: Budget) -> MirroredShape:
    """Plan twice as many images as the budget has: half an image each."""
    width = budget.image_shape[2]
    if width % 2:
        raise ValueError(f"images are {width} pixels wide; expected an even width")
    return MirroredShape("mirrored", budget.num_classes, budget.image_shape, 2 * budget.ipc)


FAMILY = ParameterizationFamily(Settings, "nsdbench_example.mirrored:Mirrored", plan, MirroredShape)
