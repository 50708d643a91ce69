"""The contract every prior keeps: sampled or learned latents become images in [-1, 1]."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nsdbench.data import Dataset
from nsdbench.sets.priors.registry import PriorSizes, read


@dataclass(frozen=True)
class PriorContext:
    """What a run offers a prior.

    Attributes:
        data: the data set; its test split is sealed.
        device: where the prior is made, and lives.
        progress: called as progress(phase, done, total) after every piece of work.
    """

    data: Dataset
    device: str
    progress: Callable[[str, int, int], object]


class GeneratorPrior(nn.Module):
    """A generator whose synthesis can be entered before any layer.

    Attributes:
        seconds: what making it took, whoever waited for it.
        facts: what a record should say of it, as plain JSON types.
    """

    seconds: float = 0.0
    facts: Mapping[str, Any] = {}

    def map(self, z: Tensor, labels: Tensor) -> Tensor:
        """Map samples z [n, z_dim] of N(0, 1) and classes [n] to latents w [n, num_ws, w_dim]."""
        raise NotImplementedError

    def to_f(self, w: Tensor, layer: int) -> Tensor:
        """Run the synthesis up to a layer, which does not run: f [n, ...]."""
        raise NotImplementedError

    def from_f(self, w: Tensor, f: Tensor, layer: int) -> Tensor:
        """Run the synthesis from a layer on: images [n, C, H, W], black -1 and white 1.

        Differentiable in both; an image depends on its own latents alone.
        """
        raise NotImplementedError


def open_prior(
    name: str, settings: Mapping[str, Any], sizes: PriorSizes, layer: int, context: PriorContext
) -> GeneratorPrior:
    """Make a prior, or load it, and try it on two samples.

    Args:
        name, settings: as the recipe has them.
        sizes: what its family says of it.
        layer: of the latents f.
        context: data, device and progress.

    Raises:
        DataMissing, ValueError: as of `registry.read`, or it gives something else than its family
            says.
    """
    family, checked = read(name, settings)
    prior = family.load()(context, checked)
    prior.to(context.device).eval().requires_grad_(False)
    _try_out(prior, name, sizes, layer, context)
    return prior


@torch.no_grad()
def _try_out(
    prior: GeneratorPrior, name: str, sizes: PriorSizes, layer: int, context: PriorContext
) -> None:
    labels = torch.zeros(2, dtype=torch.int64, device=context.device)
    z = torch.zeros(2, sizes.z_dim, device=context.device)
    w = prior.map(z, labels)
    _check(name, "map", w, (2, sizes.num_ws, sizes.w_dim))
    f = prior.to_f(w, layer)
    _check(name, f"to_f at layer {layer}", f, (2, *f.shape[1:]))
    images = prior.from_f(w, f, layer)
    _check(name, f"from_f at layer {layer}", images, (2, *context.data.image_shape))


def _check(name: str, call: str, found: Tensor, expected: tuple[int, ...]) -> None:
    """Compare what a prior returned with what two samples of its sizes should give."""
    if tuple(found.shape) != expected or found.dtype != torch.float32:
        raise ValueError(
            f"prior {name!r}: {call} of two samples gives {found.dtype} {list(found.shape)}; "
            f"expected torch.float32 {list(expected)}"
        )
