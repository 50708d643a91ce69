"""Sets that decode by one matrix per mode: pixels, tiles, DCT, SVD, bases, and NSD.

    x[i, j] = T_i  x1 K_j^(1)  x2 K_j^(2)  x3 K_j^(3)  x4 K_j^(4)             (Eq. 1, Eq. 2)

for all pairs of a spectrum T_i [t1, t2, t3, t4] and a kernel set j of matrices [t_n, u_n]. Modes
are (sample, channel, height, width); a pair gives a block of u1 images [u2, u3, u4]. What a method
is follows from the kind of matrix of each mode and from which of them are learned: `storage_plan`
builds each of them.
"""

from dataclasses import asdict, dataclass
from math import prod
from typing import Literal

import torch
from torch import Tensor, nn

from nsdbench import ops
from nsdbench.data.training import TrainingData
from nsdbench.ops.reference import mode_product
from nsdbench.sets.budget import Entry, Ledger
from nsdbench.sets.parameterizations.axis_kernels import ANALYTIC, encoder
from nsdbench.sets.parameterizations.base import Parameterization

ClassScheme = Literal["spectra", "columns"]
Init = Literal["real", "first", "noise"]
Kind = Literal["identity", "noise", "data", "tiled", "bilinear", "dct2", "dct4"]
_KINDS = ("identity", "noise", "data", "tiled", *ANALYTIC)
_TILED_NOISE = 0.1  # our choice, for every entry: tells copies of one slice apart
_MODES = (1, 2, 3, 4)


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
            of `axis_kernels`, "noise", the "data" (singular value decomposition, mode 1 only), or
            "tiled" (learned, modes 1 and 2: column r of set j starts at row (j u_n + r) mod t_n of
            the identity, plus N(0, 0.1^2) in every entry).
            None: noise where learned, else identity. A formula that is not learned is not stored.
        init_scale: where a matrix is noise: the standard deviation of decoded pixels at the start,
            in units of that of preprocessed real pixels.
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
    kernels: tuple[Kind, Kind, Kind, Kind] | None = None
    init_scale: float = 1.0

    def __post_init__(self) -> None:
        kernels = self.kernels or ["noise" if learned else "identity" for learned in self.learned]
        object.__setattr__(self, "kernels", kernels)
        for name in ("t", "u", "learned", "kernels"):  # JSON brings lists
            object.__setattr__(self, name, tuple(getattr(self, name)))
        owners = self.num_spectra if self.class_scheme == "spectra" else self.u[0]
        if self.class_scheme not in ("spectra", "columns"):
            raise ValueError(
                f'class_scheme is {self.class_scheme!r}; expected "spectra" or "columns"'
            )
        if self.init not in ("real", "first", "noise"):
            raise ValueError(f'init is {self.init!r}; expected "real", "first" or "noise"')
        if not 0 < self.init_scale < float("inf"):
            raise ValueError(f"init_scale is {self.init_scale}; expected a positive number")
        if owners < self.num_classes:
            raise ValueError(
                f"{owners} {self.class_scheme} cannot own {self.num_classes} classes; every class "
                "needs at least one"
            )
        for mode in _MODES:
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
        if kind not in _KINDS:
            raise ValueError(f"mode {mode} has kernel {kind!r}; expected {', '.join(_KINDS)}")
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
        if kind in ANALYTIC and (mode == 1 or t > u):
            raise ValueError(
                f"mode {mode} has kernel {kind!r} with t={t}, u={u}; it stands in modes 2 to 4 and "
                "needs t <= u"
            )

    def is_stored(self, mode: int) -> bool:
        """Say whether a mode's matrices are stored: not if a formula alone gives them."""
        return self.learned[mode - 1] or self.kernels[mode - 1] in ("noise", "data")

    @property
    def num_elements(self) -> int:
        """Stored elements: spectra and stored matrices (left-hand side of Eq. 3)."""
        t1, t2, t3, t4 = self.t
        kernels = sum(self.t[n - 1] * self.u[n - 1] for n in _MODES if self.is_stored(n))
        return self.num_spectra * t1 * t2 * t3 * t4 + self.num_kernel_sets * kernels

    @property
    def labels(self) -> Tensor:
        """[N_T * N_K * u1] class of every image, in the order of `ops.reconstruct`."""
        owners = self.num_spectra if self.class_scheme == "spectra" else self.u[0]
        classes = torch.arange(owners) * self.num_classes // owners
        per_pair = (self.num_spectra, self.num_kernel_sets, self.u[0])
        if self.class_scheme == "spectra":
            return classes.view(-1, 1, 1).expand(per_pair).reshape(-1)
        return classes.view(1, 1, -1).expand(per_pair).reshape(-1)

    def build(self) -> "Separable":
        """Build the module of this shape."""
        return Separable(self)


