"""The unrolled student: theta_N as a function of theta_0, images, labels and step size.

Step k trains on `batches[k]` with plain SGD (velocity m, momentum mu, m_0 = 0):

    g_k = grad_theta L(theta_k; A_k(x[batch_k]), y[batch_k]),   L = mean cross-entropy
    m_{k+1} = mu m_k + g_k,      theta_{k+1} = theta_k - lr m_{k+1}

"full" lets autograd keep every graph. "exact" and "first_order" keep the theta_k and the
augmentation draws only, rebuild one step at a time and run the adjoint: with
lambda_N = dJ/dtheta_N, p_N = 0, and h the directional derivative of grad L at theta_k along p_k,

    p_k = lambda_{k+1} + mu p_{k+1}
    dJ/dlr -= <g_k, p_k>,   dJ/dx -= lr A_k^T h_x,   dJ/dy -= lr h_y
    lambda_k = lambda_{k+1} - lr h_theta

"first_order" leaves out the last line, so that lambda_k = lambda_N everywhere (TESLA's gradient).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
from torch import nn

from nsdbench.ops.registration import are_transforms_active, guard, is_watched, refusal
from nsdbench.student import augment as dsa
from nsdbench.student import checks
from nsdbench.student.selection import MODES, select_step
from nsdbench.student.step import InnerStep

__all__ = ["MODES", "code_path", "unrolled_sgd"]

_ADJOINT = "unrolled_sgd in mode 'exact' or 'first_order'"
_refuse_batched = guard(
    "unrolled_sgd: batches and classes",
    vmap="batch theta, images, probabilities or lr, or call it once for each element",
)


def unrolled_sgd(
    model: nn.Module,
    theta: torch.Tensor,
    images: torch.Tensor,
    labels: torch.Tensor,
    batches: Sequence[torch.Tensor] | torch.Tensor,
    lr: float | torch.Tensor,
    *,
    momentum: float = 0.0,
    augment: Sequence[dsa.DsaParams] | None = None,
    mode: str = "exact",
) -> torch.Tensor:
    """Train a student for N steps of SGD and return its parameters, differentiably.

    Args:
        model: any module that maps images to logits [B, K]; its own parameters are not used.
        theta: [P] start parameters, in the order of `model.parameters()`.
        images: [n, C, H, W] all images that the batches index into; leaf or not.
        labels: [n] int64 classes, or [n, K] probabilities in the dtype of the images.
        batches: N index vectors into the rows of images and labels (lengths may differ), or
            one int64 tensor [N, B]; best left on the CPU, from where they reach a GPU in one copy.
        lr: step size, a number or a scalar tensor.
        momentum: mu in [0, 1); the velocity starts at 0.
        augment: N parameter draws, one a step, best left on the CPU; None for no augmentation.
        mode: "exact" (activation memory of one step, plus N parameter vectors), "full"
            (activation memory of N steps, can be differentiated again), or "first_order".

    Returns:
        theta_N [P]; differentiable in theta, images, soft labels and lr.

    Raises:
        ValueError: an argument does not fit the others, or the model has training-time state
            (batch norm in training mode, dropout), so that a step could not be replayed.
        RuntimeError: on differentiating the gradient of "exact" or "first_order" again.

    torch.func.grad runs through all modes, torch.func.jvp and vmap through "full" alone.
    torch.compile leaves it as it is.
    """
    if torch.compiler.is_compiling():
        return torch.compiler.disable(unrolled_sgd)(
            model, theta, images, labels, batches, lr, momentum=momentum, augment=augment, mode=mode
        )
    step = select_step(model, mode, theta)
    plan = _make_plan(step, theta, images, labels, batches, lr, momentum, augment, mode)
    if not isinstance(lr, torch.Tensor):
        lr = torch.tensor(lr, dtype=theta.dtype)
    if not is_watched((theta, images, labels, lr)):
        return _train(plan, theta.detach(), images, labels, lr)
    if mode == "full":
        return _train_keeping_graphs(plan, theta, images, labels, lr)
    last, _ = _Unroll.apply(plan, theta, images, labels, lr)
    return last


def code_path(model: nn.Module, mode: str = "exact") -> str:
    """Name the implementation that `unrolled_sgd` uses for a model; records keep it.

    Raises:
        ValueError: unknown mode, or a model that cannot be unrolled.
    """
    return select_step(model, mode).name


@dataclass(frozen=True)
class _Plan:
    """What a step needs besides tensors that can be differentiated."""

    step: InnerStep
    batches: Sequence[torch.Tensor]
    has_repeats: Sequence[bool]  # whether a batch may hold a row twice
    augment: Sequence[Callable[[torch.Tensor], torch.Tensor]] | None
    momentum: float
    mode: str

    def batch(
        self, k: int, images: torch.Tensor, labels: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Gather and augment the images and labels of step k."""
        index = self.batches[k]
        return self.augmented(k, images[index]), labels[index]

    def augmented(self, k: int, x: torch.Tensor) -> torch.Tensor:
        return x if self.augment is None else self.augment[k](x)


