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
    NCHW.check(x, weight, bias, eps)
    if not is_native(x.device):
        return reference.inorm_relu_pool(x, weight, bias, eps)
    return NCHW.forward(x, weight, bias, eps)


def inorm_relu_pool_nhwc(x: Tensor, weight: Tensor, bias: Tensor, eps: float = EPS) -> Tensor:
    """Compute `inorm_relu_pool` of maps with channels innermost, on CUDA in one pass over them.

    Args:
        x: [N, H, W, C], otherwise as for `inorm_relu_pool`.
        weight, bias, eps: as for `inorm_relu_pool`.

    Returns:
        [N, H // 2, W // 2, C].

    Raises:
        ValueError, RuntimeError: as `inorm_relu_pool`.

    Cost: on the CPU the maps are copied to the other layout and back; it is there for tests.
    """
    NHWC.check(x, weight, bias, eps)
    if not is_native(x.device):
        pooled = reference.inorm_relu_pool(x.permute(0, 3, 1, 2), weight, bias, eps)
        return pooled.permute(0, 2, 3, 1)
    return NHWC.forward(x, weight, bias, eps)


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
    NCHW.check(x, weight, bias, eps, (x_t, weight_t, bias_t))
    if not is_native(x.device):
        return reference.inorm_relu_pool_jvp(x, weight, bias, x_t, weight_t, bias_t, eps)
    return NCHW.tangent(x, weight, bias, eps, x_t, weight_t, bias_t)


class Operators:
    """The compiled operators on maps of one layout; to be called where `is_native` only.

    Attributes:
        forward: (x, weight, bias, eps) -> pooled map, twice differentiable.
        gradients: (grad, x, weight, bias, eps) -> those of x, weight, bias; differentiable.
        tangent: (x, weight, bias, eps, x_t, weight_t, bias_t) -> that of the pooled map.
        gradients_tangent: (grad, x, weight, bias, eps, grad_t, x_t, weight_t, bias_t) -> those of
            the gradients.
    """

    def __init__(self, name: str, layout: str) -> None:
        """Register fake kernels and derivatives of the four operators.

        Args:
            name: of the forward operator; those of the others start with it.
            layout: the dimensions of x, "NCHW" or "NHWC".
        """
        self._layout = layout
        self.forward = differentiable(
            name,
            self._fake_forward,
            save=_save,
            backward=self._forward_backward,
            jvp=self._forward_jvp,
        )
        self.gradients = differentiable(
            f"{name}_backward",
            self._fake_backward,
            save=_save_backward,
            backward=self._backward_backward,
            jvp=self._backward_jvp,
        )
        self.tangent = plain(f"{name}_jvp", self._fake_jvp)
        self.gradients_tangent = plain(f"{name}_backward_jvp", self._fake_backward_jvp)

    def check(
        self,
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
            refuse(f"x: expected 4 dimensions [{', '.join(self._layout)}], got {list(x.shape)}")
        if x.dtype not in DTYPES:
            refuse(f"x: expected dtype float32 or float64, got {x.dtype}")
        if min(x.shape[self._layout.index(side)] for side in "HW") < 2:
            refuse(f"x: expected planes of at least 2x2, got {list(x.shape)}")
        if not eps > 0:
            refuse(f"eps: expected a positive number, got {eps}")
        channels, pooled = [x.shape[self._layout.index("C")]], self._pooled_shape(x)
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

    def _pooled_shape(self, x: Tensor) -> list[int]:
        return [
            size // 2 if side in "HW" else size
            for side, size in zip(self._layout, x.shape, strict=True)
        ]

    def _forward_backward(self, ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        grads = self.gradients(grad, *ctx.saved_tensors, ctx.eps)
        return *_only_needed(grads, ctx.needs_input_grad), None

    def _forward_jvp(
        self, ctx: Any, x_t: Tensor | None, weight_t: Tensor | None, bias_t: Tensor | None, _: Any
    ) -> Tensor:
        return self.tangent(*ctx.saved_tensors, ctx.eps, x_t, weight_t, bias_t)

    def _backward_backward(self, ctx: Any, *directions: Tensor | None) -> tuple[Tensor | None, ...]:
        grad, x, weight, bias = ctx.saved_tensors
        if all(direction is None for direction in directions):
            return None, None, None, None, None
        point = (x, weight, bias, ctx.eps)
        needs_grad, *needs_rest = ctx.needs_input_grad[:4]
        for_grad = self.tangent(*point, *directions) if needs_grad else None
        rest: Sequence[Tensor | None] = (None, None, None)
        if any(needs_rest):
            rest = self.gradients_tangent(grad, *point, None, *directions)
        return for_grad, *_only_needed(rest, needs_rest), None

    def _backward_jvp(
        self,
        ctx: Any,
        grad_t: Tensor | None,
        x_t: Tensor | None,
        weight_t: Tensor | None,
        bias_t: Tensor | None,
        _: Any,
    ) -> tuple[Tensor, Tensor, Tensor]:
        grad, x, weight, bias = ctx.saved_tensors
        return self.gradients_tangent(grad, x, weight, bias, ctx.eps, grad_t, x_t, weight_t, bias_t)

    def _fake_forward(self, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        self.check(x, weight, bias, eps)
        return x.new_empty(self._pooled_shape(x))

    def _fake_jvp(
        self, x: Tensor, weight: Tensor, bias: Tensor, eps: float, *tangents: Tensor | None
    ) -> Tensor:
        self.check(x, weight, bias, eps, tangents)
        return x.new_empty(self._pooled_shape(x))

    def _fake_backward(
        self, grad: Tensor, x: Tensor, weight: Tensor, bias: Tensor, eps: float
    ) -> tuple[Tensor, ...]:
        self.check(x, weight, bias, eps, grads=(grad,))
        return _empty_like(x, weight, bias)

    def _fake_backward_jvp(
        self,
        grad: Tensor,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        eps: float,
        grad_t: Tensor | None,
        *tangents: Tensor | None,
    ) -> tuple[Tensor, ...]:
        self.check(x, weight, bias, eps, tangents, (grad, grad_t))
        return _empty_like(x, weight, bias)


def _save(ctx: Any, inputs: Any, output: Any) -> None:
    *tensors, ctx.eps = inputs
    ctx.save_for_backward(*tensors)
    ctx.save_for_forward(*tensors)


def _save_backward(ctx: Any, inputs: Any, output: Any) -> None:
    _save(ctx, inputs, output)
    ctx.set_materialize_grads(False)


def _only_needed(grads: Sequence[Tensor | None], needs: Sequence[bool]) -> list[Tensor | None]:
    return [grad if need else None for grad, need in zip(grads, needs, strict=False)]


def _empty_like(*tensors: Tensor) -> tuple[Tensor, ...]:
    return tuple(tensor.new_empty(tensor.shape) for tensor in tensors)


NCHW = Operators("inorm_relu_pool", "NCHW")
NHWC = Operators("inorm_relu_pool_nhwc", "NHWC")
