"""The twins of the operators of `ops.first_block`; formulas: csrc/kernels/first_block.h."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class _Map(NamedTuple):
    """The map of a block [N, C, H, W], normalised, and what of it the ReLU lets pass.

    A NaN passes: divergence must stay visible.
    """

    xhat: Tensor
    rstd: Tensor  # [N, C, 1, 1]
    y: Tensor
    passes: Tensor


def first_block(
    x: Tensor, weight: Tensor, gamma: Tensor, beta: Tensor, padding: int, eps: float
) -> tuple[Tensor, Tensor]:
    """Convolve the images, normalise every plane of the map, clip at zero, mean-pool 2x2.

    Args:
        x: [N, C_in, H, W].
        weight, gamma, beta: [C, C_in, 3, 3], [C], [C].
        padding: of the convolution.
        eps: added to the variance.

    Returns:
        The pooled map [N, h, w, C], and mean and 1 / standard deviation of the planes [2, N, C].
    """
    z = F.conv2d(x, weight, padding=padding)
    mean = z.mean(dim=(2, 3))
    variance = (z - _as_planes(mean)).square().mean(dim=(2, 3))
    moments = torch.stack([mean, (variance + eps).rsqrt()])
    return _pool(_clip(_normalise(z, gamma, beta, moments))), moments


def first_block_jvp(
    x: Tensor,
    weight: Tensor,
    gamma: Tensor,
    beta: Tensor,
    padding: int,
    moments: Tensor,
    weight_t: Tensor,
    gamma_t: Tensor,
    beta_t: Tensor,
) -> tuple[Tensor, Tensor]:
    """Differentiate `first_block` along a direction in its parameters.

    Returns:
        The tangent of the pooled map, and mean(z_t) and q = mean(xhat z_t) of the planes.
    """
    z, z_t = (F.conv2d(x, w, padding=padding) for w in (weight, weight_t))
    at = _normalise(z, gamma, beta, moments)
    mean_t = z_t.mean(dim=(2, 3))
    q = (at.xhat * (z_t - _as_planes(mean_t))).mean(dim=(2, 3))
    moments_t = torch.stack([mean_t, q])
    y_t = _channels(gamma) * _xhat_t(at, z_t, moments_t)
    y_t = y_t + _channels(gamma_t) * at.xhat + _channels(beta_t)
    return _pool(torch.where(at.passes, y_t, 0)), moments_t


def first_block_backward(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    gamma: Tensor,
    beta: Tensor,
    padding: int,
    moments: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the gradients of sum(grad * pooled map) in weight, gamma and beta."""
    at = _normalise(F.conv2d(x, weight, padding=padding), gamma, beta, moments)
    dy = _spread(grad, at)
    dz = _channels(gamma) * at.rstd * (dy - _mean(dy) - at.xhat * _mean(dy * at.xhat))
    _, of_weight = _convolution_backward(dz, x, weight, padding, (False, True))
    return of_weight, (dy * at.xhat).sum(dim=(0, 2, 3)), dy.sum(dim=(0, 2, 3))


def first_block_backward_jvp(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    gamma: Tensor,
    beta: Tensor,
    padding: int,
    moments: Tensor,
    grad_t: Tensor,
    weight_t: Tensor,
    gamma_t: Tensor,
    beta_t: Tensor,
    moments_t: Tensor,
    needs_weight: bool,
    needs_x: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Compute the tangents of the gradients in x, weight, gamma and beta; [0] where not needed."""
    z, z_t = (F.conv2d(x, w, padding=padding) for w in (weight, weight_t))
    at = _normalise(z, gamma, beta, moments)
    xhat_t = _xhat_t(at, z_t, moments_t)
    dy, dy_t = _spread(grad, at), _spread(grad_t, at)
    m1, m2 = _mean(dy), _mean(dy * at.xhat)
    product_t = dy_t * at.xhat + dy * xhat_t
    projected = dy - m1 - at.xhat * m2
    projected_t = dy_t - _mean(dy_t) - xhat_t * m2 - at.xhat * _mean(product_t)
    scale = _channels(gamma) * at.rstd
    scale_t = _channels(gamma_t) * at.rstd - scale * at.rstd * _as_planes(moments_t[1])
    dz, dz_t = scale * projected, scale_t * projected + scale * projected_t
    wanted = (needs_x, needs_weight)
    of_x, of_weight = _convolution_backward(dz_t, x, weight, padding, wanted)
    if needs_x:
        more, _ = _convolution_backward(dz, x, weight_t, padding, (True, False))
        of_x = (of_x + more).contiguous()
    return of_x, of_weight, product_t.sum(dim=(0, 2, 3)), dy_t.sum(dim=(0, 2, 3))


def _channels(values: Tensor) -> Tensor:
    return values[:, None, None]


def _as_planes(values: Tensor) -> Tensor:
    return values[:, :, None, None]


def _mean(planes: Tensor) -> Tensor:
    return planes.mean(dim=(2, 3), keepdim=True)


def _normalise(z: Tensor, gamma: Tensor, beta: Tensor, moments: Tensor) -> _Map:
    mean, rstd = _as_planes(moments[0]), _as_planes(moments[1])
    xhat = (z - mean) * rstd
    y = _channels(gamma) * xhat + _channels(beta)
    return _Map(xhat, rstd, y, ~(y <= 0))


def _xhat_t(at: _Map, z_t: Tensor, moments_t: Tensor) -> Tensor:
    return (z_t - _as_planes(moments_t[0]) - at.xhat * _as_planes(moments_t[1])) * at.rstd


def _clip(at: _Map) -> Tensor:
    return torch.where(at.passes, at.y, 0)


def _pool(planes: Tensor) -> Tensor:
    """Mean-pool [N, C, H, W] 2x2, to channels innermost."""
    return F.avg_pool2d(planes, 2).permute(0, 2, 3, 1).contiguous()


def _spread(grad: Tensor, at: _Map) -> Tensor:
    """Give every element that passes a quarter of its window's gradient [N, h, w, C]."""
    quarters = (grad.permute(0, 3, 1, 2) / 4).repeat_interleave(2, 2).repeat_interleave(2, 3)
    height, width = at.y.shape[2:]
    dropped = (0, width - quarters.shape[3], 0, height - quarters.shape[2])
    return torch.where(at.passes, F.pad(quarters, dropped), 0)


def _convolution_backward(
    grad: Tensor, x: Tensor, weight: Tensor, padding: int, wanted: tuple[bool, bool]
) -> tuple[Tensor, Tensor]:
    """Compute the gradients of the convolution in x and weight; [0] where not wanted."""
    found = torch.ops.aten.convolution_backward(
        grad, x, weight, None, [1, 1], [padding] * 2, [1, 1], False, [0, 0], 1, [*wanted, False]
    )
    return (
        found[0] if wanted[0] else x.new_empty(0),
        found[1] if wanted[1] else x.new_empty(0),
    )
