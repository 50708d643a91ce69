"""The twin of `ops.inorm_relu_pool`."""

import torch
from torch import Tensor
from torch.nn import functional as F


def inorm_relu_pool(x: Tensor, weight: Tensor, bias: Tensor, eps: float = 1e-5) -> Tensor:
    """Normalise every plane, scale and shift it, clip at zero, and mean-pool it 2x2.

    Args:
        x: [N, C, H, W].
        weight, bias: [C].
        eps: added to the (biased) variance of a plane.

    Returns:
        [N, C, H // 2, W // 2].
    """
    mean = x.mean(dim=(2, 3), keepdim=True)
    variance = (x - mean).square().mean(dim=(2, 3), keepdim=True)
    normalised = (x - mean) / (variance + eps).sqrt()
    y = normalised * weight[:, None, None] + bias[:, None, None]
    return F.avg_pool2d(F.relu(y), kernel_size=2, stride=2)


def inorm_relu_pool_jvp(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    x_t: Tensor | None,
    weight_t: Tensor | None,
    bias_t: Tensor | None,
    eps: float = 1e-5,
) -> Tensor:
    """Differentiate `inorm_relu_pool` along the tangents; None is zero."""
    point = tuple(operand.contiguous() for operand in (x, weight, bias))  # a dual cannot overlap
    tangents = tuple(
        torch.zeros_like(operand) if tangent is None else tangent.contiguous()
        for operand, tangent in zip(point, (x_t, weight_t, bias_t), strict=True)
    )

    def run(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return inorm_relu_pool(x, weight, bias, eps)

    return torch.func.jvp(run, point, tangents)[1]
