"""The multilayer perceptron of dataset distillation: two hidden layers of 128 units with ReLU.

Reference: networks.py of DC, which takes 1x28x28 or 3x32x32; here the first layer is sized from the
image.
"""

from torch import nn

from nsdbench.models.nets.classifier import ImageClassifier


class MLP(ImageClassifier):
    """Build an MLP; `width` is the number of units of both hidden layers."""

    def __init__(self, in_channels: int, image_size: int, num_classes: int, *, width: int) -> None:
        super().__init__(
            nn.Sequential(
                nn.Flatten(),
                nn.Linear(in_channels * image_size * image_size, width),
                nn.ReLU(),
                nn.Linear(width, width),
                nn.ReLU(),
            ),
            width,
            num_classes,
            (in_channels, image_size, image_size),
        )
        self.width = width
