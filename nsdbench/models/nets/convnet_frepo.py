"""FRePo's ConvNet: channels double from block to block, and norms stand before, not after, blocks.

depth x [norm, but for the first -> conv 3x3 -> ReLU -> 2x2 mean pool] -> flatten -> linear, with
width, 2 width, 4 width, ... channels. So the norm of a block looks at what the block before has
pooled, and nothing normalises images or features. The first convolution pads 3 for grey images.
Zhou et al., Dataset Distillation using Neural Feature Regression, NeurIPS 2022; lib/models/
networks.py of the authors' code.
"""

import torch
from torch import nn

from nsdbench.models.nets.classifier import ImageClassifier, norm_layer
from nsdbench.models.shapes import convnet_map, first_padding

# reference code: running statistics keep a tenth of what they were. The authors' running variances
# divide by the number of values, PyTorch's by one less.
_STATISTICS_MOMENTUM = 0.9


class ConvNetFrepo(ImageClassifier):
    """Build FRePo's ConvNet of any depth and width; `width` is the channels of its first block."""

    initialization = "lecun_normal"
    # a quarter less time for features, timed once at width 32
    memory_format = torch.channels_last

    def __init__(
        self,
        in_channels: int,
        image_size: int,
        num_classes: int,
        *,
        width: int,
        depth: int,
        norm: str = "instance_norm",
    ) -> None:
        map_size = convnet_map(in_channels, image_size, depth)
        layers: list[nn.Module] = []
        channels, padding = in_channels, first_padding(in_channels)
        for block in range(depth):
            if block:
                layers.append(norm_layer(norm, channels, _STATISTICS_MOMENTUM))
            layers += [
                nn.Conv2d(channels, width * 2**block, kernel_size=3, padding=padding),
                nn.ReLU(),
                nn.AvgPool2d(kernel_size=2, stride=2),
            ]
            channels, padding = width * 2**block, 1
        super().__init__(
            nn.Sequential(*layers),
            channels * map_size * map_size,
            num_classes,
            (in_channels, image_size, image_size),
        )
        self.depth = depth
        self.width = width
        self.norm = norm
