"""LeNet as dataset distillation uses it: two convolutions, two hidden linear layers.

conv5x5 6 - ReLU - 2x2 max pool - conv5x5 16 - ReLU - 2x2 max pool - linear 120 - ReLU - linear 84 -
ReLU - linear. The first convolution pads 2 for grey images, nothing else pads: 28 px grey images
and 32 px colour images both end as 5x5 maps.
Reference: networks.py of DC.
"""

from torch import nn

from nsdbench.models.ids import PUBLISHED_WIDTHS
from nsdbench.models.nets.classifier import ImageClassifier
from nsdbench.models.shapes import LENET_LAYERS, lenet_map, lenet_padding, scaled_channels

PUBLISHED_WIDTH = PUBLISHED_WIDTHS["lenet"]


class LeNet(ImageClassifier):
    """Build a LeNet; `width` is the first convolution's channels, the other layers scale with it.

    Parameter order: the two convolutions, the hidden layers, the classifier; weight, then bias.
    """

    def __init__(self, in_channels: int, image_size: int, num_classes: int, *, width: int) -> None:
        map_size = lenet_map(in_channels, image_size)
        first, second, third, last = (
            scaled_channels(published, width, PUBLISHED_WIDTH) for published in LENET_LAYERS
        )
        super().__init__(
            nn.Sequential(
                nn.Conv2d(in_channels, first, kernel_size=5, padding=lenet_padding(in_channels)),
                nn.ReLU(),
                nn.MaxPool2d(kernel_size=2, stride=2),
                nn.Conv2d(first, second, kernel_size=5),
                nn.ReLU(),
                nn.MaxPool2d(kernel_size=2, stride=2),
                nn.Flatten(),
                nn.Linear(second * map_size * map_size, third),
                nn.ReLU(),
                nn.Linear(third, last),
                nn.ReLU(),
            ),
            last,
            num_classes,
            (in_channels, image_size, image_size),
        )
        self.width = width
