"""Raw images: as many as the budget counts."""

from nsdbench.registry import Settings
from nsdbench.sets.budget import Budget
from nsdbench.sets.parameterizations.registry import ParameterizationFamily
from nsdbench.sets.parameterizations.separable_shape import MODULE, Init, SeparableShape


class PixelsSettings(Settings):
    """Settings of pixels; `init` as of `SeparableShape`."""

    init: Init = "real"


def _plan(settings: PixelsSettings, budget: Budget) -> SeparableShape:
    """Plan `ipc` images per class, and nothing else."""
    sizes = (budget.num_classes * budget.ipc, *budget.image_shape)
    return SeparableShape(
        "pixels",
        budget.num_classes,
        1,
        1,
        sizes,
        sizes,
        (False,) * 4,
        "columns",
        settings.init,
    )


PIXELS = ParameterizationFamily(PixelsSettings, MODULE, _plan, SeparableShape)
