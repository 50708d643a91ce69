"""A generator prior with nothing to learn: images are sums of a few cosine waves.

w holds the amplitudes of [C, WAVES, WAVES] waves, and f of the only layer is the same as a map. An
example, and no method that anybody proposed; a trained network stands in its place.
"""

import math

import torch
from torch import Tensor

from nsdbench.plugin import GeneratorPrior, PriorContext, PriorFamily, PriorSizes, Settings

WAVES = 6


class Waves(GeneratorPrior):
    """Sums of waves cos(pi (x + 1/2) k / H) cos(pi (y + 1/2) l / H), k and l below WAVES.

    Attributes:
        basis: [WAVES, H] the waves along a side.
    """

    def __init__(self, context: PriorContext, settings: Settings):
        super().__init__()
        self.channels, side, _ = context.data.image_shape
        places = (torch.arange(side) + 0.5) * math.pi / side
        self.register_buffer("basis", torch.cos(torch.arange(WAVES)[:, None] * places))

    def map(self, z: Tensor, labels: Tensor) -> Tensor:
        """Let waves be weaker the shorter they are; classes have no part in it."""
        decay = 1 / (1 + torch.arange(WAVES, device=z.device))
        shape = (len(z), self.channels, WAVES, WAVES)
        return (z.view(shape) * decay * decay[:, None] / 4).view(len(z), 1, -1)

    def to_f(self, w: Tensor, layer: int) -> Tensor:
        """Lay the amplitudes out as a map [n, C, WAVES, WAVES]."""
        return w.view(len(w), self.channels, WAVES, WAVES)

    def from_f(self, w: Tensor, f: Tensor, layer: int) -> Tensor:
        """Add the waves up, about black as digits are."""
        return self.basis.mT @ f @ self.basis - 0.5


def sizes(settings: Settings, image_shape: tuple[int, int, int], num_classes: int) -> PriorSizes:
    """Count what `Waves` will be; ValueError for images that it cannot make."""
    channels, height, width = image_shape
    if height != width or height < WAVES:
        raise ValueError(
            f"images are {height}x{width}; expected square ones of {WAVES} px at least"
        )
    numbers = channels * WAVES**2
    flops = 2 * channels * (WAVES**2 * height + WAVES * height**2)
    return PriorSizes(numbers, numbers, 1, 1, flops, channels * height * (WAVES + height))


FAMILY = PriorFamily(Settings, "nsdbench_example.waves:Waves", sizes)
