"""Instance norm, ReLU and 2x2 mean pool as one operator, twice differentiable.

With f the operator and v a direction in (x, weight, bias), the gradients obey

    <v, gradients(grad)> = <grad, tangent of f along v>

so differentiating the gradients once more needs only the two tangent operators: with respect to
`grad` it is the tangent of f along v, with respect to the rest the tangent of the gradients
along v. Formulas: csrc/kernels/inorm_relu_pool.h.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from nsdbench.ops.vmap import refuse_vmap

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
    return _Forward.apply(x, weight, bias, eps)


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
    return torch.ops.nsdbench.inorm_relu_pool_jvp(x, weight, bias, eps, x_t, weight_t, bias_t)


def _check(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    tangents: Sequence[Tensor | None] = (),
    grads: Sequence[Tensor | None] = (),
) -> None:
    """Refuse what the native code would refuse (csrc/ops/inorm_relu_pool_checks.h)."""

    def refuse(text: str) -> None:
        raise ValueError(f"inorm_relu_pool: {text}")

    if x.dim() != 4:
        refuse(f"x: expected 4 dimensions [N, C, H, W], got {list(x.shape)}")
    if x.dtype not in (torch.float32, torch.float64):
        refuse(f"x: expected dtype float32 or float64, got {x.dtype}")
    if x.shape[2] < 2 or x.shape[3] < 2:
        refuse(f"x: expected planes of at least 2x2, got {list(x.shape)}")
    if not eps > 0:
        refuse(f"eps: expected a positive number, got {eps}")
    channels, pooled = [x.shape[1]], _pooled_shape(x)
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


class _Forward(torch.autograd.Function):
    """The operator; registration alone would give no forward-mode rule."""

    @staticmethod
    def forward(x, weight, bias, eps):
        return torch.ops.nsdbench.inorm_relu_pool(x, weight, bias, eps)

    @staticmethod
    def setup_context(ctx, inputs, output):
        _save_forward(ctx, inputs, output)

    @staticmethod
    def backward(ctx, grad):
        return _backward(ctx, grad)

    @staticmethod
    def jvp(ctx, x_t, weight_t, bias_t, _):
        return torch.ops.nsdbench.inorm_relu_pool_jvp(
            *ctx.saved_tensors, ctx.eps, x_t, weight_t, bias_t
        )

    vmap = staticmethod(refuse_vmap("inorm_relu_pool"))


class _Backward(torch.autograd.Function):
    """The three gradients, differentiable once more."""

    @staticmethod
    def forward(grad, x, weight, bias, eps):
        return torch.ops.nsdbench.inorm_relu_pool_backward(grad, x, weight, bias, eps)

    @staticmethod
    def setup_context(ctx, inputs, output):
        _save_backward(ctx, inputs, output)

    @staticmethod
    @once_differentiable
    def backward(ctx, *directions):
        return _backward_of_backward(ctx, *directions)

    @staticmethod
    def jvp(ctx, grad_t, x_t, weight_t, bias_t, _):
        grad, x, weight, bias = ctx.saved_tensors
        return torch.ops.nsdbench.inorm_relu_pool_backward_jvp(
            grad, x, weight, bias, ctx.eps, grad_t, x_t, weight_t, bias_t
        )

    vmap = staticmethod(refuse_vmap("inorm_relu_pool_backward"))


def _save_forward(ctx, inputs, output) -> None:
    *tensors, ctx.eps = inputs
    ctx.save_for_backward(*tensors)
    ctx.save_for_forward(*tensors)


def _backward(ctx, grad):
    grads = _Backward.apply(grad, *ctx.saved_tensors, ctx.eps)
    return *_only_needed(grads, ctx.needs_input_grad), None


def _save_backward(ctx, inputs, output) -> None:
    *tensors, ctx.eps = inputs
    ctx.save_for_backward(*tensors)
    ctx.save_for_forward(*tensors)
    ctx.set_materialize_grads(False)


def _backward_of_backward(ctx, *directions):
    grad, x, weight, bias = ctx.saved_tensors
    if all(direction is None for direction in directions):
        return None, None, None, None, None
    point, native = (x, weight, bias, ctx.eps), torch.ops.nsdbench
    needs_grad, *needs_rest = ctx.needs_input_grad[:4]
    for_grad = native.inorm_relu_pool_jvp(*point, *directions) if needs_grad else None
    rest = (None, None, None)
    if any(needs_rest):
        rest = native.inorm_relu_pool_backward_jvp(grad, *point, None, *directions)
    return for_grad, *_only_needed(rest, needs_rest), None


def _only_needed(grads, needs):
    return (grad if need else None for grad, need in zip(grads, needs, strict=False))


@torch.library.register_fake("nsdbench::inorm_relu_pool")
def _fake_forward(x, weight, bias, eps):
    _check(x, weight, bias, eps)
    return x.new_empty(_pooled_shape(x))


@torch.library.register_fake("nsdbench::inorm_relu_pool_jvp")
def _fake_jvp(x, weight, bias, eps, x_t, weight_t, bias_t):
    _check(x, weight, bias, eps, (x_t, weight_t, bias_t))
    return x.new_empty(_pooled_shape(x))


@torch.library.register_fake("nsdbench::inorm_relu_pool_backward")
def _fake_backward(grad, x, weight, bias, eps):
    _check(x, weight, bias, eps, grads=(grad,))
    return x.new_empty(x.shape), weight.new_empty(weight.shape), bias.new_empty(bias.shape)


@torch.library.register_fake("nsdbench::inorm_relu_pool_backward_jvp")
def _fake_backward_jvp(grad, x, weight, bias, eps, grad_t, x_t, weight_t, bias_t):
    _check(x, weight, bias, eps, (x_t, weight_t, bias_t), (grad, grad_t))
    return x.new_empty(x.shape), weight.new_empty(weight.shape), bias.new_empty(bias.shape)


torch.library.register_autograd("nsdbench::inorm_relu_pool", _backward, setup_context=_save_forward)
torch.library.register_autograd(
    "nsdbench::inorm_relu_pool_backward", _backward_of_backward, setup_context=_save_backward
)
for _operator in ("inorm_relu_pool_jvp", "inorm_relu_pool_backward_jvp"):
    refuse_vmap(_operator)
