"""The exact kernels of the infinitely wide ConvNet: as a Gaussian process, and its tangent kernel.

Of a pair of images S[p, q] is the covariance of a layer's output at position p of the one and q of
the other (NNGP), T[p, q] the tangent kernel (NTK). Every position is kept, because a pool mixes
them. For weights of variance 2 / fan_in and biases of variance 0.01, NTK parametrisation:

    image    S = mean over channels of x[p] x'[q],  T = 0
    conv     S <- 2/9 sum_o S[p + o, q + o] + 0.01,  o the 9 offsets of 3 x 3, zero outside
             T <- S_new + 2/9 sum_o T[p + o, q + o]
    ReLU     with cos t = S[p, q] / sqrt(a[p] b[q]), a and b the images' own S[p, p]:
             S <- sqrt(a b) / (2 pi) (sin t + (pi - t) cos t),  T <- T (pi - t) / (2 pi)
    pool     means over 2 x 2 windows of p and of q; an odd last row or column is dropped
    head     mean over p of S[p, p] and of T[p, p], then S <- 2 S + 0.01,  T <- S_new + 2 T

depth x [conv, ReLU, pool], then the head; KIP puts one more [conv, ReLU] in front. Arora et al., On
Exact Computation with an Infinitely Wide Neural Net, NeurIPS 2019; Nguyen et al., Dataset
Distillation with Infinitely Wide Convolutional Networks, NeurIPS 2021.

Arrays of a pair have (H W)^2 numbers, so pairs are taken in blocks of bounded memory; gradients
compute a block again.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from nsdbench.distillation.objectives.families.regression import kernel_pair_bytes
from nsdbench.models.nets.initialization import BIAS_VARIANCE, WEIGHT_VARIANCE


@dataclass(frozen=True)
class KernelNet:
    """The network: `depth` blocks, with a further [conv, ReLU] in front or not."""

    depth: int
    is_prepended: bool = False

    def __str__(self) -> str:
        prepended = "conv, ReLU, " if self.is_prepended else ""
        return f"{prepended}{self.depth} x [conv, ReLU, pool]"

    @property
    def layers(self) -> list[str]:
        """Name the layers before the head."""
        return ["conv", "relu"] * self.is_prepended + ["conv", "relu", "pool"] * self.depth


def kernels(
    net: KernelNet, first: Tensor, second: Tensor | None, max_bytes: float
) -> tuple[Tensor, Tensor]:
    """Compute both kernels of all pairs of images.

    Args:
        net: the network.
        first: [n, C, H, W] images.
        second: [m, C, H, W]; None for those of `first`, whose kernels are symmetric, so that half
            of the pairs are computed.
        max_bytes: for the arrays of a block of pairs; at least one pair is taken at a time.

    Returns:
        NNGP and NTK [n, m] in the dtype of the images, differentiable in both.
    """
    n, m = len(first), len(first if second is None else second)
    pairs = torch.cartesian_prod(torch.arange(n), torch.arange(m)).to(first.device)
    if second is None:
        pairs = pairs[pairs[:, 0] <= pairs[:, 1]]
    at_once = block_size(net, first, max_bytes)
    own = _variances(net, first, at_once)
    others, other = (first, own) if second is None else (second, _variances(net, second, at_once))
    blocks = [
        _again(
            _pair_kernels,
            net, first[i], others[j], [v[i] for v in own], [v[j] for v in other],
        )
        for i, j in (block.unbind(1) for block in pairs.split(at_once))
    ]  # fmt: skip
    values = torch.cat(blocks, 1)
    if second is not None:
        return values[0].view(n, m), values[1].view(n, m)
    place = torch.empty(n, n, dtype=torch.long, device=first.device)
    i, j = pairs.unbind(1)
    place[i, j] = place[j, i] = torch.arange(len(pairs), device=first.device)
    return values[0][place], values[1][place]


def block_size(net: KernelNet, images: Tensor, max_bytes: float) -> int:
    """Return how many pairs of such images fit into a block, at least one."""
    side = images.shape[-1]
    pair = kernel_pair_bytes(side, net.depth, net.is_prepended, images.element_size())
    return max(1, int(max_bytes // pair))


def _variances(net: KernelNet, images: Tensor, at_once: int) -> list[Tensor]:
    """Return S[p, p] of every image with itself before every ReLU, [n, H, W] each."""
    blocks = [_again(_own_variances, net, rows) for rows in images.split(at_once)]
    return [torch.cat(parts) for parts in zip(*blocks, strict=True)]


def _again(function, *arguments):  # type: ignore[no-untyped-def]
    """Call a function; for gradients its intermediate values are computed again."""
    return checkpoint(function, *arguments, use_reentrant=False, preserve_rng_state=False)


def _own_variances(net: KernelNet, images: Tensor) -> list[Tensor]:
    s, found = _image_covariance(images, images), []
    for layer in net.layers:
        if layer == "conv":
            s = _conv(s) + BIAS_VARIANCE
        elif layer == "pool":
            s = _pool(s)
        else:
            found.append(_diagonal(s))
            s, _ = _relu(s, found[-1], found[-1])
    return found


def _pair_kernels(
    net: KernelNet, first: Tensor, second: Tensor, own: list[Tensor], other: list[Tensor]
) -> Tensor:
    """Return NNGP and NTK of image i of the one with image i of the other, [2, n]."""
    s = _image_covariance(first, second)
    t, variances = torch.zeros_like(s), iter(zip(own, other, strict=True))
    for layer in net.layers:
        if layer == "conv":
            s = _conv(s) + BIAS_VARIANCE
            t = s + _conv(t)
        elif layer == "pool":
            s, t = _pool(s), _pool(t)
        else:
            s, rest = _relu(s, *next(variances))
            t = t * rest
    nngp = WEIGHT_VARIANCE * _diagonal(s).mean((1, 2)) + BIAS_VARIANCE
    return torch.stack([nngp, nngp + WEIGHT_VARIANCE * _diagonal(t).mean((1, 2))])


def _image_covariance(first: Tensor, second: Tensor) -> Tensor:
    """[n, C, H, W] twice to [n, H, W, H, W]."""
    return torch.einsum("nchw,ncij->nhwij", first, second) / first.shape[1]


def _conv(x: Tensor) -> Tensor:
    """Return 2/9 of the sum of x[p + o, q + o]: over rows, then over columns."""
    return WEIGHT_VARIANCE / 9 * _shifted_sum(_shifted_sum(x, 1, 3), 2, 4)


def _shifted_sum(x: Tensor, p: int, q: int) -> Tensor:
    """Sum x moved by -1, 0 and 1 along dimensions p and q together, zero outside."""
    size, total = x.shape[p], x.clone()
    for one, other in ((0, 1), (1, 0)):
        here = total.narrow(p, one, size - 1).narrow(q, one, size - 1)
        here += x.narrow(p, other, size - 1).narrow(q, other, size - 1)
    return total


def _relu(s: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Pass a ReLU.

    Args:
        s: [n, H, W, H, W].
        a, b: variances of the one and the other, [n, H, W].

    Returns:
        S behind it, and (pi - t) / (2 pi), which T is multiplied by. Angles of 0 and pi are
        constants: there the gradient of acos is infinite, that of S is right without it.
    """
    scale = (a[:, :, :, None, None] * b[:, None, None]).sqrt()
    cosine = s / scale
    inside = cosine.abs() < 1 - 4 * torch.finfo(s.dtype).eps
    ends = torch.where(cosine > 0, 0.0, math.pi).to(s.dtype)
    angle = torch.where(inside, torch.where(inside, cosine, 0.0).acos(), ends)
    rest = math.pi - angle
    return scale / (2 * math.pi) * (angle.sin() + rest * cosine), rest / (2 * math.pi)


def _pool(x: Tensor) -> Tensor:
    """Take means of 2 x 2 windows in p and in q."""
    n, h, w = x.shape[0], x.shape[1] // 2, x.shape[2] // 2
    x = x[:, : 2 * h, : 2 * w, : 2 * h, : 2 * w]
    return x.reshape(n, h, 2, w, 2, h, 2, w, 2).mean((2, 4, 6, 8))


def _diagonal(x: Tensor) -> Tensor:
    """[n, H, W, H, W] to x[p, p], [n, H, W]."""
    n, h, w = x.shape[:3]
    return x.reshape(n, h * w, h * w).diagonal(dim1=1, dim2=2).reshape(n, h, w)