class Separable(Parameterization):
    """A learned set of spectra and matrices.

    Args:
        shape: its sizes.

    Attributes:
        spectra: [N_T, t1, t2, t3, t4] float32 parameter.
        kernels: of every stored mode n under the key "n", [N_K, t_n, u_n] float32; learned ones
            require gradients.
    """

    def __init__(self, shape: SeparableShape):
        super().__init__()
        self.shape = shape
        self.settings = asdict(shape)
        self.register_buffer("labels", shape.labels, persistent=False)
        self.spectra = nn.Parameter(torch.zeros(shape.num_spectra, *shape.t))
        self.register_buffer("bounds", None, persistent=False)
        self.kernels = nn.ParameterDict()
        for mode in _MODES:
            t, u, kind = shape.t[mode - 1], shape.u[mode - 1], shape.kernels[mode - 1]
            sizes = (shape.num_kernel_sets, t, u)
            if shape.is_stored(mode):
                matrices = nn.Parameter(torch.zeros(sizes), requires_grad=shape.learned[mode - 1])
                self.kernels[str(mode)] = matrices
            elif kind != "identity":
                matrices = ANALYTIC[kind](t, u).float().repeat(shape.num_kernel_sets, 1, 1)
                self.register_buffer(f"formula{mode}", matrices, persistent=False)

    def _matrices(self, mode: int) -> Tensor | None:
        """Return [N_K, t_n, u_n] of a mode, None for the identity."""
        if str(mode) in self.kernels:
            return self.kernels[str(mode)]
        return getattr(self, f"formula{mode}", None)

    def decode(
        self, index: Tensor | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Decode all images or the rows asked for; see the base class."""
        images = ops.reconstruct(self.spectra, [self._matrices(n) for n in _MODES], index)
        return images, self.labels if index is None else self.labels[index]

    @torch.no_grad()
    def initialize(self, real: TrainingData, generator: torch.Generator) -> None:
        """Start from noise, from the singular vectors of real images, or from encoded real images.

        Noise: T ~ N(0, s^2) and K^(n) ~ N(0, 1/t_n) give decoded pixels the variance s^2 exactly
        (with no other matrices), since every pixel is a sum of t1 t2 t3 t4 products with variance
        s^2 / (t1 t2 t3 t4); s is `init_scale` times the standard deviation of preprocessed real
        pixels. The random start is the paper's (sec. 4.1), the scales are our choice.
        Data: real images, a row each, are X = U S V^T; T holds the first t1 rows of V^T and K^(1)
        those of S U^T, so that decoding gives the best approximation of rank t1 (paper, sec. 4.4).
        Otherwise: T encodes real images (`axis_kernels.encoder`), one a column of K^(1), or one a
        slice of T where K^(1) is tiled; a pair then starts at noisy copies of t1 images.
        Tiles remember what black and white are, see `constrain`.
        """
        if self.shape.name == "tiles" and real.preprocessing.kind == "standardise":
            ends = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1)
            self.bounds = real.preprocessing.apply(ends.expand(2, self.shape.u[1], 1, 1))
        for mode, kernel in self.kernels.items():
            if self._kind(int(mode)) in ANALYTIC:
                kernel.copy_(ANALYTIC[self._kind(int(mode))](*kernel.shape[1:]))
            elif self._kind(int(mode)) == "tiled":
                noise = torch.randn(kernel.shape, generator=generator)
                kernel.copy_(_tiled(*kernel.shape) + _TILED_NOISE * noise)
        if "noise" in self.shape.kernels:
            self._start_from_noise(real, generator)
        elif "data" in self.shape.kernels:
            images = self._real_images(real, generator).double().flatten(1)
            left, values, right = torch.linalg.svd(images, full_matrices=False)
            t1 = self.shape.t[0]
            self.spectra.copy_(right[:t1].view(self.spectra.shape))
            self.kernels["1"].copy_((left[:, :t1] * values[:t1]).T)
        elif self.shape.init == "noise":
            self.spectra.copy_(torch.randn(self.spectra.shape, generator=generator))
        else:
            images = self._real_images(real, generator)
            for mode in _MODES:
                if self._kind(mode) in ANALYTIC:
                    t, u = self.shape.t[mode - 1], self.shape.u[mode - 1]
                    matrix = encoder(self._kind(mode), t, u).to(images)
                    images = mode_product(images, matrix, mode - 1)
            self.spectra.copy_(images.view_as(self.spectra))

    @torch.no_grad()
    def constrain(self) -> None:
        """Keep tiles between black and white, after every update.

        IDC's code clamps less often: once before each network's steps, never after the last.
        Whitened tiles have no such range, and other sets are free.
        """
        if self.bounds is not None:
            self.spectra.clamp_(*self.bounds)

    def _kind(self, mode: int) -> Kind:
        return self.shape.kernels[mode - 1]

    def _start_from_noise(self, real: TrainingData, generator: torch.Generator) -> None:
        scale = self.shape.init_scale * real.pixel_std()
        self.spectra.copy_(torch.randn(self.spectra.shape, generator=generator) * scale)
        for mode, kernel in self.kernels.items():
            if self._kind(int(mode)) == "noise":
                t = kernel.shape[1]
                kernel.copy_(torch.randn(kernel.shape, generator=generator) * t**-0.5)

    def _real_images(self, real: TrainingData, generator: torch.Generator) -> Tensor:
        """Take a real image of its class for every image that kernel set 0 decodes: [N_T * u1].

        Where columns are tiles: for every slice, [N_T * t1].
        """
        shape = self.shape
        owned = self.labels.cpu().view(shape.num_spectra, -1, shape.u[0])[:, 0]
        owned = (owned[:, : shape.t[0]] if self._kind(1) == "tiled" else owned).flatten()
        rows = torch.empty_like(owned)
        for label, count in enumerate(torch.bincount(owned, minlength=shape.num_classes).tolist()):
            there = len(real.rows_of_class(label))
            if "data" in shape.kernels and count > there:
                raise ValueError(
                    f"the set holds {count} images of class {label}, which has {there} training "
                    f"images to start from; set images_per_class to at most {there}"
                )
            if shape.init == "first":
                chosen = real.rows_of_class(label, at_least=count)[:count]
            else:
                chosen = real.class_rows(label, count, generator)
            rows[owned == label] = chosen
        return real.batch(rows)[0].to(self.spectra.device)

    def ledger(self) -> Ledger:
        """List spectra as coefficients and the stored matrices as kernels."""
        entries = [Entry.of("coefficient", "spectra", self.spectra)]
        entries += [
            Entry.of("kernel", f"kernels.{mode}", kernel) for mode, kernel in self.kernels.items()
        ]
        formulas = {self._kind(n) for n in _MODES if not self.shape.is_stored(n)} - {"identity"}
        listed = [f"{kind} matrices, given by a formula" for kind in sorted(formulas)]
        return Ledger(tuple(entries), ("hard labels implied by order", *listed))

    def parameter_groups(self, settings: dict) -> list[dict]:
        """Spectra learn at `lr_syn`, learned matrices at `lr_kernels`."""
        groups = [{"params": [self.spectra], "lr": settings["lr_syn"]}]
        learned = [k for mode, k in self.kernels.items() if self.shape.learned[int(mode) - 1]]
        if learned:
            groups.append({"params": learned, "lr": settings["lr_kernels"]})
        return groups


def _tiled(num_kernel_sets: int, t: int, u: int) -> Tensor:
    """[N_K, t, u]: of set j column r picks row (j u + r) mod t."""
    columns = torch.arange(num_kernel_sets * u).view(num_kernel_sets, u) % t
    return torch.nn.functional.one_hot(columns, t).mT.float()
