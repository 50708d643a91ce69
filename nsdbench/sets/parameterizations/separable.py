"""Sets that decode by one matrix per mode: pixels, tiles, DCT, SVD, bases, and NSD.

    x[i, j] = T_i  x1 K_j^(1)  x2 K_j^(2)  x3 K_j^(3)  x4 K_j^(4)             (Eq. 1, Eq. 2)

for all pairs of a spectrum T_i [t1, t2, t3, t4] and a kernel set j of matrices [t_n, u_n]. Modes
are (sample, channel, height, width); a pair gives a block of u1 images [u2, u3, u4]. What a method
is follows from the kind of matrix of each mode and from which of them are learned; `families` plan
the sizes of each.
"""

from dataclasses import asdict

import torch
from torch import Tensor, nn

from nsdbench import ops
from nsdbench.data.preprocess.standardise import Standardise
from nsdbench.data.training import TrainingData
from nsdbench.ops.reference import mode_product
from nsdbench.sets.budget import Entry, Ledger
from nsdbench.sets.parameterizations.axis_kernels import ANALYTIC, encoder
from nsdbench.sets.parameterizations.base import Parameterization
from nsdbench.sets.parameterizations.separable_shape import MODES, Kind, SeparableShape

_TILED_NOISE = 0.1  # our choice, for every entry: tells copies of one slice apart


class Separable(Parameterization):
    """A learned set of spectra and matrices.

    Args:
        shape: its sizes.

    Attributes:
        spectra: [N_T, t1, t2, t3, t4] float32 parameter.
        kernels: of every stored mode n under the key "n", [N_K, t_n, u_n] float32; learned ones
            require gradients.
        soft_labels: [num_images, K] float32 parameter, or None; see `SeparableShape.label_scale`.
    """

    def __init__(self, shape: SeparableShape):
        super().__init__()
        self.shape = shape
        self.settings = asdict(shape)
        self.register_buffer("labels", _labels(shape), persistent=False)
        self.spectra = nn.Parameter(torch.zeros(shape.num_spectra, *shape.t))
        self.register_buffer("bounds", None, persistent=False)
        if shape.label_scale is not None:
            one_hot = nn.functional.one_hot(self.labels, shape.num_classes)
            self.soft_labels = nn.Parameter(shape.label_scale * (one_hot - 1 / shape.num_classes))
        self.kernels = nn.ParameterDict()
        for mode in MODES:
            t, u, kind = shape.t[mode - 1], shape.u[mode - 1], shape.kernels[mode - 1]
            sizes = (shape.num_kernel_sets, t, u)
            if shape.is_stored(mode):
                is_learned = shape.learned[mode - 1]
                self.kernels[str(mode)] = nn.Parameter(torch.zeros(sizes), requires_grad=is_learned)
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
        images = ops.reconstruct(self.spectra, [self._matrices(n) for n in MODES], index)
        return images, self.labels if index is None else self.labels[index]

    @torch.no_grad()
    def initialize(self, real: TrainingData, generator: torch.Generator) -> None:
        """Start from noise, from the singular vectors of real images, or from encoded real images.

        Xavier: T as a table [t1, t2 t3 t4] and K^(1) as one [u1, t1] start uniformly within
        +-sqrt(6 / (rows + columns)), so that decoded images are nearly zero (RTP's code).
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
        if self.shape.name == "tiles" and isinstance(real.preprocessing, Standardise):
            ends = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1)
            self.bounds = real.preprocessing.apply(ends.expand(2, self.shape.u[1], 1, 1))
        for key, kernel in self.kernels.items():
            kind = self._kind(int(key))
            if kind in ANALYTIC:
                kernel.copy_(ANALYTIC[kind](*kernel.shape[1:]))
            elif kind == "tiled":
                noise = torch.randn(kernel.shape, generator=generator)
                kernel.copy_(_tiled(*kernel.shape) + _TILED_NOISE * noise)
        if "noise" in self.shape.kernels:
            self._start_from_noise(real, generator)
        elif "xavier" in self.shape.kernels:
            for table in (self.spectra.view(self.shape.t[0], -1), self.kernels["1"][0]):
                nn.init.xavier_uniform_(table, generator=generator)
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
            for mode in MODES:
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
        """List spectra as coefficients, the stored matrices as kernels, and learned labels."""
        entries = [Entry.of("coefficient", "spectra", self.spectra)]
        entries += [
            Entry.of("kernel", f"kernels.{mode}", kernel) for mode, kernel in self.kernels.items()
        ]
        if self.soft_labels is not None:
            entries.append(Entry.of("label", "soft_labels", self.soft_labels))
        formulas = {self._kind(n) for n in MODES if not self.shape.is_stored(n)} - {"identity"}
        listed = [f"{kind} matrices, given by a formula" for kind in sorted(formulas)]
        if self.soft_labels is None:
            listed.insert(0, "hard labels implied by order")
        return Ledger(tuple(entries), tuple(listed))

    def parameter_groups(self, settings: dict) -> list[dict]:
        """Spectra learn at `lr_syn`, matrices at `lr_kernels`, labels at `lr_labels`."""
        groups = [{"params": [self.spectra], "lr": settings["lr_syn"]}]
        learned = [k for mode, k in self.kernels.items() if self.shape.learned[int(mode) - 1]]
        if learned:
            groups.append({"params": learned, "lr": settings["lr_kernels"]})
        if self.soft_labels is not None:
            groups.append({"params": [self.soft_labels], "lr": settings["lr_labels"]})
        return groups


def _labels(shape: SeparableShape) -> Tensor:
    """[N_T * N_K * u1] class of every image, in the order of `ops.reconstruct`."""
    classes = torch.arange(shape.num_owners) * shape.num_classes // shape.num_owners
    per_pair = (shape.num_spectra, shape.num_kernel_sets, shape.u[0])
    is_spectra = shape.class_scheme == "spectra"
    classes = classes.view((-1, 1, 1) if is_spectra else (1, 1, -1))
    return classes.expand(per_pair).reshape(-1)


def _tiled(num_kernel_sets: int, t: int, u: int) -> Tensor:
    """[N_K, t, u]: of set j column r picks row (j u + r) mod t."""
    columns = torch.arange(num_kernel_sets * u).view(num_kernel_sets, u) % t
    return torch.nn.functional.one_hot(columns, t).mT.float()
