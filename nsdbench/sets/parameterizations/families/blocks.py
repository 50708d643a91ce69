"""A square block of coefficients an image, enlarged by shared matrices: DCT, LDCT, IDC's tiles."""

from functools import partial
from typing import Literal

from nsdbench.registry import Count, Settings
from nsdbench.sets.budget import Budget
from nsdbench.sets.parameterizations.families.spectral import kept_side
from nsdbench.sets.parameterizations.registry import ParameterizationFamily
from nsdbench.sets.parameterizations.separable_shape import (
    MODULE,
    Init,
    Kind,
    SeparableShape,
    columns,
)


class TransformSettings(Settings):
    """Settings of DCT and LDCT.

    Attributes:
        dct_type: 2, or 4 for the paper's Eq. 4 with indices from 0 (`axis_kernels.dct4`).
        t3: coefficients kept of each axis; None for NSD's (paper, sec. 4.1).
    """

    dct_type: Literal[2, 4] = 2
    t3: Count | None = None


class TilesSettings(Settings):
    """Settings of tiles.

    Attributes:
        factor: by which tiles are smaller than images: 2, or 3 for ImageNet; 1 is raw pixels.
        init: as of `SeparableShape`. The start "mix" of IDC's code takes the first images of every
            class in the order of the data.
    """

    factor: Count
    init: Init = "first"


def _plan_transform(
    settings: TransformSettings, budget: Budget, *, name: str, learned: bool
) -> SeparableShape:
    """Plan as many low-frequency blocks t3 x t3 as fit.

    The two matrices (height, width) are shared by all images and channels. Learned, they start at
    the transform and are stored. Images are spread over the classes as evenly as their number
    allows.
    """
    kind: Kind = "dct2" if settings.dct_type == 2 else "dct4"
    return _plan_blocks(name, budget, settings.t3 or kept_side(budget), kind, learned, "real")


def _plan_tiles(settings: TilesSettings, budget: Budget) -> SeparableShape:
    """Plan real images shrunk by `factor`, enlarged bilinearly when decoded.

    factor^2 tiles take the room of an image if `factor` divides its side. Otherwise tiles have the
    side that is next larger and as many are stored as the budget holds, all of them whole; IDC
    stores factor^2 an image whose last ones are in part grey. Kim et al., ICML 2022, and the
    authors' code.
    """
    if settings.factor > budget.side:
        raise ValueError(f"factor is {settings.factor}; expected at most the side {budget.side}")
    side = -(-budget.side // settings.factor)
    return _plan_blocks("tiles", budget, side, "bilinear", False, settings.init)


def _plan_blocks(
    name: str, budget: Budget, side: int, kind: Kind, learned: bool, init: Init
) -> SeparableShape:
    """Plan as many square blocks of coefficients as fit beside the matrices if those are stored."""
    channels = budget.image_shape[0]
    left = budget.num_elements - (2 * side * budget.side if learned else 0)
    count = max(budget.num_classes, left // (channels * side**2))
    sizes = (count, channels, side, side)
    kernels: tuple[Kind, ...] = ("identity", "identity", kind, kind)
    return columns(name, budget, sizes, count, (False, False, learned, learned), kernels, init)


DCT, LDCT = (
    ParameterizationFamily(
        TransformSettings,
        MODULE,
        partial(_plan_transform, name=name, learned=name == "ldct"),
        SeparableShape,
    )
    for name in ("dct", "ldct")
)
TILES = ParameterizationFamily(TilesSettings, MODULE, _plan_tiles, SeparableShape)
