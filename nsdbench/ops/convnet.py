"""The ConvNet's features, one SGD step and its adjoint as native operators.

Features f(theta, x) are twice differentiable: with g(c) = grad <c, f> for a cotangent c and v a
direction in (theta, x),

    <v, g(c)> = <c, tangent of f along v>

so differentiating g with respect to c is the tangent of f along v, and with respect to theta and x
it is the tangent of g along v: one native pass gives both. Convolution biases in front of an
instance norm cancel; they are not used, and their gradients are exactly 0.
Formulas: csrc/cpu/convnet.h.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

SWITCH = "NSDBENCH_NATIVE"
MAX_DEPTH = 8
MAX_IN_CHANNELS = 4
NORM_EPS = 1e-5  # the only one the native code knows
_is_composed: ContextVar[bool] = ContextVar("is_composed", default=False)


@dataclass(frozen=True)
class ConvNetShape:
    """What the operators need to know about a ConvNet besides theta and the images.

    Attributes:
        depth: blocks of convolution, instance norm, ReLU and pool.
        width: channels of every block.
        padding: of the first convolution.
    """

    depth: int
    width: int
    padding: int

    def map_sizes(self, x: Tensor) -> list[tuple[int, int]]:
        """List the sizes of the maps that the blocks normalise, then that of the features."""
        grown = 2 * self.padding - 2
        height, width = x.shape[2] + grown, x.shape[3] + grown
        return [(height >> layer, width >> layer) for layer in range(self.depth + 1)]

    def num_features(self, x: Tensor) -> int:
        height, width = self.map_sizes(x)[-1]
        return self.width * height * width

    def num_parameters(self, x: Tensor, num_classes: int = 0) -> int:
        first = self.width * (9 * x.shape[1] + 3)
        rest = (self.depth - 1) * self.width * (9 * self.width + 3)
        return first + rest + num_classes * (self.num_features(x) + 1)


def is_enabled() -> bool:
    """Say whether networks may use these operators here: not with NSDBENCH_NATIVE=0."""
    return os.environ.get(SWITCH, "1") != "0" and not _is_composed.get()


@contextmanager
def composed() -> Iterator[None]:
    """Run networks as compositions of PyTorch's operators, differentiable any number of times."""
    token = _is_composed.set(True)
    try:
        yield
    finally:
        _is_composed.reset(token)


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
    _check(theta, x, shape)
    keep = torch.is_grad_enabled() and (theta.requires_grad or x.requires_grad)
    return _Features.apply(theta, x, shape.depth, shape.width, shape.padding, keep)[0]


@torch.no_grad()
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
    """
    _check_classifier(theta, x, y, shape, velocity=velocity)
    return torch.ops.nsdbench.convnet_step(
        theta, x, y, lr, velocity, momentum, shape.depth, shape.width, shape.padding
    )


@torch.no_grad()
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

    Cost: one pass forward and backward with tangents, about 2.7 times a step; no graph.
    """
    _check_classifier(theta, x, y, shape, direction=direction)
    if needs[2] and y.dim() == 1:
        raise ValueError("convnet: y: classes have no derivative; expected probabilities")
    loss, along, *found = torch.ops.nsdbench.convnet_step_adjoint(
        theta, x, y, direction, shape.depth, shape.width, shape.padding, *needs
    )
    return loss, along, [h if need else None for h, need in zip(found, needs, strict=True)]


def _refuse(text: str) -> None:
    raise ValueError(f"convnet: {text}")


def _check(theta: Tensor, x: Tensor, shape: ConvNetShape, num_classes: int = 0, **others) -> None:
    """Refuse what the native code would refuse (csrc/ops/convnet_cpu.cpp).

    `others` maps names to (tensor or None, expected shape).
    """
    if x.dim() != 4:
        _refuse(f"x: expected 4 dimensions [N, C, H, W], got {list(x.shape)}")
    if x.dtype not in (torch.float32, torch.float64):
        _refuse(f"x: expected dtype float32 or float64, got {x.dtype}")
    if not 1 <= x.shape[1] <= MAX_IN_CHANNELS:
        _refuse(f"x: expected 1 to {MAX_IN_CHANNELS} channels, got {list(x.shape)}")
    if not 1 <= shape.depth <= MAX_DEPTH:
        _refuse(f"depth: expected 1 to {MAX_DEPTH}, got {shape.depth}")
    for name in ("width", "padding"):
        if getattr(shape, name) < 1:
            _refuse(f"{name}: expected at least 1, got {getattr(shape, name)}")
    if min(shape.map_sizes(x)[-1]) < 1:
        _refuse(f"x: {shape.depth} blocks halve {list(x.shape)} to nothing")
    others = {"theta": (theta, [shape.num_parameters(x, num_classes)]), **others}
    for name, (tensor, expected) in others.items():
        if tensor is None:
            continue
        if list(tensor.shape) != expected:
            _refuse(f"{name}: expected shape {expected}, got {list(tensor.shape)}")
        if tensor.dtype != x.dtype:
            _refuse(f"{name}: expected the dtype of x, {x.dtype}, got {tensor.dtype}")
        if tensor.device != x.device:
            _refuse(f"{name}: expected the device of x, {x.device}, got {tensor.device}")


