"""The twins of the ConvNet operators."""

import torch
from torch import Tensor
from torch.nn import functional as F

from nsdbench.ops.reference.inorm_relu_pool import inorm_relu_pool


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


def convnet_step(
    theta: Tensor,
    x: Tensor,
    y: Tensor,
    lr: float,
    velocity: Tensor | None,
    momentum: float,
    depth: int,
    width: int,
    padding: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Take a step of SGD on `convnet_loss`: v' = momentum v + gradient, theta' = theta - lr v'.

    Returns:
        theta', v' and the loss.
    """
    with torch.enable_grad():
        leaf = theta.detach().requires_grad_()
        loss = convnet_loss(leaf, x.detach(), y.detach(), depth, width, padding)
        (gradient,) = torch.autograd.grad(loss, leaf)
    velocity = gradient if velocity is None else momentum * velocity + gradient
    return leaf.detach() - lr * velocity, velocity, loss.detach()


def convnet_step_adjoint(
    theta: Tensor,
    x: Tensor,
    y: Tensor,
    direction: Tensor,
    depth: int,
    width: int,
    padding: int,
    needs: tuple[bool, bool, bool],
) -> tuple[Tensor, Tensor, list[Tensor | None]]:
    """Differentiate `convnet_loss` and its gradients along a direction in theta, by autograd twice.

    Returns:
        The loss, its derivative, and those of its gradients in theta, x and y where needed.
    """
    with torch.enable_grad():
        theta = theta.detach().requires_grad_()
        x, y = x.detach().requires_grad_(needs[1]), y.detach().requires_grad_(needs[2])
        loss = convnet_loss(theta, x, y, depth, width, padding)
        (gradient,) = torch.autograd.grad(loss, theta, create_graph=any(needs))
        along = torch.dot(gradient, direction)
        asked = [leaf for leaf, need in zip((theta, x, y), needs, strict=True) if need]
        found = iter(torch.autograd.grad(along, asked) if asked else ())
    return loss.detach(), along.detach(), [next(found) if need else None for need in needs]
