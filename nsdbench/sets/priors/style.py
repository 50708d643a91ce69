"""A small style-based generator, written for this suite.

A layer scales its input channels by a style, convolves, and divides by what unit inputs would give:

    s = A w_l,   y_o = d_o (W_o * (s x)) + b_o,   d_o = 1 / sqrt(sum_ikl (W_oikl s_i)^2 + eps)

Karras et al., Analyzing and Improving the Image Quality of StyleGAN, CVPR 2020, eq. 1 and 3. Other
than there (our choice) no noise is added, there is one 3x3 layer a resolution, and it convolves
before its output is enlarged, which takes a quarter of the time.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nsdbench.sets.priors.base import GeneratorPrior
from nsdbench.sets.priors.families import StyleSettings, layout
from nsdbench.sets.priors.registry import ImageShape

_EPS = 1e-8  # Karras et al., eq. 3
_SLOPE, _GAIN = 0.2, 2**0.5  # of leaky ReLUs; the gain keeps the variance (StyleGAN2's code)


class ModulatedLayer(nn.Module):
    """A convolution whose input channels are scaled by a style, see the module's formula.

    Args:
        channels_in, channels_out: of the maps.
        kernel: side of the convolution, odd.
        w_dim: numbers of the latent w of a layer.
        demodulates: whether to divide by d; otherwise d is 1.
        upsamples: whether y, without its bias, is doubled in both directions, bilinearly.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        kernel: int,
        w_dim: int,
        *,
        demodulates: bool = True,
        upsamples: bool = False,
    ):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(channels_out, channels_in, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(channels_out))
        self.style = nn.Linear(w_dim, channels_in)
        self.demodulates = demodulates
        self.upsamples = upsamples

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """Map [n, channels_in, h, h] with latents [n, w_dim] to [n, channels_out, h or 2h, ...]."""
        style = self.style(w)
        y = F.conv2d(x * style[:, :, None, None], self.weight, padding=self.weight.shape[-1] // 2)
        if self.demodulates:
            power = style.square() @ self.weight.square().sum((2, 3)).T
            y = y * (power + _EPS).rsqrt()[:, :, None, None]
        if self.upsamples:
            y = F.interpolate(y, scale_factor=2, mode="bilinear", align_corners=False)
        return y + self.bias[:, None, None]


class StyleGenerator(GeneratorPrior):
    """A mapping network, a learned constant, 3x3 layers, and a last one that makes the image.

    Layer 0 keeps the side of the constant, every further 3x3 layer doubles it. Layer l takes row l
    of w.

    Args:
        settings: its sizes.
        image_shape: (C, H, W).
        num_classes: every class has an embedding that goes into the mapping beside z.
    """

    def __init__(self, settings: StyleSettings, image_shape: ImageShape, num_classes: int):
        super().__init__()
        planned = layout(settings, image_shape)
        first, w_dim = planned.channels[0], settings.w_dim
        self.embedding = nn.Parameter(torch.zeros(num_classes, settings.z_dim))
        self.mapping = nn.ModuleList(
            [nn.Linear(2 * settings.z_dim, w_dim), nn.Linear(w_dim, w_dim)]
        )
        self.constant = nn.Parameter(torch.zeros(first, planned.sides[0], planned.sides[0]))
        layers = [ModulatedLayer(first, first, 3, w_dim)]
        for before, channels in zip(planned.channels[:-1], planned.channels[1:], strict=True):
            layers.append(ModulatedLayer(before, channels, 3, w_dim, upsamples=True))
        last = planned.channels[-1]
        layers.append(ModulatedLayer(last, image_shape[0], 1, w_dim, demodulates=False))
        self.layers = nn.ModuleList(layers)

    @torch.no_grad()
    def initialize(self, generator: torch.Generator) -> None:
        """Draw all weights from N(0, 1 / fan in) and the constant from N(0, 1); styles start at 1.

        Embeddings are N(0, 1), biases 0.
        """
        for name, tensor in self.named_parameters():
            if name.endswith("bias"):
                tensor.fill_(float(name.endswith("style.bias")))
                continue
            tensor.copy_(torch.randn(tensor.shape, generator=generator))
            if name.endswith("weight"):
                tensor.mul_(tensor[0].numel() ** -0.5)

    def map(self, z: Tensor, labels: Tensor) -> Tensor:
        """Give all layers the same w."""
        w = torch.cat((z, self.embedding[labels]), dim=1)
        for linear in self.mapping:
            w = _GAIN * F.leaky_relu(linear(w), _SLOPE)
        return w[:, None].expand(-1, len(self.layers), -1)

    def to_f(self, w: Tensor, layer: int) -> Tensor:
        """Start at the constant; f of layer 0 is the constant itself."""
        return self._run(self.constant.expand(len(w), -1, -1, -1), w, 0, layer)

    def from_f(self, w: Tensor, f: Tensor, layer: int) -> Tensor:
        """End at the image, which nothing keeps within [-1, 1]."""
        return self._run(f, w, layer, len(self.layers))

    def _run(self, x: Tensor, w: Tensor, start: int, stop: int) -> Tensor:
        for number in range(start, stop):
            x = self.layers[number](x, w[:, number])
            if number < len(self.layers) - 1:
                x = _GAIN * F.leaky_relu(x, _SLOPE)
        return x