def _refuse_again(ctx: Any, *grads: Any) -> NoReturn:
    raise RuntimeError(
        "the gradient of unrolled_sgd can be differentiated only once in modes 'exact' and "
        "'first_order'; use mode='full' to differentiate it again"
    )


class _Unroll(torch.autograd.Function):
    """theta_N with constant activation memory, and theta_0 to theta_{N-1} [N, P], a constant."""

    vmap = staticmethod(
        refusal(
            ValueError,
            _ADJOINT,
            "torch.func.vmap",
            "use mode='full', or call it once for each element",
        )
    )
    jvp = staticmethod(refusal(RuntimeError, _ADJOINT, "torch.func.jvp", "use mode='full'"))

    @staticmethod
    def forward(
        plan: _Plan,
        theta: torch.Tensor,
        images: torch.Tensor,
        labels: torch.Tensor,
        lr: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        trajectory = theta.new_empty(len(plan.batches), theta.numel())
        return _train(plan, theta, images, labels, lr, trajectory), trajectory

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.plan, *tensors = inputs
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(output[1], *tensors)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, grad_last: Any, _: Any) -> tuple[torch.Tensor | None, ...]:
        if grad_last is None:
            return (None,) * 5
        needs = ctx.needs_input_grad[1:]
        found = iter(_Adjoint.apply(ctx.plan, needs, grad_last, *ctx.saved_tensors))
        return None, *(next(found) if need else None for need in needs)


class _Adjoint(torch.autograd.Function):
    """The gradients that are needed; see the head of this file for the formulas.

    They depend on all tensors here, theta too: with create_graph they must not pass for constants.
    """

    vmap, jvp = _Unroll.vmap, staticmethod(_refuse_again)
    backward = staticmethod(_refuse_again)

    @staticmethod
    def forward(
        plan: _Plan,
        needs: tuple[bool, bool, bool, bool],
        grad_last: torch.Tensor,
        trajectory: torch.Tensor,
        theta: torch.Tensor,
        images: torch.Tensor,
        labels: torch.Tensor,
        lr: torch.Tensor,
    ) -> tuple[torch.Tensor, ...]:
        found = _run_adjoint(plan, trajectory, images, labels, lr, grad_last, needs)
        return tuple(gradient for gradient in found if gradient is not None)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass


def _train(
    plan: _Plan,
    theta: torch.Tensor,
    images: torch.Tensor,
    labels: torch.Tensor,
    lr: torch.Tensor,
    trajectory: torch.Tensor | None = None,
) -> torch.Tensor:
    """Run the N steps without a graph; row k of `trajectory` [N, P] receives theta_k."""
    lr, velocity = lr.detach().reshape(()).to(theta.device), None
    with torch.no_grad():
        for k in range(len(plan.batches)):
            if trajectory is not None:
                trajectory[k] = theta
            batch = plan.batch(k, images, labels)
            theta, velocity = plan.step.advance(theta, velocity, *batch, lr, plan.momentum)
    return theta


def _train_keeping_graphs(
    plan: _Plan,
    theta: torch.Tensor,
    images: torch.Tensor,
    labels: torch.Tensor,
    lr: torch.Tensor,
) -> torch.Tensor:
    """Run the N steps with one autograd graph through all of them."""
    lr, velocity = lr.reshape(()), None
    are_watching = are_transforms_active()  # they need torch.func.grad, which not all modules take
    if not (are_watching or theta.requires_grad):
        theta = theta.detach().requires_grad_()
    for k in range(len(plan.batches)):
        batch = plan.batch(k, images, labels)
        if are_watching:
            gradient = torch.func.grad(plan.step.loss)(theta, *batch)
        else:
            loss = plan.step.loss(theta, *batch)
            (gradient,) = torch.autograd.grad(loss, theta, create_graph=True)
        velocity = _advance(velocity, gradient, plan.momentum)
        theta = theta - lr * velocity
    return theta


def _advance(
    velocity: torch.Tensor | None, gradient: torch.Tensor, momentum: float
) -> torch.Tensor:
    """m_{k+1} = mu m_k + g_k (and the same recursion for p_k)."""
    if velocity is None or momentum == 0:
        return gradient
    return momentum * velocity + gradient


