"""Raw images: as many as the budget counts."""

from nsdbench.registry import Settings
from nsdbench.sets.budget import Budget
from nsdbench.sets.parameterizations.registry import ParameterizationFamily
from nsdbench.sets.parameterizations.separable_shape import MODULE, Init, SeparableShape, columns


class PixelsSettings(Settings):
    """Settings of pixels; `init` as of `SeparableShape`."""

    init: Init = "real"


def _plan(settings: PixelsSettings, budget: Budget) -> SeparableShape:
    """Plan `ipc` images per class, and nothing else."""
    count = budget.num_classes * budget.ipc
    sizes = (count, *budget.image_shape)
    return columns("pixels", budget, sizes, count, (False,) * 4, (), settings.init)


PIXELS = ParameterizationFamily(PixelsSettings, MODULE, _plan, SeparableShape)
