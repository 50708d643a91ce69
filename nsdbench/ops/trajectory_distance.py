"""How far a student is from where an expert went (csrc/kernels/trajectory_distance.h).

The distance is one pass over memory, and so is its gradient. Derivatives beyond the gradient are
compositions of PyTorch's operators, so it can be differentiated any number of times.
"""

import torch
from torch import Tensor

DTYPES = (torch.float32, torch.float64)


def trajectory_distance(theta: Tensor, theta_start: Tensor, theta_target: Tensor) -> Tensor:
    """Compute |theta - theta_target|^2 / |theta_start - theta_target|^2 (arXiv:2203.11932, eq. 2).

    Args:
        theta: [P] where the student ended, float32 or float64.
        theta_start: [P] where it started, same dtype and device.
        theta_target: [P] where the expert ended.

    Returns:
        A scalar, same dtype and device; NaN if the expert has not moved and neither has the
        student (0 / 0), infinite if only the expert has not.

    Raises:
        ValueError: a shape, dtype or device does not fit; the message says what was expected and
            what came.

    Differentiable any number of times in all three, in reverse and forward mode. Differences and
    sums are float64 in both dtypes. Equal calls give equal bits, whatever the number of threads.
    """
    _check(theta, theta_start, theta_target)
    return _Distance.apply(theta, theta_start, theta_target)[0]


def _check(theta: Tensor, theta_start: Tensor, theta_target: Tensor) -> None:
    """Refuse what the native code would refuse (csrc/ops/trajectory_distance_checks.h)."""

    def refuse(text: str) -> None:
        raise ValueError(f"trajectory_distance: {text}")

    if theta.dim() != 1:
        refuse(f"theta: expected 1 dimension [P], got {list(theta.shape)}")
    if theta.dtype not in DTYPES:
        refuse(f"theta: expected dtype float32 or float64, got {theta.dtype}")
    for name, tensor in (("theta_start", theta_start), ("theta_target", theta_target)):
        if tensor.shape != theta.shape:
            refuse(f"{name}: expected shape {list(theta.shape)}, got {list(tensor.shape)}")
        if tensor.dtype != theta.dtype:
            expected = str(theta.dtype).removeprefix("torch.")
            refuse(f"{name}: expected dtype {expected}, got {tensor.dtype}")
        if tensor.device != theta.device:
            refuse(f"{name}: expected the device of theta, {theta.device}, got {tensor.device}")


def _total(*terms: Tensor | None) -> Tensor | None:
    """Add what is there; None is zero."""
    total = None
    for term in terms:
        if term is not None:
            total = term if total is None else total + term
    return total


def _save_distance(ctx, inputs, output) -> None:
    sums = output[1]
    ctx.mark_non_differentiable(sums)
    ctx.save_for_backward(*inputs, sums)
    ctx.save_for_forward(*inputs, sums)
    ctx.set_materialize_grads(False)


def _wanted(needs: tuple[bool, ...]) -> int:
    return sum(need << bit for bit, need in enumerate(needs))


def _distance_backward(ctx, grad, _):
    needs = ctx.needs_input_grad[:3]
    if grad is None or not any(needs):
        return None, None, None
    found = _DistanceBackward.apply(grad, *ctx.saved_tensors, _wanted(needs))
    return tuple(gradient if need else None for gradient, need in zip(found, needs, strict=True))


def _along(
    theta: Tensor,
    theta_start: Tensor,
    theta_target: Tensor,
    theta_t: Tensor | None,
    start_t: Tensor | None,
    target_t: Tensor | None,
) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
    """Differentiate the distance, and its three gradients, along the tangents given (None is zero).

    With u, w as in the header named above, a and b their tangents, N = |u|^2, D = |w|^2:
        d'            = 2 (<a, u> - N <b, w> / D) / D
        (2 u / D)'    = 2 (a - 2 <b, w> u / D) / D
        (-2 N w / D^2)' = -2 (N b + 2 (<a, u> - 2 N <b, w> / D) w) / D^2
    """
    u, w = theta - theta_target, theta_start - theta_target
    zero = torch.zeros_like(theta)
    a = _total(theta_t, None if target_t is None else -target_t)
    b = _total(start_t, None if target_t is None else -target_t)
    a, b = zero if a is None else a, zero if b is None else b
    numerator, denominator = torch.dot(u, u), torch.dot(w, w)
    along_a, along_b = torch.dot(a, u), torch.dot(b, w)
    distance_t = 2 * (along_a - numerator * along_b / denominator) / denominator
    in_theta = 2 * (a - 2 * along_b / denominator * u) / denominator
    factor = 2 * (along_a - 2 * numerator * along_b / denominator)
    in_start = -2 * (numerator * b + factor * w) / denominator**2
    return distance_t, (in_theta, in_start, -(in_theta + in_start))


