"""Sets stored as one level of Haar wavelet bands, of which some are drawn whenever they decode.

The paper (sec. 4.4) samples "some frequency bands at a time during the inverse transform" and says
no more, so there are two readings:

    mask      an image keeps its low band and each of its three detail bands with probability 1/2
    fusion    an image joins its low band with the three detail bands of a random image of its class

The transform is orthonormal and stores as many numbers as the image has, so whatever it gains over
pixels comes from the draw.
"""

from dataclasses import asdict, dataclass
from math import prod
from typing import Literal

import torch
from torch import Tensor, nn

from nsdbench.data.training import TrainingData
from nsdbench.errors import BudgetExceeded
from nsdbench.sets.budget import Entry, Ledger, limit_bits
from nsdbench.sets.parameterizations.base import Parameterization
from nsdbench.sets.parameterizations.storage_plan import StoragePlan

Draw = Literal["mask", "fusion"]


def haar(images: Tensor) -> tuple[Tensor, Tensor]:
    """Split images into bands; of every 2x2 block [[p, q], [r, s]]

        low         (p + q + r + s) / 2
        details     (p + q - r - s) / 2,  (p - q + r - s) / 2,  (p - q - r + s) / 2

    which PyWavelets calls cA and cH, cV, cD.

    Args:
        images: [n, C, H, W], H and W even.

    Returns:
        low [n, C, H/2, W/2] and details [n, 3, C, H/2, W/2].
    """
    p, q = images[:, :, 0::2, 0::2], images[:, :, 0::2, 1::2]
    r, s = images[:, :, 1::2, 0::2], images[:, :, 1::2, 1::2]
    details = torch.stack((p + q - r - s, p - q + r - s, p - q - r + s), dim=1)
    return (p + q + r + s) / 2, details / 2


def inverse_haar(low: Tensor, details: Tensor) -> Tensor:
    """Join bands to images [n, C, H, W]; the inverse of `haar`, shapes as there."""
    h, v, d = details.unbind(1)
    n, channels, height, width = low.shape
    blocks = torch.stack((low + h + v + d, low + h - v - d, low - h + v - d, low - h - v + d), -1)
    blocks = (blocks / 2).view(n, channels, height, width, 2, 2)
    return blocks.transpose(3, 4).reshape(n, channels, 2 * height, 2 * width)


