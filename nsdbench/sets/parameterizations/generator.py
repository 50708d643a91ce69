"""Images of a generator prior, found by descending in its latents (GLaD).

    x = preprocess((G_n(f, w) + 1) / 2)

G_n runs the synthesis from layer n on: f is the map that goes into layer n, w the styles of all
layers; both are learned, the generator is not. What is stored are the images. Cazenavette et al.,
Generalizing Dataset Distillation via Deep Generative Prior, CVPR 2023, and the authors' code.
"""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from nsdbench.data import Dataset
from nsdbench.data.preprocess.base import Preprocessing
from nsdbench.data.training import TrainingData
from nsdbench.sets.budget import Ledger
from nsdbench.sets.parameterizations.base import Parameterization
from nsdbench.sets.parameterizations.families.generator import GeneratorShape
from nsdbench.sets.parameterizations.separable import Separable
from nsdbench.sets.priors.base import GeneratorPrior, PriorContext, open_prior

_SAMPLES = 1000  # GLaD's code: of which w is the mean
_LARGEST, _INFINITE = 10.0, 5.0  # GLaD's code: of f at the start, and what stands for infinity


class Generated(Parameterization):
    """Learned latents of a prior, which `prepare` opens.

    Args:
        shape: its sizes.

    Attributes:
        f: [num_images, ...] float32 parameter, what goes into the chosen layer.
        w: [num_images, num_ws, w_dim] float32 parameter; rows of earlier layers have no effect.
    """

    f: nn.Parameter
    w: nn.Parameter

    def __init__(self, shape: GeneratorShape):
        super().__init__()
        self.shape = shape
        self.settings = asdict(shape)
        labels = torch.arange(shape.num_classes).repeat_interleave(shape.ipc)
        self.register_buffer("labels", labels, persistent=False)
        # Neither is a submodule: what is not learned is in no checkpoint and no optimiser.
        self._opened: tuple[GeneratorPrior, ...] = ()
        self._device = "cpu"
        self._preprocessing: Preprocessing | None = None

    @property
    def prior(self) -> GeneratorPrior:
        """Return the prior, which lives where `prepare` was told to decode."""
        if not self._opened:
            raise RuntimeError("latents decode after `prepare` has opened their prior")
        return self._opened[0]

    def prepare(
        self, data: Dataset, device: str, progress: Callable[[str, int, int], object]
    ) -> float:
        """Open the prior, training it if it does not exist yet; see the base class."""
        shape = self.shape
        context = PriorContext(data, device, progress)
        prior = open_prior(shape.prior, shape.prior_settings, shape.sizes, shape.layer, context)
        self._opened, self._device = (prior,), device
        return prior.seconds

    @torch.no_grad()
    def initialize(self, real: TrainingData, generator: torch.Generator) -> None:
        """Start w at the map of z ~ N(0, 1), or at a mean of such maps, and f where w leads.

        f is clipped to +-10 here and never again (GLaD's code).
        """
        self._preprocessing = real.preprocessing
        shape, prior = self.shape, self.prior
        labels = self.labels.to(self._device)
        if shape.start == "sampled":
            z = torch.randn(len(labels), shape.sizes.z_dim, generator=generator)
            w = prior.map(z.to(self._device), labels)
        else:
            means = []
            for label in range(shape.num_classes):
                z = torch.randn(_SAMPLES, shape.sizes.z_dim, generator=generator)
                means.append(
                    prior.map(z.to(self._device), labels.new_full((_SAMPLES,), label)).mean(0)
                )
            w = torch.stack(means)[labels]
        f = torch.cat([prior.to_f(part, shape.layer) for part in w.split(shape.chunk)])
        f = f.nan_to_num(posinf=_INFINITE, neginf=-_INFINITE).clamp(-_LARGEST, _LARGEST)
        self.w, self.f = (nn.Parameter(value.detach().cpu().clone()) for value in (w, f))

    def decode(
        self, index: Tensor | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Decode all images or the rows asked for, a chunk at a time.

        Nothing of a chunk is kept but its images: its gradient runs the chunk once more.
        """
        if index is None:
            index = torch.arange(self.num_images, device=self.w.device)
        images = [
            checkpoint(
                self._images, self.w[rows], self.f[rows],
                use_reentrant=False, preserve_rng_state=False,
            )
            for rows in index.split(self.shape.chunk)
        ]  # fmt: skip
        return torch.cat(images), self.labels[index]

    def _images(self, w: Tensor, f: Tensor) -> Tensor:
        """Map latents to network inputs [n, C, H, W]; nothing is clipped."""
        assert self._preprocessing is not None, "decode comes after initialize"
        pictures = (self.prior.from_f(w, f, self.shape.layer) + 1) / 2
        if self.shape.shift:
            pictures = pictures + pictures.new_tensor(self.shape.shift)[:, None, None]
        return self._preprocessing.apply(pictures)

    @torch.no_grad()
    def stored(self) -> Separable:
        """Decode all images once, as a set of pixels."""
        pixels = Separable(self.shape.pixels).to(self.w.device)
        pixels.spectra.copy_(self.decode()[0][None])
        return pixels

    def describe(self) -> dict[str, Any]:
        """Name the prior."""
        return {"prior": dict(self.prior.facts)}

    def ledger(self) -> Ledger:
        """List the pixels that are stored; latents and prior are dropped."""
        return Separable(self.shape.pixels).ledger()

    def parameter_groups(self, settings: dict) -> list[dict]:
        """f learns at `lr_syn`, w at `lr_kernels`."""
        return [
            {"params": [self.f], "lr": settings["lr_syn"]},
            {"params": [self.w], "lr": settings["lr_kernels"]},
        ]