class _Distance(torch.autograd.Function):
    """The distance and, not differentiable, its numerator and denominator for the gradient."""

    @staticmethod
    def forward(theta, theta_start, theta_target):
        return torch.ops.nsdbench.trajectory_distance(theta, theta_start, theta_target)

    @staticmethod
    def setup_context(ctx, inputs, output):
        _save_distance(ctx, inputs, output)

    @staticmethod
    def backward(ctx, grad, _):
        return _distance_backward(ctx, grad, _)

    @staticmethod
    def jvp(ctx, *tangents):
        *operands, _ = ctx.saved_tensors
        return _along(*operands, *tangents)[0], None


def _save_gradients(ctx, inputs, output) -> None:
    grad, theta, theta_start, theta_target, sums, wanted = inputs
    ctx.mark_non_differentiable(
        *(gradient for bit, gradient in enumerate(output) if not wanted >> bit & 1)
    )
    ctx.save_for_backward(grad, theta, theta_start, theta_target, sums)
    ctx.save_for_forward(grad, theta, theta_start, theta_target, sums)
    ctx.wanted = wanted
    ctx.set_materialize_grads(False)


def _gradients_backward(ctx, *directions):
    """The directional derivative of grad * d along the cotangents, differentiated."""
    grad, *operands, _ = ctx.saved_tensors
    directions = [
        direction if ctx.wanted >> bit & 1 else None for bit, direction in enumerate(directions)
    ]
    if all(direction is None for direction in directions):
        return (None,) * 6
    for_grad, found = _along(*operands, *directions)
    return for_grad, *(grad * gradient for gradient in found), None, None


class _DistanceBackward(torch.autograd.Function):
    """Those of the three gradients that are wanted; the operator's `sums` are constants here.

    What follows from them is computed from theta again, so no derivative is lost.
    """

    @staticmethod
    def forward(grad, theta, theta_start, theta_target, sums, wanted):
        return torch.ops.nsdbench.trajectory_distance_backward(
            grad, theta, theta_start, theta_target, sums, wanted
        )

    @staticmethod
    def setup_context(ctx, inputs, output):
        _save_gradients(ctx, inputs, output)

    @staticmethod
    def backward(ctx, *directions):
        return _gradients_backward(ctx, *directions)

    @staticmethod
    def jvp(ctx, grad_t, theta_t, start_t, target_t, *_):
        grad, *operands, sums = ctx.saved_tensors
        found = [grad * gradient for gradient in _along(*operands, theta_t, start_t, target_t)[1]]
        if grad_t is not None:
            more = _DistanceBackward.apply(grad_t, *operands, sums, 7)
            found = [gradient + other for gradient, other in zip(found, more, strict=True)]
        return tuple(f if ctx.wanted >> bit & 1 else None for bit, f in enumerate(found))


@torch.library.register_fake("nsdbench::trajectory_distance")
def _fake_distance(theta, theta_start, theta_target):
    _check(theta, theta_start, theta_target)
    return theta.new_empty([]), theta.new_empty([2], dtype=torch.float64)


@torch.library.register_fake("nsdbench::trajectory_distance_backward")
def _fake_gradients(grad, theta, theta_start, theta_target, sums, wanted):
    _check(theta, theta_start, theta_target)
    return tuple(theta.new_empty(theta.shape if wanted >> bit & 1 else [0]) for bit in range(3))


torch.library.register_autograd(
    "nsdbench::trajectory_distance", _distance_backward, setup_context=_save_distance
)
torch.library.register_autograd(
    "nsdbench::trajectory_distance_backward", _gradients_backward, setup_context=_save_gradients
)
