"""Sets that decode by one matrix per mode: raw pixels and Neural Spectral Decomposition.

    x[i, j] = T_i  x1 K_j^(1)  x2 K_j^(2)  x3 K_j^(3)  x4 K_j^(4)             (Eq. 1, Eq. 2)

for all pairs of a spectrum T_i [t1, t2, t3, t4] and a kernel set j of matrices [t_n, u_n]. Modes
are (sample, channel, height, width); a pair gives a block of u1 images [u2, u3, u4]. A mode without
a matrix is the identity, so raw pixels are the case of one spectrum and no kernels at all.
"""

from dataclasses import asdict, dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from nsdbench import ops
from nsdbench.budget import Entry, Ledger
from nsdbench.data.training import TrainingData
from nsdbench.parameterizations.base import Parameterization

ClassScheme = Literal["spectra", "columns"]
PixelInit = Literal["real", "noise"]


@dataclass(frozen=True)
class SeparableShape:
    """Sizes of a separable set.

    Attributes:
        name: "pixels" or "spectral".
        num_classes: classes of the data set.
        num_spectra, num_kernel_sets: N_T and N_K of Eq. 1.
        t: lengths of the spectrum's modes.
        u: lengths of the decoded modes; u[1:] is the image shape.
        learned: which modes have a learned matrix [t_n, u_n]; the others are identities.
        class_scheme: "spectra": every spectrum belongs to one class (spectrum i to class
            i * num_classes // num_spectra); "columns": every column of K^(1) does, in the same way.
        init: where a set without kernels starts: "real" images, or "noise" of N(0, 1).
    """

    name: str
    num_classes: int
    num_spectra: int
    num_kernel_sets: int
    t: tuple[int, int, int, int]
    u: tuple[int, int, int, int]
    learned: tuple[bool, bool, bool, bool]
    class_scheme: ClassScheme
    init: PixelInit = "real"

    def __post_init__(self) -> None:
        for name in ("t", "u", "learned"):  # JSON brings lists
            object.__setattr__(self, name, tuple(getattr(self, name)))
        owners = self.num_spectra if self.class_scheme == "spectra" else self.u[0]
        if self.class_scheme not in ("spectra", "columns"):
            raise ValueError(
                f'class_scheme is {self.class_scheme!r}; expected "spectra" or "columns"'
            )
        if self.init not in ("real", "noise"):
            raise ValueError(f'init is {self.init!r}; expected "real" or "noise"')
        if owners < self.num_classes:
            raise ValueError(
                f"{owners} {self.class_scheme} cannot own {self.num_classes} classes; every class "
                "needs at least one"
            )
        modes = zip(self.t, self.u, self.learned, strict=True)
        for mode, (t, u, is_learned) in enumerate(modes, 1):
            if t < 1 or u < 1:
                raise ValueError(f"mode {mode} has lengths t={t}, u={u}; both must be at least 1")
            if not is_learned and t != u:
                raise ValueError(
                    f"mode {mode} has no kernel, so t={t} must equal u={u}; set the mode to learned"
                )

    @property
    def num_elements(self) -> int:
        """Stored elements: all spectra and all kernel matrices (left-hand side of Eq. 3)."""
        t1, t2, t3, t4 = self.t
        kernels = sum(t * u for t, u, k in zip(self.t, self.u, self.learned, strict=True) if k)
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


class Separable(Parameterization):
    """A learned set of spectra and kernel matrices.

    Args:
        shape: its sizes.

    Attributes:
        spectra: [N_T, t1, t2, t3, t4] float32 parameter.
        kernels: of every learned mode n under the key "n", [N_K, t_n, u_n] float32.
    """

    def __init__(self, shape: SeparableShape):
        super().__init__()
        self.shape = shape
        self.settings = asdict(shape)
        self.register_buffer("labels", shape.labels, persistent=False)
        self.spectra = nn.Parameter(torch.zeros(shape.num_spectra, *shape.t))
        self.kernels = nn.ParameterDict(
            {
                str(mode): nn.Parameter(torch.zeros(shape.num_kernel_sets, t, u))
                for mode, (t, u, is_learned) in enumerate(
                    zip(shape.t, shape.u, shape.learned, strict=True), 1
                )
                if is_learned
            }
        )

    def decode(
        self, index: Tensor | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Decode all images or the rows asked for; see the base class."""
        kernels = [self.kernels[str(n)] if str(n) in self.kernels else None for n in (1, 2, 3, 4)]
        images = ops.reconstruct(self.spectra, kernels, index)
        return images, self.labels if index is None else self.labels[index]

    @torch.no_grad()
    def initialize(self, real: TrainingData, generator: torch.Generator) -> None:
        """Start pixels from random real images (or noise), spectra and kernels from scaled noise.

        T ~ N(0, s^2) and K^(n) ~ N(0, 1/t_n) give decoded pixels the variance s^2 exactly, since
        every pixel is a sum of t1 t2 t3 t4 products with variance s^2 / (t1 t2 t3 t4); s is the
        standard deviation of preprocessed real pixels. The random start is the paper's (sec. 4.1),
        the scales are our choice.
        """
        if not self.kernels and self.shape.init == "noise":
            self.spectra.copy_(torch.randn(self.spectra.shape, generator=generator))
            return
        if not self.kernels:
            counts = torch.bincount(self.labels, minlength=self.shape.num_classes)
            rows = [real.class_rows(c, int(n), generator) for c, n in enumerate(counts)]
            images, _ = real.batch(torch.cat(rows))
            self.spectra.copy_(images.view_as(self.spectra))
            return
        self.spectra.copy_(torch.randn(self.spectra.shape, generator=generator) * real.pixel_std())
        for kernel in self.kernels.values():
            t = kernel.shape[1]
            kernel.copy_(torch.randn(kernel.shape, generator=generator) * t**-0.5)

    def ledger(self) -> Ledger:
        """List spectra as coefficients and the matrices as kernels."""
        entries = [Entry.of("coefficient", "spectra", self.spectra)]
        entries += [
            Entry.of("kernel", f"kernels.{mode}", kernel) for mode, kernel in self.kernels.items()
        ]
        return Ledger(tuple(entries), ("hard labels implied by order",))

    def parameter_groups(self, settings: dict) -> list[dict]:
        """Spectra learn at `lr_syn`, kernels at `lr_kernels`."""
        groups = [{"params": [self.spectra], "lr": settings["lr_syn"]}]
        if self.kernels:
            groups.append({"params": list(self.kernels.values()), "lr": settings["lr_kernels"]})
        return groups
