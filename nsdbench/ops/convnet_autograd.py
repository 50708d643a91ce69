"""Derivatives and fake kernels of the ConvNet operators.

With g(c) = grad <c, f> for a cotangent c of the features f, and v a direction in (theta, x),

    <v, g(c)> = <c, tangent of f along v>

so differentiating g with respect to c is the tangent of f along v, and with respect to theta and x
it is the tangent of g along v: one native pass gives both.
"""

from typing import Any

from torch import Tensor

from nsdbench.ops.convnet_shape import ConvNetShape, check, check_classifier
from nsdbench.ops.registration import differentiable, plain


def _save_features(ctx: Any, inputs: Any, output: Any) -> None:
    theta, x, *ctx.sizes, _ = inputs
    activations = output[1]  # what the gradient wants to read; not differentiable
    ctx.mark_non_differentiable(activations)
    ctx.save_for_backward(theta, x, activations)
    ctx.save_for_forward(theta, x, activations)
    ctx.set_materialize_grads(False)


def _features_backward(ctx: Any, grad: Tensor | None, _: Any) -> tuple[Tensor | None, ...]:
    needs_theta, needs_x = ctx.needs_input_grad[:2]
    if grad is None:
        return (None,) * 6
    for_theta, for_x = features_backward(grad, *ctx.saved_tensors, *ctx.sizes, needs_theta, needs_x)
    return for_theta if needs_theta else None, for_x if needs_x else None, None, None, None, None


def _features_jvp(
    ctx: Any, theta_t: Tensor | None, x_t: Tensor | None, *_: Any
) -> tuple[Tensor, None]:
    theta, x, _ = ctx.saved_tensors
    return _tangent(theta, x, theta_t, x_t, *ctx.sizes), None


def _save_backward(ctx: Any, inputs: Any, output: Any) -> None:
    grad, theta, x, _, *ctx.sizes, needs_theta, needs_x = inputs
    ctx.wanted = needs_theta, needs_x
    ctx.save_for_backward(grad, theta, x)
    ctx.save_for_forward(grad, theta, x)
    ctx.set_materialize_grads(False)


def _backward_backward(
    ctx: Any, theta_t: Tensor | None, x_t: Tensor | None
) -> tuple[Tensor | None, ...]:
    theta_t = None if theta_t is None or not theta_t.numel() else theta_t
    x_t = None if x_t is None or not x_t.numel() else x_t
    if theta_t is None and x_t is None:
        return (None,) * 9
    grad, theta, x = ctx.saved_tensors
    needs_grad, needs_theta, needs_x = ctx.needs_input_grad[:3]
    for_grad, for_theta, for_x = _gradients_tangent(
        grad, theta, x, None, theta_t, x_t, *ctx.sizes, needs_theta, needs_x
    )
    found = zip((for_grad, for_theta, for_x), (needs_grad, needs_theta, needs_x), strict=True)
    return *(h if need else None for h, need in found), *(None,) * 6


def _backward_jvp(
    ctx: Any, grad_t: Tensor | None, theta_t: Tensor | None, x_t: Tensor | None, *_: Any
) -> tuple[Tensor, Tensor]:
    grad, theta, x = ctx.saved_tensors
    if theta_t is None and x_t is None:  # linear in grad; the activations are recomputed
        return features_backward(grad_t, theta, x, x.new_empty(0), *ctx.sizes, *ctx.wanted)
    _, *found = _gradients_tangent(grad, theta, x, grad_t, theta_t, x_t, *ctx.sizes, *ctx.wanted)
    return found[0], found[1]


def _fake_features(
    theta: Tensor, x: Tensor, depth: int, width: int, padding: int, keep: bool
) -> tuple[Tensor, Tensor]:
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
        tile = _tile_of(height, width, x.shape[0])
        rows, columns = -(-height // tile) * tile, -(-width // tile) * tile
        total += channels * ((rows + 2) * (columns + 2) + rows * columns)
    return total


def _tile_of(height: int, width: int, num_images: int) -> int:
    """Rows of a Winograd tile; csrc/cpu/convnet_layout.cpp says why."""
    twos = -(-height // 2) * -(-width // 2)
    fours = -(-height // 4) * -(-width // 4)
    return 4 if num_images * (16 * twos - 45 * fours) >= 400 else 2


def _fake_features_backward(
    grad: Tensor,
    theta: Tensor,
    x: Tensor,
    activations: Tensor,
    depth: int,
    width: int,
    padding: int,
    needs_theta: bool,
    needs_x: bool,
) -> tuple[Tensor, Tensor]:
    shape = ConvNetShape(depth, width, padding)
    check(theta, x, shape)
    check(theta, x, shape, grad=(grad, [x.shape[0], shape.num_features(x)]))
    return (
        theta.new_empty(theta.shape if needs_theta else [0]),
        x.new_empty(x.shape if needs_x else [0]),
    )


def _fake_features_jvp(
    theta: Tensor,
    x: Tensor,
    theta_t: Tensor | None,
    x_t: Tensor | None,
    depth: int,
    width: int,
    padding: int,
) -> Tensor:
    shape = ConvNetShape(depth, width, padding)
    check(theta, x, shape, theta_t=(theta_t, list(theta.shape)), x_t=(x_t, list(x.shape)))
    return x.new_empty([x.shape[0], shape.num_features(x)])


def _fake_features_backward_jvp(
    grad: Tensor,
    theta: Tensor,
    x: Tensor,
    grad_t: Tensor | None,
    theta_t: Tensor | None,
    x_t: Tensor | None,
    depth: int,
    width: int,
    padding: int,
    needs_theta: bool,
    needs_x: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    shape = ConvNetShape(depth, width, padding)
    check(theta, x, shape, theta_t=(theta_t, list(theta.shape)), x_t=(x_t, list(x.shape)))
    features = [x.shape[0], shape.num_features(x)]
    check(theta, x, shape, grad=(grad, features), grad_t=(grad_t, features))
    return (
        x.new_empty(features),
        theta.new_empty(theta.shape if needs_theta else [0]),
        x.new_empty(x.shape if needs_x else [0]),
    )


def _fake_step(
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
    check_classifier(theta, x, y, ConvNetShape(depth, width, padding), velocity=velocity)
    return theta.new_empty(theta.shape), theta.new_empty(theta.shape), theta.new_empty([])


def _fake_step_adjoint(
    theta: Tensor,
    x: Tensor,
    y: Tensor,
    direction: Tensor,
    depth: int,
    width: int,
    padding: int,
    needs_theta: bool,
    needs_x: bool,
    needs_y: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    check_classifier(theta, x, y, ConvNetShape(depth, width, padding), direction=direction)
    return (
        theta.new_empty([]),
        theta.new_empty([]),
        theta.new_empty(theta.shape if needs_theta else [0]),
        x.new_empty(x.shape if needs_x else [0]),
        x.new_empty(y.shape if needs_y else [0]),
    )


features = differentiable(
    "convnet_features",
    _fake_features,
    save=_save_features,
    backward=_features_backward,
    jvp=_features_jvp,
)
features_backward = differentiable(
    "convnet_features_backward",
    _fake_features_backward,
    save=_save_backward,
    backward=_backward_backward,
    jvp=_backward_jvp,
)
_tangent = plain("convnet_features_jvp", _fake_features_jvp)
_gradients_tangent = plain("convnet_features_backward_jvp", _fake_features_backward_jvp)
step = plain("convnet_step", _fake_step)
step_adjoint = plain("convnet_step_adjoint", _fake_step_adjoint)
