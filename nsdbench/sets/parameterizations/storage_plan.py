"""Choose sizes of a parameterization such that Eq. 3 holds, and say how much they use."""

from dataclasses import dataclass
from math import prod

from nsdbench.errors import BudgetExceeded
from nsdbench.sets.budget import limit_bits
from nsdbench.sets.parameterizations.base import Shape
from nsdbench.sets.parameterizations.separable import ClassScheme, Init, Kind, SeparableShape

_MAX_IMAGES_PER_CLASS = 250  # our choice: every decoded image costs training time


@dataclass(frozen=True)
class StoragePlan:
    """A shape with its use of the budget, in float32 elements."""

    shape: Shape
    used: int
    limit: int

    @property
    def percent(self) -> float:
        """Share of the budget that is used."""
        return 100 * self.used / self.limit


def plan_pixels(
    image_shape: tuple[int, int, int], num_classes: int, ipc: int, *, init: Init = "real"
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
    init: Init = "noise",
    init_scale: float = 1.0,
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
        init: "noise", the paper's random start; or "real" (or "first") images: a slice of T
            encodes one, K^(1) copies it but for noise, K^(3) and K^(4) start at the DCT.
        init_scale: as of `SeparableShape`.

    Returns:
        The plan; its shape never exceeds the budget.

    Raises:
        BudgetExceeded: nothing fits, or the sizes asked for do not.
    """
    channels, height, width = image_shape
    _check_square("spectral", image_shape)
    if num_kernel_sets < 1:
        raise ValueError(f"num_kernel_sets is {num_kernel_sets}; at least 1 is needed")
    if t3 is None:
        t3 = _kept(image_shape, ipc)
    per_class = class_scheme == "spectra"
    if init != "noise" and not per_class:
        raise ValueError(
            f'init is {init!r}; class_scheme "columns" starts at noise, set parameterization.init '
            'to "noise"'
        )
    channel_kernel = "tiled" if channels > 1 else "identity"
    kernels = None if init == "noise" else ("tiled", channel_kernel, "dct2", "dct2")

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
            init,
            kernels,
            init_scale,
        )

    limit = _limit(image_shape, num_classes, ipc)
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


def plan_dct(
    image_shape: tuple[int, int, int],
    num_classes: int,
    ipc: int,
    *,
    learned: bool,
    dct_type: int = 2,
    t3: int | None = None,
) -> StoragePlan:
    """Plan DCT or, with learned matrices, LDCT: as many low-frequency blocks t3 x t3 as fit.

    The two matrices (height, width) are shared by all images and channels. Learned, they start at
    the transform and are stored. Images are spread over the classes as evenly as their number
    allows.

    Args:
        image_shape, num_classes, ipc: as of `plan_spectral`.
        learned: whether the matrices are.
        dct_type: 2, or 4 for the paper's Eq. 4 with indices from 0 (`axis_kernels.dct4`).
        t3: coefficients kept of each axis; None for NSD's (paper, sec. 4.1).

    Raises:
        BudgetExceeded: not one image per class fits.
    """
    if dct_type not in (2, 4):
        raise ValueError(f"dct_type is {dct_type!r}; expected 2 or 4")
    t3 = _kept(image_shape, ipc) if t3 is None else t3
    name, kind = "ldct" if learned else "dct", f"dct{dct_type}"
    return _plan_blocks(name, image_shape, num_classes, ipc, t3, kind, learned, "real")


def plan_tiles(
    image_shape: tuple[int, int, int],
    num_classes: int,
    ipc: int,
    *,
    factor: int,
    init: Init = "first",
) -> StoragePlan:
    """Plan IDC's tiles: real images shrunk by `factor`, enlarged bilinearly when decoded.

    factor^2 tiles take the room of an image if `factor` divides its side. Otherwise tiles have the
    side that is next larger and as many are stored as the budget holds, all of them whole; IDC
    stores factor^2 an image whose last ones are in part grey. Kim et al., ICML 2022, and the
    authors' code: its start "mix" takes the first images of every class in the order of the data.

    Args:
        image_shape, num_classes, ipc: as of `plan_spectral`.
        factor: 2, or 3 for ImageNet; 1 is raw pixels.
        init: as of `SeparableShape`.
    """
    _check_square("tiles", image_shape)
    if not 1 <= factor <= image_shape[1]:
        raise ValueError(f"factor is {factor}; expected 1 to the side {image_shape[1]} of an image")
    side = -(-image_shape[1] // factor)
    return _plan_blocks("tiles", image_shape, num_classes, ipc, side, "bilinear", False, init)


def plan_svd(
    image_shape: tuple[int, int, int],
    num_classes: int,
    ipc: int,
    *,
    learned: bool,
    share: float,
    images_per_class: int = _MAX_IMAGES_PER_CLASS,
) -> StoragePlan:
    """Plan SVD or, with a learned matrix, LSVD: t1 singular vectors, then images as many as fit.

    Both store K^(1) = S U^T [t1, u1], which is data whether it is learned or not. The paper leaves
    t1 open ("by Eq. 3").

    Args:
        image_shape, num_classes, ipc: as of `plan_spectral`.
        learned: whether K^(1) is.
        share: of the budget that the singular vectors take, rounded down to whole ones: t1 is
            share * ipc * num_classes, less where that would be more than one for two images.
        images_per_class: cap on decoded images per class.
    """
    if not 0 < share < 1:
        raise ValueError(f"share is {share}; expected a part of the budget between 0 and 1")
    t1 = max(1, int(share * ipc * num_classes + 1e-9))
    limit, size = _limit(image_shape, num_classes, ipc), prod(image_shape)
    while t1 > 1 and 2 * t1 > _columns(limit, t1, size, num_classes, images_per_class):
        t1 -= 1
    name, kinds = "lsvd" if learned else "svd", ("data", "identity", "identity", "identity")
    return _plan_mixtures(
        name, image_shape, num_classes, ipc, t1, images_per_class, 1, kinds, learned
    )


def plan_bases(
    image_shape: tuple[int, int, int],
    num_classes: int,
    ipc: int,
    *,
    t1: int,
    factor: int,
    images_per_class: int = _MAX_IMAGES_PER_CLASS,
) -> StoragePlan:
    """Plan addressable memories: t1 small bases shared by all classes, and an address per image.

    An image is its address times the bases, enlarged bilinearly by `factor`. Deng and Russakovsky,
    NeurIPS 2022, and the authors' code (16 bases, factor 2 for CIFAR10 at ipc 1).

    Args:
        image_shape, num_classes, ipc: as of `plan_spectral`.
        t1: bases K.
        factor: by which bases are smaller than images.
        images_per_class: cap on decoded images per class.
    """
    _check_square("bases", image_shape)
    if factor < 1 or image_shape[1] % factor:
        raise ValueError(f"factor is {factor}; expected a divisor of the side {image_shape[1]}")
    kinds = ("noise", "identity", "bilinear", "bilinear")
    return _plan_mixtures(
        "bases", image_shape, num_classes, ipc, t1, images_per_class, factor, kinds, True
    )


def _plan_blocks(
    name: str,
    image_shape: tuple[int, int, int],
    num_classes: int,
    ipc: int,
    side: int,
    kind: Kind,
    learned: bool,
    init: Init,
) -> StoragePlan:
    """Plan as many square blocks of coefficients as fit beside the matrices if those are stored."""
    _check_square(name, image_shape)
    channels, height, width = image_shape
    left = _limit(image_shape, num_classes, ipc) - (2 * side * height if learned else 0)
    count = max(num_classes, left // max(1, channels * side**2))
    shape = SeparableShape(
        name,
        num_classes,
        1,
        1,
        (count, channels, side, side),
        (count, channels, height, width),
        (False, False, learned, learned),
        "columns",
        init,
        ("identity", "identity", kind, kind),
    )
    return _checked(shape, image_shape, num_classes, ipc)


def _plan_mixtures(
    name: str,
    image_shape: tuple[int, int, int],
    num_classes: int,
    ipc: int,
    t1: int,
    images_per_class: int,
    factor: int,
    kinds: tuple[Kind, Kind, Kind, Kind],
    learned: bool,
) -> StoragePlan:
    """Plan images that are mixtures of t1 spectra slices: whole classes of columns, up to a cap."""
    if t1 < 1 or images_per_class < 1:
        raise ValueError(
            f"t1 is {t1} and images_per_class {images_per_class}; both must be at least 1"
        )
    channels, height, width = image_shape
    sides = (height // factor, width // factor)
    limit = _limit(image_shape, num_classes, ipc)
    count = _columns(limit, t1, channels * prod(sides), num_classes, images_per_class)
    shape = SeparableShape(
        name,
        num_classes,
        1,
        1,
        (t1, channels, *sides),
        (count, *image_shape),
        (learned, False, False, False),
        "columns",
        kernels=kinds,
    )
    return _checked(shape, image_shape, num_classes, ipc)


def _columns(limit: int, t1: int, size: int, num_classes: int, images_per_class: int) -> int:
    """Count the columns of t1 numbers that fit beside t1 vectors: whole classes, at least one."""
    per_class = (limit - t1 * size) // (t1 * num_classes)
    return num_classes * min(images_per_class, max(1, per_class))


def _kept(image_shape: tuple[int, int, int], ipc: int) -> int:
    """Return t3: half of the side up to ipc 10, seven eighths above (paper, sec. 4.1)."""
    return image_shape[1] // 2 if ipc <= 10 else image_shape[1] * 7 // 8


def _check_square(name: str, image_shape: tuple[int, int, int]) -> None:
    _, height, width = image_shape
    if height != width:
        raise ValueError(f"images are {height}x{width}; {name} sets need square images (t3 = t4)")


def _limit(image_shape: tuple[int, int, int], num_classes: int, ipc: int) -> int:
    return limit_bits(image_shape, num_classes, ipc) // 32


def _checked(
    shape: SeparableShape, image_shape: tuple[int, int, int], num_classes: int, ipc: int
) -> StoragePlan:
    limit = _limit(image_shape, num_classes, ipc)
    if shape.num_elements > limit:
        raise BudgetExceeded(
            f"t={shape.t}, u={shape.u}, {shape.num_spectra} spectra and {shape.num_kernel_sets} "
            f"kernel sets store {shape.num_elements} floats, but ipc {ipc} with {num_classes} "
            f"classes of {image_shape} images allows {limit} (Eq. 3); lower t1, u1 or N_K"
        )
    return StoragePlan(shape, shape.num_elements, limit)
