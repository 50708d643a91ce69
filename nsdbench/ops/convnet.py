"""The ConvNet's features, one SGD step and its adjoint as native operators.

Features are twice differentiable (convnet_autograd.py). Convolution biases in front of an instance
norm cancel; they are not used, and their gradients are exactly 0 (rounding noise in the twins).
Formulas: csrc/cpu/convnet.h.
"""

import torch
from torch import Tensor

from nsdbench.ops import reference
from nsdbench.ops.backend import is_native
from nsdbench.ops.convnet_autograd import features, step, step_adjoint
from nsdbench.ops.convnet_shape import (
    MAX_DEPTH,
    MAX_IN_CHANNELS,
    ConvNetShape,
    check,
    check_classes,
    check_classifier,
)
from nsdbench.ops.registration import constant

__all__ = [
    "MAX_DEPTH",
    "MAX_IN_CHANNELS",
    "ConvNetShape",
    "convnet_features",
    "convnet_step",
    "convnet_step_adjoint",
    "path_on",
]


def path_on(device: torch.device) -> str:
    """Name what computes a ConvNet for tensors on a device.

    Returns:
        "native": the operators of this module, on the CPU. "fused": those of `convnet_blocks`, on
        CUDA. "generic": PyTorch's modules, where the compiled operators are not to be used.
    """
    if not is_native(device):
        return "generic"
    return {"cpu": "native", "cuda": "fused"}[device.type]


def convnet_features(theta: Tensor, x: Tensor, shape: ConvNetShape) -> Tensor:
    """Compute the flat features of a ConvNet with instance norm.

    Args:
        theta: [P] parameters of the blocks: conv.weight, conv.bias, norm.weight, norm.bias each.
        x: [N, C, H, W] images with C <= 4 channels, of theta's dtype (float32 or float64), CPU.
        shape: of the network.

    Returns:
        [N, F], in the order of `Tensor.flatten` on [N, width, h, w].

    Raises:
        ValueError: a shape, dtype or device does not fit; the message names the argument.
        RuntimeError: on differentiating more than twice.

    Cost: when a gradient may be wanted, keeps the blocks' inputs and all convolution outputs but
    the first, which is recomputed. Equal calls give equal bits, whatever the number of threads.
    """
    check(theta, x, shape)
    sizes = (shape.depth, shape.width, shape.padding)
    if not is_native(x.device):
        return reference.convnet_features(theta, x, *sizes)[0]
    keep = torch.is_grad_enabled() and (theta.requires_grad or x.requires_grad)
    return features(theta, x, *sizes, keep)[0]


@constant("the cross-entropy of convnet_features")
def convnet_step(
    theta: Tensor,
    x: Tensor,
    y: Tensor,
    lr: float,
    shape: ConvNetShape,
    *,
    velocity: Tensor | None = None,
    momentum: float = 0.0,
) -> tuple[Tensor, Tensor, Tensor]:
    """Take one step of SGD on the mean cross-entropy L of a ConvNet with its classifier.

        v' = momentum v + grad L(theta),   theta' = theta - lr v'

    Args:
        theta: [P] all parameters, the classifier's weight and bias last.
        x: [N, C, H, W] images.
        y: [N] int64 classes or [N, K] probabilities in the dtype of x.
        lr: step size.
        shape: of the network.
        velocity: [P] v, None for 0.
        momentum: factor of the velocity.

    Returns:
        theta' [P], v' [P] and the scalar L, none of them differentiable.

    Raises:
        ValueError: a shape, dtype, device or class does not fit; the message names the argument.
        RuntimeError: under torch.func.grad or jvp.
    """
    check_classifier(theta, x, y, shape, velocity=velocity)
    sizes = (shape.depth, shape.width, shape.padding)
    if not is_native(x.device):
        check_classes(theta, x, y, shape)
        return reference.convnet_step(theta, x, y, lr, velocity, momentum, *sizes)
    return step(theta, x, y, lr, velocity, momentum, *sizes)


@constant("the cross-entropy of convnet_features")
def convnet_step_adjoint(
    theta: Tensor,
    x: Tensor,
    y: Tensor,
    direction: Tensor,
    shape: ConvNetShape,
    needs: tuple[bool, bool, bool] = (True, True, False),
) -> tuple[Tensor, Tensor, list[Tensor | None]]:
    """Differentiate L and its gradients along a direction in theta.

    Args:
        theta, x, y, shape: as for `convnet_step`.
        direction: p [P].
        needs: which of h_theta, h_x, h_y to compute; h_y exists for probabilities only.

    Returns:
        L, <grad_theta L, p>, and [h_theta, h_x, h_y], the derivatives along p of the gradients of
        L with respect to theta, x and y, None for what was not asked for.

    Raises:
        ValueError: a shape, dtype, device or class does not fit; the message names the argument.
        RuntimeError: under torch.func.grad or jvp.

    Cost: one pass forward and backward with tangents, about 2.7 times a step; no graph.
    """
    check_classifier(theta, x, y, shape, direction=direction)
    if needs[2] and y.dim() == 1:
        raise ValueError("convnet: y: classes have no derivative; expected probabilities")
    sizes = (shape.depth, shape.width, shape.padding)
    if not is_native(x.device):
        check_classes(theta, x, y, shape)
        return reference.convnet_step_adjoint(theta, x, y, direction, *sizes, needs)
    loss, along, *found = step_adjoint(theta, x, y, direction, *sizes, *needs)
    return loss, along, [h if need else None for h, need in zip(found, needs, strict=True)]
