"""NSD: spectra and learned matrices, as many and as large as the budget holds."""

from typing import Annotated

from pydantic import Field, model_validator

from nsdbench.registry import Count, Settings
from nsdbench.sets.budget import Budget
from nsdbench.sets.parameterizations.registry import ParameterizationFamily
from nsdbench.sets.parameterizations.separable_shape import (
    MAX_IMAGES_PER_CLASS,
    MODULE,
    ClassScheme,
    Init,
    Kind,
    SeparableShape,
)


class SpectralSettings(Settings):
    """Settings of NSD.

    Attributes:
        class_scheme: "spectra": one spectrum a class, kernels shared; "columns": one global
            spectrum, the columns of K^(1) belong to classes.
        num_kernel_sets: N_K.
        t1, u1, t3: fix a size instead of planning it.
        images_per_class: cap on decoded images per class while u1 is planned.
        init: "noise", the paper's random start; or "real" (or "first") images: a slice of T
            encodes one, K^(1) copies it but for noise, K^(3) and K^(4) start at the DCT.
        init_scale: as of `SeparableShape`.
    """

    class_scheme: ClassScheme = "spectra"
    num_kernel_sets: Count = 2
    t1: Count | None = None
    u1: Count | None = None
    t3: Count | None = None
    images_per_class: Count = MAX_IMAGES_PER_CLASS
    init: Init = "noise"
    init_scale: Annotated[float, Field(gt=0, le=1e6)] = 1.0

    @model_validator(mode="after")
    def _columns_start_at_noise(self) -> "SpectralSettings":
        if self.init != "noise" and self.class_scheme == "columns":
            raise ValueError(
                f'init is {self.init!r}; class_scheme "columns" starts at noise, set '
                'parameterization.init to "noise"'
            )
        return self


def kept_side(budget: Budget) -> int:
    """Return t3: half of the side up to ipc 10, seven eighths above (paper, sec. 4.1)."""
    return budget.side // 2 if budget.ipc <= 10 else budget.side * 7 // 8


def _plan(settings: SpectralSettings, budget: Budget) -> SeparableShape:
    """Plan the largest t1 that fits, then as many images per class as fit up to the cap.

    The paper leaves t1, u1, N_T and N_K open ("by budget", t1 < u1 in principle). Grayscale images
    get no channel matrix: a single number that T already holds.
    """
    channels, side = budget.image_shape[0], budget.side
    t3 = settings.t3 or kept_side(budget)
    per_class = settings.class_scheme == "spectra"
    step = 1 if per_class else budget.num_classes  # whole classes of columns
    channel_kernel: Kind = "tiled" if channels > 1 else "identity"

    def shape(t1: int, u1: int) -> SeparableShape:
        return SeparableShape(
            "spectral",
            budget.num_classes,
            budget.num_classes if per_class else 1,
            settings.num_kernel_sets,
            (t1, channels, t3, t3),
            (u1, channels, side, side),
            (True, channels > 1, True, True),
            settings.class_scheme,
            settings.init,
            () if settings.init == "noise" else ("tiled", channel_kernel, "dct2", "dct2"),
            settings.init_scale,
        )

    def room(t1: int, u1: int) -> int:
        return budget.num_elements - shape(t1, u1).num_elements

    def least_u1(t1: int) -> int:
        return (t1 // step + 1) * step

    t1, u1 = settings.t1, settings.u1
    if t1 is None:
        t1 = 1
        while (u1 is None or t1 + 1 < u1) and room(t1 + 1, u1 or least_u1(t1 + 1)) >= 0:
            t1 += 1
    if u1 is None:
        u1 = least_u1(t1)
        cap = max(1, settings.images_per_class // settings.num_kernel_sets) * step
        more = min(cap - u1, room(t1, u1) // (settings.num_kernel_sets * t1))
        u1 += max(0, more) // step * step
    return shape(t1, u1)


SPECTRAL = ParameterizationFamily(SpectralSettings, MODULE, _plan, SeparableShape)
