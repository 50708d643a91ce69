"""AlexNet as dataset distillation uses it: five convolutions, one linear layer, no normalisation.

conv5x5 128 - pool - conv5x5 192 - pool - conv3x3 256 - conv3x3 192 - conv3x3 192 - pool - linear,
ReLU after every convolution, 2x2 max pools. The first convolution pads 4 for grey images (28 px
images make 32 px maps), and has stride 2 from 64 px on (DATM's and DD-Ranking's variant).
Reference: networks.py of MTT.
"""

import torch
from torch import nn

from nsdbench.models.ids import PUBLISHED_WIDTHS
from nsdbench.models.nets.classifier import ImageClassifier
from nsdbench.models.shapes import (
    ALEXNET_CHANNELS,
    alexnet_map,
    alexnet_stride,
    first_padding,
    scaled_channels,
)

PUBLISHED_WIDTH = PUBLISHED_WIDTHS["alexnet"]


class AlexNet(ImageClassifier):
    """Build an AlexNet; `width` is the first convolution's channels, the others scale with it."""

    # no norm layer has to turn the maps back; a third less time a step, timed once at width 16
    memory_format = torch.channels_last

    def __init__(
        self,
        in_channels: int,
        image_size: int,
        num_classes: int,
        *,
        width: int,
    ) -> None:
        one, two, three, four, five = (
            scaled_channels(channels, width, PUBLISHED_WIDTH) for channels in ALEXNET_CHANNELS
        )
        map_size = alexnet_map(in_channels, image_size)
        padding, stride = first_padding(in_channels, 5), alexnet_stride(image_size)
        features = nn.Sequential(
            nn.Conv2d(in_channels, one, kernel_size=5, stride=stride, padding=padding),
            nn.ReLU(),
            nn.MaxPool2d(kernel_size=2, stride=2),
            nn.Conv2d(one, two, kernel_size=5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(kernel_size=2, stride=2),
            nn.Conv2d(two, three, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.Conv2d(three, four, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.Conv2d(four, five, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(kernel_size=2, stride=2),
        )
        super().__init__(
            features,
            five * map_size * map_size,
            num_classes,
            (in_channels, image_size, image_size),
        )
        self.width = width
