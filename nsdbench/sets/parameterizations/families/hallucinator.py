"""Bases that shared hallucinators turn into images, drawn at decoding (module `hallucinator`)."""

from dataclasses import dataclass
from math import prod

from nsdbench.registry import Count, Settings
from nsdbench.sets.budget import Budget
from nsdbench.sets.parameterizations.registry import ParameterizationFamily

_KERNEL = 3  # HaBa reference code: side of both convolutions


class HallucinatorSettings(Settings):
    """Settings of bases and hallucinators.

    Attributes:
        num_hallucinators: shared by all bases; 5 in the authors' scripts.
        bases_per_class: None is ipc, as published; then hallucinators always break the budget.
        grey_bases: bases have one channel, whatever images have.
        over_budget: see `registry.plan`.
    """

    num_hallucinators: Count
    bases_per_class: Count | None = None
    grey_bases: bool = False
    over_budget: bool = False


@dataclass(frozen=True)
class HallucinatorShape:
    """Sizes of a set of bases and hallucinators.

    Attributes:
        name: "hallucinator".
        num_classes: classes of the data set.
        image_shape: (C, H, W).
        base_channels: channels of a base: C or 1.
        bases_per_class: bases of a class, as many as images a decoding gives.
        num_hallucinators: shared by all bases.
    """

    name: str
    num_classes: int
    image_shape: tuple[int, int, int]
    base_channels: int
    bases_per_class: int
    num_hallucinators: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "image_shape", tuple(self.image_shape))  # JSON brings lists
        channels, height, width = self.image_shape
        if min(height, width) < _KERNEL:
            raise ValueError(
                f"images are {height}x{width}; hallucinators convolve them {_KERNEL}x{_KERNEL}: "
                "resize them"
            )
        counts = (self.num_classes, channels, self.bases_per_class, self.num_hallucinators)
        if any(type(count) is not int or count < 1 for count in counts):
            raise ValueError(
                f"{counts[0]!r} classes of {counts[2]!r} bases, {counts[3]!r} hallucinators of "
                f"{channels!r} channels; expected whole numbers of at least 1"
            )
        if self.base_channels not in (1, channels):
            raise ValueError(
                f"base_channels is {self.base_channels!r}; expected 1, or the {channels} of images"
            )

    @property
    def map_shape(self) -> tuple[int, int, int]:
        """(C, H - 2, W - 2): what is scaled and shifted inside a hallucinator."""
        channels, height, width = self.image_shape
        return channels, height - _KERNEL + 1, width - _KERNEL + 1

    @property
    def weight_shapes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Shapes of both convolutions' weights, as torch lays them out, the transposed one last."""
        channels = self.image_shape[0]
        kernel = (_KERNEL, _KERNEL)
        return (channels, self.base_channels, *kernel), (channels, channels, *kernel)

    @property
    def num_elements(self) -> int:
        """Stored elements: those of all bases, and two convolutions and two maps each."""
        channels, height, width = self.image_shape
        bases = self.num_images * self.base_channels * height * width
        hallucinator = sum(map(prod, self.weight_shapes)) + 2 * channels + 2 * prod(self.map_shape)
        return bases + self.num_hallucinators * hallucinator

    @property
    def num_images(self) -> int:
        """Images that a decoding gives, one a base."""
        return self.num_classes * self.bases_per_class


def _plan(settings: HallucinatorSettings, budget: Budget) -> HallucinatorShape:
    """Plan what the settings ask for; the budget is checked by whoever asks."""
    return HallucinatorShape(
        "hallucinator",
        budget.num_classes,
        budget.image_shape,
        1 if settings.grey_bases else budget.image_shape[0],
        settings.bases_per_class or budget.ipc,
        settings.num_hallucinators,
    )


HALLUCINATOR = ParameterizationFamily(
    HallucinatorSettings,
    "nsdbench.sets.parameterizations.hallucinator:Hallucinated",
    _plan,
    HallucinatorShape,
)
