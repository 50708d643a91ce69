"""AlexNet as dataset distillation uses it: five convolutions, one linear layer, no normalisation.

conv5x5 128 - pool - conv5x5 192 - pool - conv3x3 256 - conv3x3 192 - conv3x3 192 - pool - linear,
ReLU after every convolution, 2x2 max pools. The first convolution pads 4 for grey images (28 px
images make 32 px maps), and has stride 2 from 64 px on (DATM's and DD-Ranking's variant).
Reference: networks.py of MTT.
"""

import torch
from torch import nn

from nsdbench.models.ids import PUBLISHED_WIDTHS
from nsdbench.models.nets.classifier import ImageClassifier, scaled_channels, too_small

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
        width: int = PUBLISHED_WIDTH,
    ) -> None:
        first, middle, widest = (
            scaled_channels(channels, width, PUBLISHED_WIDTH) for channels in (128, 192, 256)
        )
        padding = 4 if in_channels == 1 else 2
        stride = 2 if image_size >= 64 else 1
        map_size = ((image_size + 2 * padding - 5) // stride + 1) // 8
        if map_size < 1:
            raise too_small("AlexNet", image_size, 8 - 2 * (padding - 2), "it halves them 3 times")
        features = nn.Sequential(
            nn.Conv2d(in_channels, first, kernel_size=5, stride=stride, padding=padding),
            nn.ReLU(),
            nn.MaxPool2d(kernel_size=2, stride=2),
            nn.Conv2d(first, middle, kernel_size=5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(kernel_size=2, stride=2),
            nn.Conv2d(middle, widest, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.Conv2d(widest, middle, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.Conv2d(middle, middle, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(kernel_size=2, stride=2),
        )
        super().__init__(
            features,
            middle * map_size * map_size,
            num_classes,
            (in_channels, image_size, image_size),
        )
        self.width = width
