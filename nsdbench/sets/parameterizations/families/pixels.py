"""Raw images: as many as the budget counts, with learned labels on top if a recipe wants them."""

from dataclasses import replace
from typing import Annotated

from pydantic import Field, model_validator

from nsdbench.registry import Settings
from nsdbench.sets.budget import Budget
from nsdbench.sets.parameterizations.registry import ParameterizationFamily
from nsdbench.sets.parameterizations.separable_shape import MODULE, Init, SeparableShape, columns


class PixelsSettings(Settings):
    """Settings of pixels.

    Attributes:
        init: as of `SeparableShape`.
        learned_labels: a label of K numbers is stored and learned with every image.
        label_scale: as of `SeparableShape`, where labels are learned.
        over_budget: see `registry.plan`; learned labels come on top of ipc images a class.
    """

    init: Init = "real"
    learned_labels: bool = False
    label_scale: Annotated[float, Field(gt=0, le=1e6)] = 1.0
    over_budget: bool = False

    @model_validator(mode="after")
    def _scales_what_is_learned(self) -> "PixelsSettings":
        if self.label_scale != 1 and not self.learned_labels:
            raise ValueError(
                f"`label_scale` is {self.label_scale:g} and scales labels that are learned; set "
                "`learned_labels` to true, or leave it at 1"
            )
        return self


def _plan(settings: PixelsSettings, budget: Budget) -> SeparableShape:
    """Plan `ipc` images per class, whatever labels take."""
    count = budget.num_classes * budget.ipc
    sizes = (count, *budget.image_shape)
    shape = columns("pixels", budget, sizes, count, (False,) * 4, (), settings.init)
    return replace(shape, label_scale=settings.label_scale) if settings.learned_labels else shape


PIXELS = ParameterizationFamily(PixelsSettings, MODULE, _plan, SeparableShape)
