"""The ConvNet of kernel methods: no norm, and weights for which its wide limit is a known kernel.

depth x [conv 3x3, padding 1 -> ReLU -> 2x2 mean pool] -> flatten -> linear. Every convolution pads
1, of grey images too: 28 px shrink to 14, 7 and 3. Weights start at N(0, 2 / fan_in), biases at
N(0, 0.01). The network of KIP (without its further convolution in front) and of RFAD.
"""

import torch
from torch import nn

from nsdbench.models.nets.classifier import ImageClassifier
from nsdbench.models.shapes import plain_convnet_map


class PlainConvNet(ImageClassifier):
    """Build a ConvNet without normalisation.

    Attributes:
        depth, width: as given.

    Parameter order: per block conv.weight, conv.bias; classifier last.
    """

    initialization = "wide_normal"
    # no norm layer has to turn the maps back; half the time of a pass, measured at widths 32 and 64
    memory_format = torch.channels_last

    def __init__(
        self, in_channels: int, image_size: int, num_classes: int, *, width: int, depth: int
    ) -> None:
        map_size = plain_convnet_map(image_size, depth)
        layers: list[nn.Module] = []
        channels = in_channels
        for _ in range(depth):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2)]
            channels = width
        super().__init__(
            nn.Sequential(*layers),
            width * map_size * map_size,
            num_classes,
            (in_channels, image_size, image_size),
        )
        self.depth = depth
        self.width = width
