"""Sets of bases that a few shared hallucinators turn into images (HaBa).

    x = convT3x3(scale * conv3x3(b) + shift)

with a valid convolution and a transposed one, both with bias, and nothing else: a hallucinator is
affine in the base b. Every decoding draws one of them for every base. Liu et al., Dataset
Distillation via Factorization, NeurIPS 2022, and the authors' code.
"""

from dataclasses import asdict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nsdbench.data.training import TrainingData
from nsdbench.sets.budget import Entry, Ledger
from nsdbench.sets.parameterizations.base import Parameterization
from nsdbench.sets.parameterizations.families.hallucinator import HallucinatorShape

_TENSORS = ("conv", "conv_bias", "scale", "shift", "transposed", "transposed_bias")


class Hallucinated(Parameterization):
    """Learned bases and hallucinators; without a generator image i is seen through i mod S of S.

    Args:
        shape: its sizes.

    Attributes:
        bases: [num_images, c, H, W] float32 parameter, class by class; c is 1 or C.
        conv, conv_bias: [S, C, c, 3, 3] and [S, C] of the first convolutions.
        scale, shift: [S, C, H - 2, W - 2].
        transposed, transposed_bias: [S, C, C, 3, 3] (channels in, out) and [S, C] of the last ones.
    """

    is_stochastic = True
    conv: nn.Parameter
    conv_bias: nn.Parameter
    scale: nn.Parameter
    shift: nn.Parameter
    transposed: nn.Parameter
    transposed_bias: nn.Parameter

    def __init__(self, shape: HallucinatorShape):
        super().__init__()
        self.shape = shape
        self.settings = asdict(shape)
        self.num_views = shape.num_hallucinators
        labels = torch.arange(shape.num_classes).repeat_interleave(shape.bases_per_class)
        self.register_buffer("labels", labels, persistent=False)
        channels, height, width = shape.image_shape
        self.bases = nn.Parameter(torch.zeros(len(labels), shape.base_channels, height, width))
        first, last = shape.weight_shapes
        sizes = (first, (channels,), shape.map_shape, shape.map_shape, last, (channels,))
        for name, size in zip(_TENSORS, sizes, strict=True):
            self.register_parameter(name, nn.Parameter(torch.zeros(self.num_views, *size)))

    def decode(
        self, index: Tensor | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Decode all images or the rows asked for, drawing a hallucinator for each of them."""
        if index is None:
            index = torch.arange(self.num_images, device=self.labels.device)
        if generator is None:
            drawn = index % self.num_views
        else:
            drawn = torch.randint(self.num_views, (len(index),), generator=generator).to(index)
        order = drawn.argsort(stable=True)
        groups = index[order].split(torch.bincount(drawn, minlength=self.num_views).tolist())
        images = [self._see(rows, view) for view, rows in enumerate(groups) if len(rows)]
        return torch.cat(images)[order.argsort()], self.labels[index]

    def decode_view(
        self, index: Tensor, view: int, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Decode the rows asked for through hallucinator `view`; nothing is drawn."""
        return self._see(index, view), self.labels[index]

    def _see(self, index: Tensor, view: int) -> Tensor:
        """Map bases to images [n, C, H, W] through one hallucinator."""
        maps = F.conv2d(self.bases[index], self.conv[view], self.conv_bias[view])
        maps = self.scale[view] * maps + self.shift[view]
        return F.conv_transpose2d(maps, self.transposed[view], self.transposed_bias[view])

    @torch.no_grad()
    def initialize(self, real: TrainingData, generator: torch.Generator) -> None:
        """Start bases at random real images, or their means over channels, and scales at 1.

        Weights and biases of convolutions have torch's default distribution, so that images start
        as random filters of their bases (reference code).
        """
        per_class = self.shape.bases_per_class
        rows = [
            real.class_rows(label, per_class, generator) for label in range(self.shape.num_classes)
        ]
        images, _ = real.batch(torch.cat(rows))
        is_grey = self.shape.base_channels < images.shape[1]
        self.bases.copy_(images.mean(dim=1, keepdim=True) if is_grey else images)
        self.scale.fill_(1.0)
        self.shift.zero_()
        for weight, bias in (
            (self.conv, self.conv_bias),
            (self.transposed, self.transposed_bias),
        ):
            bound = weight[0, 0].numel() ** -0.5  # 1 / sqrt(fan in), as torch counts it
            for tensor in (weight, bias):
                tensor.copy_((2 * torch.rand(tensor.shape, generator=generator) - 1) * bound)

    def ledger(self) -> Ledger:
        """List bases as coefficients and hallucinators as networks."""
        entries = [Entry.of("coefficient", "bases", self.bases)]
        entries += [Entry.of("network", name, getattr(self, name)) for name in _TENSORS]
        listed = ("hard labels implied by order", "a hallucinator is drawn for every base")
        return Ledger(tuple(entries), listed)

    def parameter_groups(self, settings: dict) -> list[dict]:
        """Bases learn at `lr_syn`, hallucinators at `lr_kernels`."""
        hallucinators = [getattr(self, name) for name in _TENSORS]
        return [
            {"params": [self.bases], "lr": settings["lr_syn"]},
            {"params": hallucinators, "lr": settings["lr_kernels"]},
        ]
