"""One level of Haar bands, of which some are drawn whenever they decode (module `wavelet`)."""

from dataclasses import dataclass
from math import prod
from typing import Literal

from pydantic import model_validator

from nsdbench.errors import BudgetExceeded
from nsdbench.registry import Count, Settings
from nsdbench.sets.budget import Budget
from nsdbench.sets.parameterizations.registry import ParameterizationFamily

Draw = Literal["mask", "fusion"]


class DwtSettings(Settings):
    """Settings of wavelet bands.

    Attributes:
        draw: see `wavelet`. "mask" stores all four bands of ipc images a class, "fusion" `num_low`
            low bands, and as many of each kind of details as the budget leaves.
        num_low: for "fusion" only; None is ipc.
    """

    draw: Draw
    num_low: Count | None = None

    @model_validator(mode="after")
    def _masks_have_a_low_band_each(self) -> "DwtSettings":
        if self.draw == "mask" and self.num_low is not None:
            raise ValueError(
                f'num_low is {self.num_low}, but draw "mask" stores ipc images a class'
            )
        return self


@dataclass(frozen=True)
class WaveletShape:
    """Sizes of a set of wavelet bands.

    Attributes:
        name: "dwt".
        num_classes: classes of the data set.
        image_shape: (C, H, W), H and W even.
        draw: "mask" or "fusion", see `wavelet`.
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
        if min(self.num_classes, *self.image_shape) < 1:
            raise ValueError(
                f"{self.num_classes} classes of {list(self.image_shape)} images; expected sizes of "
                "at least 1"
            )
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

    @property
    def num_images(self) -> int:
        """Images that the set decodes to, one a low band."""
        return self.num_classes * self.num_low


def _plan(settings: DwtSettings, budget: Budget) -> WaveletShape:
    """Plan the bands of a class; BudgetExceeded if low bands leave no room for details."""
    num_low = settings.num_low or budget.ipc
    num_details = (4 * budget.ipc - num_low) // 3
    if num_details < 1:
        raise BudgetExceeded(
            f"num_low {num_low} leaves no room for three detail bands a class: ipc {budget.ipc} "
            f"allows {4 * budget.ipc} bands a class (Eq. 3); lower num_low"
        )
    return WaveletShape(
        "dwt", budget.num_classes, budget.image_shape, settings.draw, num_low, num_details
    )


DWT = ParameterizationFamily(
    DwtSettings, "nsdbench.sets.parameterizations.wavelet:Wavelet", _plan, WaveletShape
)
