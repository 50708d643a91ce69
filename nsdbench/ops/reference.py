"""The operators in plain PyTorch, written to be read: what the native code must agree with."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def mode_product(x: Tensor, matrix: Tensor, mode: int) -> Tensor:
    """Multiply mode `mode` of a tensor by a matrix: y[.., v, ..] = sum_s x[.., s, ..] matrix[s, v].

    Args:
        x: [d0, d1, d2, d3].
        matrix: [d_mode, u].
        mode: 0 to 3.

    Returns:
        x's shape with d_mode replaced by u.
    """
    return torch.movedim(torch.tensordot(x, matrix, dims=([mode], [0])), -1, mode)


def reconstruct(
    spectra: Tensor, kernels: Sequence[Tensor | None], index: Tensor | None = None
) -> Tensor:
    """Map every spectrum tensor by every kernel set: T x1 K1 x2 K2 x3 K3 x4 K4 (Eq. 1, Eq. 2).

    Args:
        spectra: [N_T, t1, t2, t3, t4].
        kernels: four [N_K, t_n, u_n], or None for the identity.
        index: [n] images wanted, None for all.

    Returns:
        [N_T * N_K * u1, u2, u3, u4] in image order (i * N_K + j) * u1 + r, or the n rows asked for.
    """
    num_kernel_sets = next((len(kernel) for kernel in kernels if kernel is not None), 1)
    blocks = []
    for spectrum in spectra:
        for j in range(num_kernel_sets):
            x = spectrum
            for mode, kernel in enumerate(kernels):
                if kernel is not None:
                    x = mode_product(x, kernel[j], mode)
            blocks.append(x)
    images = torch.cat(blocks)
    return images if index is None else images[index]


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


def convnet_features(
    theta: Tensor, x: Tensor, depth: int, width: int, padding: int
) -> tuple[Tensor, Tensor]:
    """Compute a ConvNet's flat features: depth x [conv 3x3, instance norm, ReLU, pool].

    Args:
        theta: [P] per block conv.weight, conv.bias, norm.weight, norm.bias; more may follow.
        x: [N, C, H, W].
        depth, width: blocks and their channels.
        padding: of the first convolution; the others pad 1.

    Returns:
        Features [N, F] and what of theta was not used.
    """
    for block in range(depth):
        channels = x.shape[1]
        sizes = [width * channels * 9, width, width, width]
        weight, bias, scale, shift, theta = theta.split([*sizes, len(theta) - sum(sizes)])
        weight = weight.view(width, channels, 3, 3)
        x = F.conv2d(x, weight, bias, padding=padding if block == 0 else 1)
        x = inorm_relu_pool(x, scale, shift)
    return x.flatten(1), theta


def convnet_loss(
    theta: Tensor, x: Tensor, y: Tensor, depth: int, width: int, padding: int
) -> Tensor:
    """Compute the mean cross-entropy of a linear classifier on the features.

    Args:
        theta: [P] the features' parameters, then the classifier's weight and bias.
        x, depth, width, padding: as for `convnet_features`.
        y: [N] classes or [N, K] probabilities.

    Returns:
        A scalar.
    """
    features, rest = convnet_features(theta, x, depth, width, padding)
    num_classes = len(rest) // (features.shape[1] + 1)
    weight = rest[: num_classes * features.shape[1]].view(num_classes, -1)
    logits = features @ weight.T + rest[weight.numel() :]
    return F.cross_entropy(logits, y)