def _check_classifier(
    theta: Tensor, x: Tensor, y: Tensor, shape: ConvNetShape, **others: Tensor | None
) -> None:
    is_hard = y.dim() == 1 and y.dtype == torch.int64
    if not is_hard and not (y.dim() == 2 and y.dtype == x.dtype):
        _refuse(
            "y: expected classes [N] int64 or probabilities [N, K] with the dtype of x, "
            f"got {list(y.shape)} {y.dtype}"
        )
    if x.dim() == 4 and len(y) != len(x):
        _refuse(f"y: expected {len(x)} rows, one an image, got {len(y)}")
    if len(y) < 1:
        _refuse("x: expected at least one image, got none")
    num_classes = 1 if is_hard else y.shape[1]
    if is_hard and x.dim() == 4 and theta.dim() == 1:  # only theta can tell
        missing = theta.numel() - shape.num_parameters(x)
        num_classes = max(1, missing // (shape.num_features(x) + 1))
    expected = [shape.num_parameters(x, num_classes)] if x.dim() == 4 else []
    _check(theta, x, shape, num_classes, **{n: (t, expected) for n, t in others.items()})


class _Features(torch.autograd.Function):
    """Features and, not differentiable, the activations that the gradient wants to read."""

    @staticmethod
    def forward(theta, x, depth, width, padding, keep):
        return torch.ops.nsdbench.convnet_features(theta, x, depth, width, padding, keep)

    @staticmethod
    def setup_context(ctx, inputs, output):
        _save_features(ctx, inputs, output)

    @staticmethod
    def backward(ctx, grad, _):
        return _features_backward(ctx, grad, _)

    @staticmethod
    def jvp(ctx, theta_t, x_t, *others):
        theta, x, _ = ctx.saved_tensors
        out_t = torch.ops.nsdbench.convnet_features_jvp(theta, x, theta_t, x_t, *ctx.sizes)
        return out_t, None


class _FeaturesBackward(torch.autograd.Function):
    """The gradients with respect to theta and x, differentiable once more."""

    @staticmethod
    def forward(grad, theta, x, activations, depth, width, padding, needs_theta, needs_x):
        return torch.ops.nsdbench.convnet_features_backward(
            grad, theta, x, activations, depth, width, padding, needs_theta, needs_x
        )

    @staticmethod
    def setup_context(ctx, inputs, output):
        _save_backward(ctx, inputs, output)

    @staticmethod
    @once_differentiable
    def backward(ctx, *directions):
        return _backward_of_backward(ctx, *directions)


def _save_features(ctx, inputs, output) -> None:
    theta, x, depth, width, padding, _ = inputs
    activations = output[1]
    ctx.mark_non_differentiable(activations)
    ctx.save_for_backward(theta, x, activations)
    ctx.save_for_forward(theta, x, activations)
    ctx.sizes = (depth, width, padding)
    ctx.set_materialize_grads(False)


def _features_backward(ctx, grad, _):
    needs_theta, needs_x = ctx.needs_input_grad[:2]
    if grad is None:
        return (None,) * 6
    for_theta, for_x = _FeaturesBackward.apply(
        grad, *ctx.saved_tensors, *ctx.sizes, needs_theta, needs_x
    )
    return for_theta if needs_theta else None, for_x if needs_x else None, None, None, None, None


def _save_backward(ctx, inputs, output) -> None:
    grad, theta, x, _, *ctx.sizes, _, _ = inputs
    ctx.save_for_backward(grad, theta, x)
    ctx.set_materialize_grads(False)


def _backward_of_backward(ctx, theta_t, x_t):
    grad, theta, x = ctx.saved_tensors
    theta_t = None if theta_t is None or not theta_t.numel() else theta_t
    x_t = None if x_t is None or not x_t.numel() else x_t
    if theta_t is None and x_t is None:
        return (None,) * 9
    needs_grad, needs_theta, needs_x = ctx.needs_input_grad[:3]
    for_grad, for_theta, for_x = torch.ops.nsdbench.convnet_features_backward_jvp(
        grad, theta, x, None, theta_t, x_t, *ctx.sizes, needs_theta, needs_x
    )
    found = zip((for_grad, for_theta, for_x), (needs_grad, needs_theta, needs_x), strict=True)
    return *(h if need else None for h, need in found), *(None,) * 6


@torch.library.register_fake("nsdbench::convnet_features")
def _fake_features(theta, x, depth, width, padding, keep):
    shape = ConvNetShape(depth, width, padding)
    _check(theta, x, shape)
    kept = [x.shape[0], _activation_size(x, shape)] if keep else [0]
    return x.new_empty([x.shape[0], shape.num_features(x)]), x.new_empty(kept)


def _activation_size(x: Tensor, shape: ConvNetShape) -> int:
    """Elements an image needs; csrc/cpu/convnet_layout.h says what they are."""
    block = 64 // x.element_size()
    channels = -(-shape.width // block) * block
    total = 2 * channels * shape.depth
    for height, width in shape.map_sizes(x)[1 : shape.depth]:
        rows, columns = height + height % 2, width + width % 2
        total += channels * ((rows + 2) * (columns + 2) + rows * columns)
    return total


@torch.library.register_fake("nsdbench::convnet_features_backward")
def _fake_features_backward(
    grad, theta, x, activations, depth, width, padding, needs_theta, needs_x
):
    shape = ConvNetShape(depth, width, padding)
    _check(theta, x, shape, grad=(grad, [x.shape[0], shape.num_features(x)]))
    return (
        theta.new_empty(theta.shape if needs_theta else [0]),
        x.new_empty(x.shape if needs_x else [0]),
    )


@torch.library.register_fake("nsdbench::convnet_features_jvp")
def _fake_features_jvp(theta, x, theta_t, x_t, depth, width, padding):
    shape = ConvNetShape(depth, width, padding)
    tangents = {"theta_t": (theta_t, list(theta.shape)), "x_t": (x_t, list(x.shape))}
    _check(theta, x, shape, **tangents)
    return x.new_empty([x.shape[0], shape.num_features(x)])


@torch.library.register_fake("nsdbench::convnet_features_backward_jvp")
def _fake_features_backward_jvp(
    grad, theta, x, grad_t, theta_t, x_t, depth, width, padding, needs_theta, needs_x
):
    shape = ConvNetShape(depth, width, padding)
    features = [x.shape[0], shape.num_features(x)]
    tangents = {"theta_t": (theta_t, list(theta.shape)), "x_t": (x_t, list(x.shape))}
    _check(theta, x, shape, grad=(grad, features), grad_t=(grad_t, features), **tangents)
    return (
        x.new_empty(features),
        theta.new_empty(theta.shape if needs_theta else [0]),
        x.new_empty(x.shape if needs_x else [0]),
    )


@torch.library.register_fake("nsdbench::convnet_step")
def _fake_step(theta, x, y, lr, velocity, momentum, depth, width, padding):
    _check_classifier(theta, x, y, ConvNetShape(depth, width, padding), velocity=velocity)
    return theta.new_empty(theta.shape), theta.new_empty(theta.shape), theta.new_empty([])


@torch.library.register_fake("nsdbench::convnet_step_adjoint")
def _fake_step_adjoint(
    theta, x, y, direction, depth, width, padding, needs_theta, needs_x, needs_y
):
    _check_classifier(theta, x, y, ConvNetShape(depth, width, padding), direction=direction)
    return (
        theta.new_empty([]),
        theta.new_empty([]),
        theta.new_empty(theta.shape if needs_theta else [0]),
        x.new_empty(x.shape if needs_x else [0]),
        x.new_empty(y.shape if needs_y else [0]),
    )


torch.library.register_autograd(
    "nsdbench::convnet_features", _features_backward, setup_context=_save_features
)
torch.library.register_autograd(
    "nsdbench::convnet_features_backward", _backward_of_backward, setup_context=_save_backward
)
