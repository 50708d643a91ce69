"""Choose sizes of a parameterization such that Eq. 3 holds, and say how much they use."""

from dataclasses import dataclass
from math import prod

from nsdbench.errors import BudgetExceeded
from nsdbench.parameterizations.separable import ClassScheme, PixelInit, SeparableShape

_MAX_IMAGES_PER_CLASS = 250  # our choice: every decoded image costs training time


@dataclass(frozen=True)
class StoragePlan:
    """A shape with its use of the budget, in float32 elements."""

    shape: SeparableShape
    used: int
    limit: int

    @property
    def percent(self) -> float:
        """Share of the budget that is used."""
        return 100 * self.used / self.limit


def plan_pixels(
    image_shape: tuple[int, int, int], num_classes: int, ipc: int, *, init: PixelInit = "real"
) -> StoragePlan:
    """Plan raw images: `ipc` of them per class, nothing else; `init` as of SeparableShape."""
    sizes = (num_classes * ipc, *image_shape)
    shape = SeparableShape("pixels", num_classes, 1, 1, sizes, sizes, (False,) * 4, "columns", init)
    return _checked(shape, image_shape, num_classes, ipc)


def plan_spectral(
    image_shape: tuple[int, int, int],
    num_classes: int,
    ipc: int,
    *,
    class_scheme: ClassScheme = "spectra",
    num_kernel_sets: int = 2,
    t1: int | None = None,
    u1: int | None = None,
    t3: int | None = None,
    images_per_class: int = _MAX_IMAGES_PER_CLASS,
) -> StoragePlan:
    """Plan NSD: the largest t1 that fits, then as many images per class as fit up to a cap.

    t3 = t4 is half of the image side up to ipc 10 and seven eighths above (paper, sec. 4.1). The
    paper leaves t1, u1, N_T and N_K open ("by budget", t1 < u1 in principle). Grayscale images get
    no channel matrix: a single number that T already holds.

    Args:
        image_shape: (C, H, W) with H = W.
        num_classes: classes of the data set.
        ipc: the budget in uncompressed images per class.
        class_scheme: "spectra": one spectrum a class, kernels shared; "columns": one global
            spectrum, the columns of K^(1) belong to classes.
        num_kernel_sets: N_K.
        t1, u1, t3: fix a size instead of planning it.
        images_per_class: cap on decoded images per class while u1 is planned.

    Returns:
        The plan; its shape never exceeds the budget.

    Raises:
        BudgetExceeded: nothing fits, or the sizes asked for do not.
    """
    channels, height, width = image_shape
    if height != width:
        raise ValueError(f"images are {height}x{width}; spectral sets need square images (t3 = t4)")
    if num_kernel_sets < 1:
        raise ValueError(f"num_kernel_sets is {num_kernel_sets}; at least 1 is needed")
    if t3 is None:
        t3 = height // 2 if ipc <= 10 else height * 7 // 8
    per_class = class_scheme == "spectra"

    def shape(t1: int, u1: int) -> SeparableShape:
        return SeparableShape(
            "spectral",
            num_classes,
            num_classes if per_class else 1,
            num_kernel_sets,
            (t1, channels, t3, t3),
            (u1, channels, height, width),
            (True, channels > 1, True, True),
            class_scheme,
        )

    limit = ipc * num_classes * prod(image_shape)
    step = 1 if per_class else num_classes  # whole classes of columns
    least_u1 = (lambda t: t + 1) if per_class else (lambda t: -(-(t + 1) // step) * step)
    if t1 is None:
        t1 = 1
        if shape(t1, u1 or least_u1(t1)).num_elements > limit:
            return _checked(shape(t1, u1 or least_u1(t1)), image_shape, num_classes, ipc)
        while (u1 is None or t1 + 1 < u1) and (
            shape(t1 + 1, u1 or least_u1(t1 + 1)).num_elements <= limit
        ):
            t1 += 1
    if u1 is None:
        cap = max(1, images_per_class // num_kernel_sets) * (1 if per_class else num_classes)
        u1 = least_u1(t1)
        while u1 + step <= cap and shape(t1, u1 + step).num_elements <= limit:
            u1 += step
    return _checked(shape(t1, u1), image_shape, num_classes, ipc)


def _checked(
    shape: SeparableShape, image_shape: tuple[int, int, int], num_classes: int, ipc: int
) -> StoragePlan:
    limit = ipc * num_classes * prod(image_shape)
    if shape.num_elements > limit:
        raise BudgetExceeded(
            f"t={shape.t}, u={shape.u}, {shape.num_spectra} spectra and {shape.num_kernel_sets} "
            f"kernel sets store {shape.num_elements} floats, but ipc {ipc} with {num_classes} "
            f"classes of {image_shape} images allows {limit} (Eq. 3); lower t1, u1 or N_K"
        )
    return StoragePlan(shape, shape.num_elements, limit)