def _run_adjoint(
    plan: _Plan,
    trajectory: torch.Tensor,
    images: torch.Tensor,
    labels: torch.Tensor,
    lr: torch.Tensor,
    grad_last: torch.Tensor,
    needs: tuple[bool, bool, bool, bool],
) -> list[torch.Tensor | None]:
    """Compute dJ/d(theta_0, images, labels, lr) from dJ/dtheta_N, walking the steps backwards."""
    needs_theta, needs_images, needs_labels, needs_lr = needs
    rate = lr.reshape(())
    grad_images = torch.zeros_like(images) if needs_images else None
    grad_labels = torch.zeros_like(labels) if needs_labels else None
    grad_rate = torch.zeros_like(grad_last[0]) if needs_lr else None
    adjoint, direction = grad_last, None  # lambda_{k+1}, p_{k+1}
    needs_inputs = needs_images or needs_labels or needs_lr
    for k in reversed(range(len(plan.batches))):
        # Before the first step only theta_0 itself still wants to know lambda_0.
        needs_adjoint = plan.mode == "exact" and (needs_theta or (k > 0 and needs_inputs))
        if not (needs_adjoint or needs_inputs):
            break
        index = plan.batches[k]
        direction = _advance(direction, adjoint, plan.momentum)
        with torch.enable_grad():
            x = images[index].detach().requires_grad_(needs_images)
            x_augmented = plan.augmented(k, x)
        along, (h_theta, h_x, h_y) = plan.step.adjoint(
            trajectory[k],
            x_augmented,
            labels[index],
            direction,
            (needs_adjoint, needs_images, needs_labels),
        )
        if grad_rate is not None:
            grad_rate -= along
        if grad_images is not None and h_x is not None:
            if x_augmented is not x:
                h_x = torch.autograd.grad(x_augmented, x, h_x)[0]
            _scatter_add(grad_images, index, h_x.mul_(-rate), plan.has_repeats[k])
        if grad_labels is not None and h_y is not None:
            _scatter_add(grad_labels, index, h_y.mul_(-rate), plan.has_repeats[k])
        if h_theta is not None:
            adjoint = adjoint - h_theta.mul_(rate)
        del h_theta, h_x, h_y  # or they would live beside the next ones
    if grad_rate is not None:
        grad_rate = grad_rate.to(lr).reshape(lr.shape)
    return [adjoint if needs_theta else None, grad_images, grad_labels, grad_rate]


def _scatter_add(
    total: torch.Tensor, index: torch.Tensor, rows: torch.Tensor, has_repeats: bool
) -> None:
    """Add rows to total[index]; repeated indices add up in a fixed order on every device."""
    if total.device.type == "cpu" or not has_repeats:
        total.index_add_(0, index, rows)
    else:  # index_add_ uses atomics on CUDA, index_put_ sorts, in some ten launches
        total.index_put_((index,), rows, accumulate=True)


def _make_plan(
    step: InnerStep,
    theta: torch.Tensor,
    images: torch.Tensor,
    labels: torch.Tensor,
    batches: Sequence[torch.Tensor] | torch.Tensor,
    lr: float | torch.Tensor,
    momentum: float,
    augment: Sequence[dsa.DsaParams] | None,
    mode: str,
) -> _Plan:
    """Check every argument against the others and move what a step needs to the device."""
    _refuse_batched(batches, None if labels.is_floating_point() else labels)
    if theta.dim() != 1 or theta.numel() != step.num_parameters:
        raise ValueError(
            f"theta has shape {list(theta.shape)}; the model has {step.num_parameters} parameters, "
            f"so theta must be [{step.num_parameters}]: use models.flatten"
        )
    if images.dim() < 2 or not images.is_floating_point() or images.dtype != theta.dtype:
        raise ValueError(
            f"images are {list(images.shape)} {images.dtype}; expected [n, C, H, W] in the dtype "
            f"of theta, {theta.dtype}"
        )
    if len({tensor.device for tensor in (theta, images, labels)}) > 1:
        raise ValueError(
            f"theta, images and labels are on {theta.device}, {images.device} and "
            f"{labels.device}: move them to one device"
        )
    is_hard = labels.dtype == torch.int64 and labels.dim() == 1
    is_soft = labels.dtype == images.dtype and labels.dim() == 2
    if not (is_hard or is_soft) or len(labels) != len(images):
        raise ValueError(
            f"labels are {list(labels.shape)} {labels.dtype}; expected classes [{len(images)}] "
            f"torch.int64 or probabilities [{len(images)}, num_classes] {images.dtype}"
        )
    checks.check_rate(lr, theta.device)
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum must be in [0, 1), got {momentum}")
    vectors = checks.check_batches(batches, len(images), images.device)
    checks.check_classes(labels, step.num_classes(theta, images))
    if augment is not None:
        if len(augment) != len(vectors):
            raise ValueError(
                f"augment has {len(augment)} draws for {len(vectors)} steps: draw one a step"
            )
    placed = None if augment is None else dsa.place(augment, images.device)
    has_repeats = [checks.may_repeat(vector) for vector in batches]
    return _Plan(step, vectors, has_repeats, placed, float(momentum), mode)
