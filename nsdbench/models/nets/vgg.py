"""VGG11 and VGG16 as dataset distillation uses them: 3x3 convolutions, pools, one linear layer.

VGG11: 64-M-128-M-256-256-M-512-512-M-512-512-M, each convolution followed by norm and ReLU, M a 2x2
max pool. VGG16: 2, 2, 3, 3 and 3 convolutions of these channels before the five pools. The first
convolution pads 3 for grey images. At 32 px the last norms see only 2x2 positions.
Reference: networks.py of DC and MTT.
"""

from torch import nn

from nsdbench.models.ids import PUBLISHED_WIDTHS
from nsdbench.models.nets.classifier import ImageClassifier, norm_layer
from nsdbench.models.shapes import (
    VGG11_STAGES,
    VGG16_STAGES,
    first_padding,
    scaled_channels,
    vgg_map,
)

PUBLISHED_WIDTH = PUBLISHED_WIDTHS["vgg11"]


class VGG11(ImageClassifier):
    """Build a VGG11; `width` is the first convolution's channel count, the others scale with it."""

    stages: tuple[tuple[int, ...], ...] = VGG11_STAGES

    def __init__(
        self,
        in_channels: int,
        image_size: int,
        num_classes: int,
        *,
        width: int,
        norm: str = "instance_norm",
    ) -> None:
        map_size = vgg_map(type(self).__name__, in_channels, image_size)
        padding = first_padding(in_channels)
        layers: list[nn.Module] = []
        channels = in_channels
        for stage in self.stages:
            for published_channels in stage:
                out_channels = scaled_channels(published_channels, width, PUBLISHED_WIDTH)
                layers += [
                    nn.Conv2d(channels, out_channels, kernel_size=3, padding=padding),
                    norm_layer(norm, out_channels),
                    nn.ReLU(),
                ]
                channels, padding = out_channels, 1
            layers.append(nn.MaxPool2d(kernel_size=2, stride=2))
        super().__init__(
            nn.Sequential(*layers),
            channels * map_size * map_size,
            num_classes,
            (in_channels, image_size, image_size),
        )
        self.width = width
        self.norm = norm


class VGG16(VGG11):
    """Build a VGG16; `width` is as for VGG11."""

    stages = VGG16_STAGES
