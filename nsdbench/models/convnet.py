"""ConvNet: the network on which dataset distillation is measured.

depth x [conv 3x3 -> norm -> ReLU -> 2x2 mean pool] -> flatten -> linear. The first convolution
pads 3 instead of 1 when images have one channel, so that 28 px grey images become 32 px maps.
Reference: networks.py of the dataset condensation and MTT codes.
"""

from torch import nn

from nsdbench.models.classifier import ImageClassifier, norm_layer, too_small

PUBLISHED_WIDTH = 128
PUBLISHED_DEPTH = 3


class ConvNet(ImageClassifier):
    """Build a ConvNet of any depth and width.

    Attributes:
        depth, width, norm: as given, so that a specialised implementation can recognise it.

    Parameter order: per block conv.weight, conv.bias, norm.weight, norm.bias; classifier last.
    """

    def __init__(
        self,
        in_channels: int,
        image_size: int,
        num_classes: int,
        *,
        width: int = PUBLISHED_WIDTH,
        depth: int = PUBLISHED_DEPTH,
        norm: str = "instance_norm",
    ) -> None:
        padding = first_padding(in_channels)
        map_size = image_size + 2 * (padding - 1)
        if map_size < 2**depth:
            raise too_small(
                f"a ConvNet of depth {depth}",
                image_size,
                max(1, 2**depth - 2 * (padding - 1)),
                "every block halves the image; choose a smaller depth or larger images",
            )
        layers: list[nn.Module] = []
        channels = in_channels
        for block in range(depth):
            layers += [
                nn.Conv2d(channels, width, kernel_size=3, padding=padding if block == 0 else 1),
                norm_layer(norm, width),
                nn.ReLU(),
                nn.AvgPool2d(kernel_size=2, stride=2),
            ]
            channels = width
            map_size //= 2
        super().__init__(
            nn.Sequential(*layers),
            width * map_size * map_size,
            num_classes,
            (in_channels, image_size, image_size),
        )
        self.depth = depth
        self.width = width
        self.norm = norm


def first_padding(in_channels: int) -> int:
    """Padding of the first 3x3 convolution: 3 for grey images, else 1 (reference networks)."""
    return 3 if in_channels == 1 else 1
