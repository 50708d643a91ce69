"""Derivatives and fake kernels of the ConvNet operators.

With g(c) = grad <c, f> for a cotangent c of the features f, and v a direction in (theta, x),

    <v, g(c)> = <c, tangent of f along v>

so differentiating g with respect to c is the tangent of f along v, and with respect to theta and x
it is the tangent of g along v: one native pass gives both.
"""

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from nsdbench.ops.convnet_shape import ConvNetShape, check, check_classifier
from nsdbench.ops.vmap import refuse_vmap


class Features(torch.autograd.Function):
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

    vmap = staticmethod(refuse_vmap("convnet_features"))


class FeaturesBackward(torch.autograd.Function):
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

    vmap = staticmethod(refuse_vmap("convnet_features_backward"))


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
    for_theta, for_x = FeaturesBackward.apply(
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
    check(theta, x, shape)
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
    check(theta, x, shape, grad=(grad, [x.shape[0], shape.num_features(x)]))
    return (
        theta.new_empty(theta.shape if needs_theta else [0]),
        x.new_empty(x.shape if needs_x else [0]),
    )


@torch.library.register_fake("nsdbench::convnet_features_jvp")
def _fake_features_jvp(theta, x, theta_t, x_t, depth, width, padding):
    shape = ConvNetShape(depth, width, padding)
    tangents = {"theta_t": (theta_t, list(theta.shape)), "x_t": (x_t, list(x.shape))}
    check(theta, x, shape, **tangents)
    return x.new_empty([x.shape[0], shape.num_features(x)])


@torch.library.register_fake("nsdbench::convnet_features_backward_jvp")
def _fake_features_backward_jvp(
    grad, theta, x, grad_t, theta_t, x_t, depth, width, padding, needs_theta, needs_x
):
    shape = ConvNetShape(depth, width, padding)
    features = [x.shape[0], shape.num_features(x)]
    tangents = {"theta_t": (theta_t, list(theta.shape)), "x_t": (x_t, list(x.shape))}
    check(theta, x, shape, grad=(grad, features), grad_t=(grad_t, features), **tangents)
    return (
        x.new_empty(features),
        theta.new_empty(theta.shape if needs_theta else [0]),
        x.new_empty(x.shape if needs_x else [0]),
    )


@torch.library.register_fake("nsdbench::convnet_step")
def _fake_step(theta, x, y, lr, velocity, momentum, depth, width, padding):
    check_classifier(theta, x, y, ConvNetShape(depth, width, padding), velocity=velocity)
    return theta.new_empty(theta.shape), theta.new_empty(theta.shape), theta.new_empty([])


@torch.library.register_fake("nsdbench::convnet_step_adjoint")
def _fake_step_adjoint(
    theta, x, y, direction, depth, width, padding, needs_theta, needs_x, needs_y
):
    check_classifier(theta, x, y, ConvNetShape(depth, width, padding), direction=direction)
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
for _operator in (
    "convnet_features_jvp",
    "convnet_features_backward_jvp",
    "convnet_step",
    "convnet_step_adjoint",
):
    refuse_vmap(_operator)
