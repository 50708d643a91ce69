"""A small network with few features before its classifier.

An example, and no network that anybody proposed.
"""

import torch
from torch import nn


class Bottleneck(nn.Module):
    """Compute logits from `width` features: pixels - linear - ReLU - linear.

    Args:
        in_channels, image_size, num_classes: of the data set.
        width: number of features.
    """

    def __init__(
        self, in_channels: int, image_size: int, num_classes: int, width: int = 32
    ) -> None:
        super().__init__()
        self.features = nn.Linear(in_channels * image_size**2, width)
        self.classifier = nn.Linear(width, num_classes)

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        """Map images [B, C, H, W] to features [B, width]."""
        return self.features(images.flatten(1)).relu()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map images [B, C, H, W] to logits [B, num_classes]."""
        return self.classifier(self.embed(images))
