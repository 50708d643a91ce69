"""Sizes of a separable set and what may stand in each mode; the module is `separable`; no torch."""

from dataclasses import dataclass
from math import prod
from typing import Literal, get_args

from nsdbench.sets.budget import Budget

MODULE = "nsdbench.sets.parameterizations.separable:Separable"  # what decodes these sizes
MAX_IMAGES_PER_CLASS = 250  # our choice: every decoded image costs training time
MAX_LENGTH = 4096  # of a channel, row or column; our choice, far beyond any image here
MODES = (1, 2, 3, 4)
FORMULAS = ("bilinear", "dct2", "dct4")  # those of `axis_kernels`

ClassScheme = Literal["spectra", "columns"]
Init = Literal["real", "first", "noise"]
Kind = Literal["identity", "noise", "xavier", "data", "tiled", "bilinear", "dct2", "dct4"]
KINDS = get_args(Kind)


@dataclass(frozen=True)
class SeparableShape:
    """Sizes of a separable set.

    Attributes:
        name: of the parameterization: "pixels", "spectral", ...
        num_classes: classes of the data set.
        num_spectra, num_kernel_sets: N_T and N_K of Eq. 1.
        t: lengths of the spectrum's modes.
        u: lengths of the decoded modes; u[1:] is the image shape.
        learned: which modes have a learned matrix [t_n, u_n].
        class_scheme: "spectra": every spectrum belongs to one class (spectrum i to class
            i * num_classes // num_spectra); "columns": every column of K^(1) does, in the same way.
        init: where spectra start if no matrix is noise or data: at "real" images drawn at random,
            at the "first" images of every class, or at "noise" of N(0, 1).
        kernels: where the matrix of each mode comes from: "identity" (there is none), the formulas
            of `axis_kernels`, "noise", "xavier" (mode 1 only), the "data" (singular value
            decomposition, mode 1 only), or "tiled" (learned, modes 1 and 2: column r of set j
            starts at row (j u_n + r) mod t_n of the identity, plus N(0, 0.1^2) in every entry).
            Empty: noise where learned, else identity. A formula that is not learned is not stored.
        init_scale: where a matrix is noise: the standard deviation of decoded pixels at the start,
            in units of that of preprocessed real pixels.
        label_scale: a label [K] of every image is stored and learned, and starts at this times
            (one-hot - 1/K), K the classes; None: classes are all there is.
    """

    name: str
    num_classes: int
    num_spectra: int
    num_kernel_sets: int
    t: tuple[int, int, int, int]
    u: tuple[int, int, int, int]
    learned: tuple[bool, bool, bool, bool]
    class_scheme: ClassScheme
    init: Init = "real"
    kernels: tuple[Kind, ...] = ()
    init_scale: float = 1.0
    label_scale: float | None = None

    def __post_init__(self) -> None:
        kernels = self.kernels or ["noise" if learned else "identity" for learned in self.learned]
        object.__setattr__(self, "kernels", kernels)
        for name in ("t", "u", "learned", "kernels"):  # JSON brings lists
            object.__setattr__(self, name, tuple(getattr(self, name)))
        counts = (self.num_classes, self.num_spectra, self.num_kernel_sets)
        if any(type(count) is not int or count < 1 for count in counts):
            raise ValueError(
                f"there are {counts} classes, spectra and kernel sets; expected whole numbers of "
                "at least 1"
            )
        if self.class_scheme not in ("spectra", "columns"):
            raise ValueError(
                f'class_scheme is {self.class_scheme!r}; expected "spectra" or "columns"'
            )
        if self.init not in ("real", "first", "noise"):
            raise ValueError(f'init is {self.init!r}; expected "real", "first" or "noise"')
        if not 0 < self.init_scale < float("inf"):
            raise ValueError(f"init_scale is {self.init_scale}; expected a positive number")
        if self.label_scale is not None and not 0 < self.label_scale < float("inf"):
            raise ValueError(f"label_scale is {self.label_scale}; expected a positive number")
        if self.num_owners < self.num_classes:
            raise ValueError(
                f"{self.num_owners} {self.class_scheme} cannot own {self.num_classes} classes; "
                "every class needs at least one"
            )
        for mode in MODES:
            self._check_mode(mode)
        if "data" in self.kernels and (
            self.kernels != ("data", "identity", "identity", "identity") or self.num_spectra > 1
        ):
            raise ValueError(
                f'kernels are {self.kernels}; "data" stands in mode 1 alone, beside one spectrum'
            )
        if "data" in self.kernels and self.t[0] > min(self.u[0], prod(self.u[1:])):
            raise ValueError(
                f"{self.u[0]} images of {prod(self.u[1:])} elements have at most "
                f"{min(self.u[0], prod(self.u[1:]))} singular vectors; t1 is {self.t[0]}, lower it"
            )

    def _check_mode(self, mode: int) -> None:
        t, u, kind = self.t[mode - 1], self.u[mode - 1], self.kernels[mode - 1]
        if type(t) is not int or type(u) is not int or t < 1 or u < 1:
            raise ValueError(
                f"mode {mode} has lengths t={t!r}, u={u!r}; both must be whole numbers of at least "
                "1"
            )
        if mode > 1 and max(t, u) > MAX_LENGTH:
            raise ValueError(f"mode {mode} has lengths {t} and {u}; expected at most {MAX_LENGTH}")
        if kind not in KINDS:
            raise ValueError(f"mode {mode} has kernel {kind!r}; expected {', '.join(KINDS)}")
        if kind == "identity" and (t != u or self.learned[mode - 1]):
            raise ValueError(
                f"mode {mode} has no kernel, so t={t} must equal u={u} and nothing is learned; "
                "give the mode a kernel"
            )
        if kind == "tiled" and (
            mode > 2 or not self.learned[mode - 1] or self.class_scheme == "columns"
        ):
            raise ValueError(
                f'mode {mode} has kernel "tiled"; it stands in modes 1 and 2, is learned, and '
                "wants spectra that own classes"
            )
        if kind == "tiled" and (t > u or (mode == 2 and t != u)):
            raise ValueError(
                f'mode {mode} has kernel "tiled" with t={t}, u={u}; copies need t <= u, channels '
                "t = u"
            )
        if kind == "xavier" and (
            mode > 1 or not self.learned[0] or self.num_spectra * self.num_kernel_sets > 1
        ):
            raise ValueError(
                f'mode {mode} has kernel "xavier"; it stands in mode 1, is learned, and wants one '
                "spectrum and one kernel set"
            )
        if kind in FORMULAS and (mode == 1 or t > u):
            raise ValueError(
                f"mode {mode} has kernel {kind!r} with t={t}, u={u}; it stands in modes 2 to 4 and "
                "needs t <= u"
            )

    def is_stored(self, mode: int) -> bool:
        """Say whether a mode's matrices are stored: not if a formula alone gives them."""
        return self.learned[mode - 1] or self.kernels[mode - 1] in ("noise", "data")

    @property
    def num_elements(self) -> int:
        """Stored elements: spectra, stored matrices and labels (left-hand side of Eq. 3)."""
        t1, t2, t3, t4 = self.t
        kernels = sum(self.t[n - 1] * self.u[n - 1] for n in MODES if self.is_stored(n))
        labels = 0 if self.label_scale is None else self.num_images * self.num_classes
        return self.num_spectra * t1 * t2 * t3 * t4 + self.num_kernel_sets * kernels + labels

    @property
    def num_owners(self) -> int:
        """Spectra or columns that classes own, see `class_scheme`."""
        return self.num_spectra if self.class_scheme == "spectra" else self.u[0]

    @property
    def num_images(self) -> int:
        """Images that all pairs of a spectrum and a kernel set decode to."""
        return self.num_spectra * self.num_kernel_sets * self.u[0]


def columns(
    name: str,
    budget: Budget,
    t: tuple[int, int, int, int],
    count: int,
    learned: tuple[bool, bool, bool, bool],
    kernels: tuple[Kind, ...],
    init: Init = "real",
) -> SeparableShape:
    """Describe one spectrum and one kernel set whose `count` columns, an image each, own classes.

    Args:
        name, t, learned, kernels, init: as of `SeparableShape`.
        budget: has the classes and the image shape.
        count: images.
    """
    u = (count, *budget.image_shape)
    return SeparableShape(name, budget.num_classes, 1, 1, t, u, learned, "columns", init, kernels)