@dataclass(frozen=True)
class WaveletShape:
    """Sizes of a set of wavelet bands.

    Attributes:
        name: "dwt".
        num_classes: classes of the data set.
        image_shape: (C, H, W), H and W even.
        draw: "mask" or "fusion", see the module.
        num_low: low bands of a class, as many as images a decoding gives.
        num_details: triplets of detail bands of a class; num_low for "mask".
    """

    name: str
    num_classes: int
    image_shape: tuple[int, int, int]
    draw: Draw
    num_low: int
    num_details: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "image_shape", tuple(self.image_shape))  # JSON brings lists
        _, height, width = self.image_shape
        if height % 2 or width % 2:
            raise ValueError(
                f"images are {height}x{width}; a level of Haar bands needs even sides: resize them"
            )
        if self.draw not in ("mask", "fusion"):
            raise ValueError(f'draw is {self.draw!r}; expected "mask" or "fusion"')
        counts = (self.num_low, self.num_details)
        if any(type(count) is not int or count < 1 for count in counts):
            raise ValueError(
                f"a class has {self.num_low!r} low bands and {self.num_details!r} triplets of "
                "details; expected whole numbers of at least 1"
            )
        if self.draw == "mask" and self.num_low != self.num_details:
            raise ValueError(
                f"draw is 'mask' with {self.num_low} low bands and {self.num_details} triplets of "
                "details a class; an image has its own, so both must be equal"
            )

    @property
    def num_elements(self) -> int:
        """Stored elements: a band has a quarter of an image's."""
        bands = self.num_low + 3 * self.num_details
        return self.num_classes * bands * (prod(self.image_shape) // 4)

    def build(self) -> "Wavelet":
        """Build the module of this shape."""
        return Wavelet(self)


class Wavelet(Parameterization):
    """Learned Haar bands; without a generator decoding draws nothing and keeps all bands.

    Args:
        shape: its sizes.

    Attributes:
        low: [num_classes * num_low, C, H/2, W/2] float32 parameter, class by class.
        details: [num_classes * num_details, 3, C, H/2, W/2] float32 parameter, class by class.
    """

    is_stochastic = True

    def __init__(self, shape: WaveletShape):
        super().__init__()
        self.shape = shape
        self.settings = asdict(shape)
        channels, height, width = shape.image_shape
        band = (channels, height // 2, width // 2)
        labels = torch.arange(shape.num_classes).repeat_interleave(shape.num_low)
        self.register_buffer("labels", labels, persistent=False)
        self.low = nn.Parameter(torch.zeros(shape.num_classes * shape.num_low, *band))
        self.details = nn.Parameter(torch.zeros(shape.num_classes * shape.num_details, 3, *band))

    def decode(
        self, index: Tensor | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Decode all images or the rows asked for, drawing bands for each of them anew.

        Without a generator masks keep every band, and fusion takes details in turn.
        """
        if index is None:
            index = torch.arange(self.num_images, device=self.labels.device)
        labels = self.labels[index]
        if self.shape.draw == "mask":
            details = self.details[index]
            if generator is not None:
                kept = torch.rand(len(index), 3, generator=generator) < 0.5
                details = details * kept.to(details)[:, :, None, None, None]
        else:
            count = self.shape.num_details
            if generator is None:
                partner = index % self.shape.num_low % count
            else:
                partner = torch.randint(count, (len(index),), generator=generator).to(index)
            details = self.details[labels * count + partner]
        return inverse_haar(self.low[index], details), labels

    @torch.no_grad()
    def initialize(self, real: TrainingData, generator: torch.Generator) -> None:
        """Start at the bands of random real images: low and details of one image where they fit."""
        shape = self.shape
        lows, details = [], []
        for label in range(shape.num_classes):
            count = max(shape.num_low, shape.num_details)
            images, _ = real.batch(real.class_rows(label, count, generator))
            low, detail = haar(images)
            lows.append(low[: shape.num_low])
            details.append(detail[: shape.num_details])
        self.low.copy_(torch.cat(lows))
        self.details.copy_(torch.cat(details))

    def ledger(self) -> Ledger:
        """List the bands as coefficients."""
        entries = (
            Entry.of("coefficient", "low", self.low),
            Entry.of("coefficient", "details", self.details),
        )
        return Ledger(entries, ("hard labels implied by order", "bands are drawn at each decoding"))

    def parameter_groups(self, settings: dict) -> list[dict]:
        """All bands learn at `lr_syn`."""
        return [{"params": [self.low, self.details], "lr": settings["lr_syn"]}]


def plan_dwt(
    image_shape: tuple[int, int, int],
    num_classes: int,
    ipc: int,
    *,
    draw: Draw,
    num_low: int | None = None,
) -> StoragePlan:
    """Plan wavelet bands.

    Args:
        image_shape, num_classes, ipc: as of the other planners.
        draw: "mask": ipc images a class, all four bands of each. "fusion": `num_low` low bands a
            class, and as many triplets of details as the budget leaves.
        num_low: for "fusion" only; None is ipc.

    Raises:
        ValueError: odd sides, or an unknown draw.
        BudgetExceeded: the low bands leave no room for details.
    """
    if draw == "mask" and num_low is not None:
        raise ValueError(f'num_low is {num_low}, but draw "mask" stores ipc images a class')
    limit = limit_bits(image_shape, num_classes, ipc) // 32
    num_low = ipc if num_low is None else num_low
    num_details = (4 * ipc - num_low) // 3
    if num_details < 1:
        raise BudgetExceeded(
            f"num_low {num_low} leaves no room for three detail bands a class: ipc {ipc} allows "
            f"{4 * ipc} bands a class (Eq. 3); lower num_low"
        )
    shape = WaveletShape("dwt", num_classes, image_shape, draw, num_low, num_details)
    return StoragePlan(shape, shape.num_elements, limit)
