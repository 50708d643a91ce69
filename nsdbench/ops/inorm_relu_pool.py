"""Instance norm, ReLU and 2x2 mean pool as one operator, twice differentiable.

With f the operator and v a direction in (x, weight, bias), the gradients obey

    <v, gradients(grad)> = <grad, tangent of f along v>

so differentiating the gradients once more needs only the two tangent operators: with respect to
`grad` it is the tangent of f along v, with respect to the rest the tangent of the gradients
along v. Formulas: csrc/kernels/inorm_relu_pool.h.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from nsdbench.ops import reference
from nsdbench.ops.backend import DTYPES, is_native
from nsdbench.ops.registration import differentiable, plain

NAMES = ("x", "weight", "bias")
EPS = 1e-5  # PyTorch's default for group norm, which the reference networks use


def inorm_relu_pool(x: Tensor, weight: Tensor, bias: Tensor, eps: float = EPS) -> Tensor:
    """Normalise every plane, scale and shift it, clip at zero, and mean-pool it 2x2.

    xhat = (x - mean) / sqrt(var + eps) over each plane;  out = pool(max(weight xhat + bias, 0))

    Args:
        x: [N, C, H, W] with H, W >= 2, float32 or float64. The pool drops an odd last row or
            column, the norm does not.
        weight, bias: [C] of x's dtype and device.
        eps: added to the variance.

    Returns:
        [N, C, H // 2, W // 2].

    Raises:
        ValueError: a shape, dtype or device does not fit; the message names the argument.
        RuntimeError: on differentiating more than twice.

    Cost: saves only its inputs; the ReLU mask is recomputed. Equal calls give equal bits,
    whatever the number of threads. Forward mode works for the operator and for its gradient.
    """
    _check(x, weight, bias, eps)
    if not is_native(x.device):
        return reference.inorm_relu_pool(x, weight, bias, eps)
    return forward(x, weight, bias, eps)


def inorm_relu_pool_jvp(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    x_t: Tensor | None,
    weight_t: Tensor | None,
    bias_t: Tensor | None,
    eps: float = EPS,
) -> Tensor:
    """Compute the directional derivative of `inorm_relu_pool` along the tangents (None is zero).

    Returns:
        [N, C, H // 2, W // 2].

    Raises:
        ValueError: as `inorm_relu_pool`, or a tangent has not the shape of its argument.
    """
    _check(x, weight, bias, eps, (x_t, weight_t, bias_t))
    if not is_native(x.device):
        return reference.inorm_relu_pool_jvp(x, weight, bias, x_t, weight_t, bias_t, eps)
    return tangent(x, weight, bias, eps, x_t, weight_t, bias_t)


def _check(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    tangents: Sequence[Tensor | None] = (),
    grads: Sequence[Tensor | None] = (),
) -> None:
    """Refuse whatever does not fit, before the native code or the twin sees it."""

    def refuse(text: str) -> None:
        raise ValueError(f"inorm_relu_pool: {text}")

    if x.dim() != 4:
        refuse(f"x: expected 4 dimensions [N, C, H, W], got {list(x.shape)}")
    if x.dtype not in DTYPES:
        refuse(f"x: expected dtype float32 or float64, got {x.dtype}")
    if x.shape[2] < 2 or x.shape[3] < 2:
        refuse(f"x: expected planes of at least 2x2, got {list(x.shape)}")
    if not eps > 0:
        refuse(f"eps: expected a positive number, got {eps}")
    channels, pooled = [x.shape[1]], _pooled_shape(x)
    others: list[tuple[str, Tensor | None, list[int]]]
    others = [("weight", weight, channels), ("bias", bias, channels)]
    shapes = (list(x.shape), channels, channels)
    for name, tensor, shape in zip(NAMES, tangents, shapes, strict=False):
        others.append((f"{name}_t", tensor, shape))
    for name, tensor in zip(("grad", "grad_t"), grads, strict=False):
        others.append((name, tensor, pooled))
    for name, tensor, shape in others:
        if tensor is None:
            continue
        if list(tensor.shape) != shape:
            refuse(f"{name}: expected shape {shape}, got {list(tensor.shape)}")
        if tensor.dtype != x.dtype:
            refuse(f"{name}: expected the dtype of x, {x.dtype}, got {tensor.dtype}")
        if tensor.device != x.device:
            refuse(f"{name}: expected the device of x, {x.device}, got {tensor.device}")


def _pooled_shape(x: Tensor) -> list[int]:
    return [x.shape[0], x.shape[1], x.shape[2] // 2, x.shape[3] // 2]


def _save(ctx: Any, inputs: Any, output: Any) -> None:
    *tensors, ctx.eps = inputs
    ctx.save_for_backward(*tensors)
    ctx.save_for_forward(*tensors)


def _save_backward(ctx: Any, inputs: Any, output: Any) -> None:
    _save(ctx, inputs, output)
    ctx.set_materialize_grads(False)


def _forward_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    grads = gradients(grad, *ctx.saved_tensors, ctx.eps)
    return *_only_needed(grads, ctx.needs_input_grad), None


def _forward_jvp(
    ctx: Any, x_t: Tensor | None, weight_t: Tensor | None, bias_t: Tensor | None, _: Any
) -> Tensor:
    return tangent(*ctx.saved_tensors, ctx.eps, x_t, weight_t, bias_t)


def _backward_backward(ctx: Any, *directions: Tensor | None) -> tuple[Tensor | None, ...]:
    grad, x, weight, bias = ctx.saved_tensors
    if all(direction is None for direction in directions):
        return None, None, None, None, None
    point = (x, weight, bias, ctx.eps)
    needs_grad, *needs_rest = ctx.needs_input_grad[:4]
    for_grad = tangent(*point, *directions) if needs_grad else None
    rest: Sequence[Tensor | None] = (None, None, None)
    if any(needs_rest):
        rest = gradients_tangent(grad, *point, None, *directions)
    return for_grad, *_only_needed(rest, needs_rest), None


def _backward_jvp(
    ctx: Any,
    grad_t: Tensor | None,
    x_t: Tensor | None,
    weight_t: Tensor | None,
    bias_t: Tensor | None,
    _: Any,
) -> tuple[Tensor, Tensor, Tensor]:
    grad, x, weight, bias = ctx.saved_tensors
    return gradients_tangent(grad, x, weight, bias, ctx.eps, grad_t, x_t, weight_t, bias_t)


def _only_needed(grads: Sequence[Tensor | None], needs: Sequence[bool]) -> list[Tensor | None]:
    return [grad if need else None for grad, need in zip(grads, needs, strict=False)]


def _empty_like(*tensors: Tensor) -> tuple[Tensor, ...]:
    return tuple(tensor.new_empty(tensor.shape) for tensor in tensors)


def _fake_forward(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    _check(x, weight, bias, eps)
    return x.new_empty(_pooled_shape(x))


def _fake_jvp(
    x: Tensor, weight: Tensor, bias: Tensor, eps: float, *tangents: Tensor | None
) -> Tensor:
    _check(x, weight, bias, eps, tangents)
    return x.new_empty(_pooled_shape(x))


def _fake_backward(
    grad: Tensor, x: Tensor, weight: Tensor, bias: Tensor, eps: float
) -> tuple[Tensor, ...]:
    _check(x, weight, bias, eps, grads=(grad,))
    return _empty_like(x, weight, bias)


def _fake_backward_jvp(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    grad_t: Tensor | None,
    *tangents: Tensor | None,
) -> tuple[Tensor, ...]:
    _check(x, weight, bias, eps, tangents, (grad, grad_t))
    return _empty_like(x, weight, bias)


forward = differentiable(
    "inorm_relu_pool", _fake_forward, save=_save, backward=_forward_backward, jvp=_forward_jvp
)
gradients = differentiable(
    "inorm_relu_pool_backward",
    _fake_backward,
    save=_save_backward,
    backward=_backward_backward,
    jvp=_backward_jvp,
)
tangent = plain("inorm_relu_pool_jvp", _fake_jvp)
gradients_tangent = plain("inorm_relu_pool_backward_jvp", _fake_backward_jvp)
