"""AlexNet as dataset distillation uses it: five convolutions and one linear layer.

conv5x5 128 - pool - conv5x5 192 - pool - conv3x3 256 - conv3x3 192 - conv3x3 192 - pool - linear,
ReLU after every convolution, 2x2 pools. The first convolution pads 4 for grey images (28 px images
make 32 px maps), and has stride 2 from 64 px on (DATM's and DD-Ranking's variant). `AlexNet` is
that of networks.py of MTT, `AlexNetAP` that of models/networks.py of RTP.
"""

import torch
from torch import nn

from nsdbench.models.ids import PUBLISHED_WIDTHS
from nsdbench.models.nets.classifier import ImageClassifier, norm_layer
from nsdbench.models.shapes import (
    ALEXNET_CHANNELS,
    alexnet_map,
    alexnet_stride,
    first_padding,
    scaled_channels,
)

PUBLISHED_WIDTH = PUBLISHED_WIDTHS["alexnet"]


class AlexNet(ImageClassifier):
    """Build an AlexNet without normalisation, with max pools.

    `width` is the first convolution's channels, the others scale with it.
    """

    # no norm layer has to turn the maps back; a third less time a step, timed once at width 16
    memory_format = torch.channels_last
    pool: type[nn.Module] = nn.MaxPool2d

    def __init__(
        self,
        in_channels: int,
        image_size: int,
        num_classes: int,
        *,
        width: int,
        norm: str | None = None,
    ) -> None:
        map_size = alexnet_map(in_channels, image_size)
        padding, stride = first_padding(in_channels, 5), alexnet_stride(image_size)
        layers: list[nn.Module] = []
        channels = in_channels
        for layer, published in enumerate(ALEXNET_CHANNELS):
            scaled = scaled_channels(published, width, PUBLISHED_WIDTH)
            kernel_size = 5 if layer < 2 else 3
            layers.append(nn.Conv2d(channels, scaled, kernel_size, stride=stride, padding=padding))
            layers += [nn.ReLU()] if norm is None else [norm_layer(norm, scaled), nn.ReLU()]
            if layer in (0, 1, 4):
                layers.append(self.pool(kernel_size=2, stride=2))
            channels, padding, stride = scaled, 2 if layer == 0 else 1, 1
        super().__init__(
            nn.Sequential(*layers),
            channels * map_size * map_size,
            num_classes,
            (in_channels, image_size, image_size),
        )
        self.width = width


class AlexNetAP(AlexNet):
    """Build an AlexNet with a norm after every convolution, with mean pools."""

    memory_format = torch.contiguous_format
    pool = nn.AvgPool2d
