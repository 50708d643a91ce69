"""ResNet10, 18 and 34 with the small-image stem; ResNet18_AP pools instead of striding.

conv3x3 64 (no bias) - norm - ReLU, then four stages of basic blocks (64, 128, 256, 512 channels;
strides 1, 2, 2, 2): one block a stage in ResNet10, two in ResNet18, 3, 4, 6 and 3 in ResNet34, and
a 4x4 mean pool at the end. ResNet18_AP replaces every stride 2 by a 2x2 mean pool (after the first
ReLU of the block, and between convolution and norm of the shortcut) and has no final pool. The
stem pads 1 for grey images too.
Reference: networks.py of DC and MTT (ResNet10, which they do not have: their ResNet with one block
a stage).
"""

import torch
from torch import nn
from torch.nn import functional as F

from nsdbench.models.ids import PUBLISHED_WIDTHS
from nsdbench.models.nets.classifier import ImageClassifier, norm_layer
from nsdbench.models.shapes import (
    RESNET10_BLOCKS,
    RESNET18_BLOCKS,
    RESNET34_BLOCKS,
    RESNET_STAGES,
    resnet_map,
    resnet_pool,
    scaled_channels,
)

PUBLISHED_WIDTH = PUBLISHED_WIDTHS["resnet18"]


class BasicBlock(nn.Module):
    """Compute relu(branch(x) + shortcut(x)), halving the map when `stride` is 2."""

    def __init__(
        self, in_channels: int, channels: int, stride: int, pools: bool, norm: str
    ) -> None:
        super().__init__()
        conv_stride = 1 if pools else stride
        self.conv_first = nn.Conv2d(
            in_channels, channels, kernel_size=3, stride=conv_stride, padding=1, bias=False
        )
        self.norm_first = norm_layer(norm, channels)
        self.pool = nn.AvgPool2d(2) if pools and stride == 2 else nn.Identity()
        self.conv_second = nn.Conv2d(channels, channels, kernel_size=3, padding=1, bias=False)
        self.norm_second = norm_layer(norm, channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, channels, kernel_size=1, stride=conv_stride, bias=False),
                nn.AvgPool2d(2) if pools and stride == 2 else nn.Identity(),
                norm_layer(norm, channels),
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map [B, in_channels, H, W] to [B, channels, H / stride, W / stride]."""
        branch = self.pool(F.relu(self.norm_first(self.conv_first(x))))
        return F.relu(self.norm_second(self.conv_second(branch)) + self.shortcut(x))


class ResNet18(ImageClassifier):
    """Build a ResNet18.

    Images below 32 px leave a map smaller than 4x4; the final pool then takes it all.
    `width` is the first stage's channel count, the other stages scale with it.
    """

    title = "ResNet18"
    blocks: tuple[int, ...] = RESNET18_BLOCKS
    pools = False

    def __init__(
        self,
        in_channels: int,
        image_size: int,
        num_classes: int,
        *,
        width: int,
        norm: str = "instance_norm",
    ) -> None:
        map_size = resnet_map(self.title, image_size, self.pools)
        channels = width
        layers: list[nn.Module] = [
            nn.Conv2d(in_channels, channels, kernel_size=3, padding=1, bias=False),
            norm_layer(norm, channels),
            nn.ReLU(),
        ]
        for (published_channels, stride), count in zip(RESNET_STAGES, self.blocks, strict=True):
            out_channels = scaled_channels(published_channels, width, PUBLISHED_WIDTH)
            for block_stride in (stride, *[1] * (count - 1)):
                layers.append(BasicBlock(channels, out_channels, block_stride, self.pools, norm))
                channels = out_channels
        if not self.pools:
            kernel = resnet_pool(map_size)
            layers.append(nn.AvgPool2d(kernel))
            map_size //= kernel
        super().__init__(
            nn.Sequential(*layers),
            channels * map_size * map_size,
            num_classes,
            (in_channels, image_size, image_size),
        )
        self.width = width
        self.norm = norm


class ResNet10(ResNet18):
    """Build a ResNet10; `width` is as for ResNet18."""

    title = "ResNet10"
    blocks = RESNET10_BLOCKS


class ResNet34(ResNet18):
    """Build a ResNet34; `width` is as for ResNet18."""

    title = "ResNet34"
    blocks = RESNET34_BLOCKS


class ResNet18AP(ResNet18):
    """Build a ResNet18_AP, for which every map is pooled; `width` is as for ResNet18."""

    title = "ResNet18_AP"
    pools = True
