"""Images that are mixtures of a few vectors: SVD, LSVD, and bases with an address per image."""

from functools import partial
from math import prod
from typing import Annotated

from pydantic import Field

from nsdbench.registry import Count, Settings
from nsdbench.sets.budget import Budget
from nsdbench.sets.parameterizations.registry import ParameterizationFamily
from nsdbench.sets.parameterizations.separable_shape import (
    MAX_IMAGES_PER_CLASS,
    MODULE,
    SeparableShape,
    columns,
)


class SvdSettings(Settings):
    """Settings of SVD and LSVD.

    Attributes:
        share: of the budget that the singular vectors take, rounded down to whole ones: t1 is
            share * ipc * num_classes, less where that would be more than one for two images.
        images_per_class: cap on decoded images per class.
    """

    share: Annotated[float, Field(gt=0, lt=1)]
    images_per_class: Count = MAX_IMAGES_PER_CLASS


class BasesSettings(Settings):
    """Settings of bases.

    Attributes:
        t1: bases.
        factor: by which bases are smaller than images.
        images_per_class: cap on decoded images per class.
    """

    t1: Count
    factor: Count
    images_per_class: Count = MAX_IMAGES_PER_CLASS


def _plan_svd(settings: SvdSettings, budget: Budget, *, name: str, learned: bool) -> SeparableShape:
    """Plan t1 singular vectors, then images as many as fit.

    SVD and LSVD store K^(1) = S U^T [t1, u1], which is data whether it is learned or not. The paper
    leaves t1 open ("by Eq. 3").
    """
    t1 = max(1, int(settings.share * budget.ipc * budget.num_classes + 1e-9))
    while t1 > 1 and 2 * t1 > _count(budget, t1, 1, settings.images_per_class):
        t1 -= 1
    count = _count(budget, t1, 1, settings.images_per_class)
    return columns(
        name,
        budget,
        (t1, *budget.image_shape),
        count,
        (learned, False, False, False),
        ("data", "identity", "identity", "identity"),
    )


def _plan_bases(settings: BasesSettings, budget: Budget) -> SeparableShape:
    """Plan addressable memories: t1 small bases shared by all classes, and an address per image.

    An image is its address times the bases, enlarged bilinearly by `factor`; both start at noise.
    Deng and Russakovsky, NeurIPS 2022, and the authors' code (16 bases, factor 2 for CIFAR10 at ipc
    1).
    """
    if budget.side % settings.factor:
        raise ValueError(
            f"factor is {settings.factor}; expected a divisor of the side {budget.side}"
        )
    count = _count(budget, settings.t1, settings.factor, settings.images_per_class)
    return columns(
        "bases",
        budget,
        (settings.t1, *_small(budget, settings.factor)),
        count,
        (True, False, False, False),
        ("xavier", "identity", "bilinear", "bilinear"),
    )


def _count(budget: Budget, t1: int, factor: int, images_per_class: int) -> int:
    """Count the columns of t1 numbers that fit beside t1 vectors: whole classes, at least one."""
    left = budget.num_elements - t1 * prod(_small(budget, factor))
    return budget.num_classes * min(images_per_class, max(1, left // (t1 * budget.num_classes)))


def _small(budget: Budget, factor: int) -> tuple[int, int, int]:
    channels, height, width = budget.image_shape
    return channels, height // factor, width // factor


SVD, LSVD = (
    ParameterizationFamily(
        SvdSettings,
        MODULE,
        partial(_plan_svd, name=name, learned=name == "lsvd"),
        SeparableShape,
    )
    for name in ("svd", "lsvd")
)
BASES = ParameterizationFamily(BasesSettings, MODULE, _plan_bases, SeparableShape)
