"""ViT-tiny: patches, a class token and learned positions, twelve blocks of attention.

Each block is x + attention(norm(x)), then x + mlp(norm(x)); 192 channels, three heads, an MLP of
four times the channels with GELU, layer norms with eps 1e-6; the features are the class token after
a last norm. Touvron et al., Training data-efficient image transformers, ICML 2021, table 1
(DeiT-Ti, without its distillation token): 5,717,416 parameters at 224 px with 1,000 classes.
Nothing is dropped out, our choice.

Parameters in the order of the reference implementation (class token, positions, patches, blocks,
norm, classifier). Weights start as `initialization` "transformer" says.
"""

import torch
from torch import nn

from nsdbench.models.nets.classifier import ImageClassifier
from nsdbench.models.nets.initialization import TRANSFORMER_STD
from nsdbench.models.shapes import (
    VIT_TINY_BLOCKS,
    VIT_TINY_EXPANSION,
    VIT_TINY_HEADS,
    vit_head_channels,
    vit_patch,
)

_EPS = 1e-6


class Block(nn.Module):
    """Compute x + attention(norm(x)) and then x + mlp(norm(x)) on tokens [B, N, D]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm_first = nn.LayerNorm(width, eps=_EPS)
        self.qkv = nn.Linear(width, 3 * width)
        self.projection = nn.Linear(width, width)
        self.norm_second = nn.LayerNorm(width, eps=_EPS)
        self.mlp = nn.Sequential(
            nn.Linear(width, VIT_TINY_EXPANSION * width),
            nn.GELU(),
            nn.Linear(VIT_TINY_EXPANSION * width, width),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map tokens [B, N, D] to tokens of that shape."""
        batch, tokens, width = x.shape
        heads = self.qkv(self.norm_first(x)).view(batch, tokens, 3, VIT_TINY_HEADS, -1)
        query, key, value = heads.permute(2, 0, 3, 1, 4)
        # torch's fused attention is not differentiable twice
        attention = (query @ key.transpose(2, 3) * query.shape[-1] ** -0.5).softmax(dim=-1)
        seen = (attention @ value).transpose(1, 2).reshape(batch, tokens, width)
        x = x + self.projection(seen)
        return x + self.mlp(self.norm_second(x))


class Transformer(nn.Module):
    """Map images [B, C, H, W] to the class token's features [B, D]."""

    def __init__(self, in_channels: int, image_size: int, width: int) -> None:
        super().__init__()
        vit_head_channels(width)
        patch = vit_patch(image_size)
        self.class_token = nn.Embedding(1, width)
        self.positions = nn.Embedding((image_size // patch) ** 2 + 1, width)
        for embedding in (self.class_token, self.positions):
            nn.init.trunc_normal_(embedding.weight, std=TRANSFORMER_STD)
        self.patches = nn.Conv2d(in_channels, width, kernel_size=patch, stride=patch)
        self.blocks = nn.Sequential(*(Block(width) for _ in range(VIT_TINY_BLOCKS)))
        self.norm = nn.LayerNorm(width, eps=_EPS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map images [B, C, H, W] to features [B, D]."""
        patches = self.patches(x).flatten(2).transpose(1, 2)
        first = self.class_token.weight.expand(len(x), 1, -1)
        tokens = torch.cat([first, patches], dim=1) + self.positions.weight
        return self.norm(self.blocks(tokens))[:, 0]


class ViTTiny(ImageClassifier):
    """Build a ViT-tiny; `width` is the channels of its tokens, a multiple of its three heads."""

    initialization = "transformer"

    def __init__(self, in_channels: int, image_size: int, num_classes: int, *, width: int) -> None:
        super().__init__(
            Transformer(in_channels, image_size, width),
            width,
            num_classes,
            (in_channels, image_size, image_size),
        )
        self.width = width
