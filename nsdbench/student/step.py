"""One step of the student: the loss of a batch, its gradient, and the adjoint of that gradient.

This is all the unrolled student needs to know about a network. An implementation for one family of
networks has the methods of `InnerStep`, its own `name`, and a line in `selection`.
"""

from contextlib import AbstractContextManager

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd

from nsdbench import models


class InnerStep:
    """First and second derivatives of one step's loss, by autograd, for any module.

    A specialised implementation offers the same methods. Double backward was measured against
    forward-over-reverse (torch.func.jvp of grad) on ConvNet3, batch 32, one CPU thread: 88 ms
    against 110 ms at width 32 and 466 ms against 616 ms at width 128, in less memory.
    """

    name = "generic"

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.num_parameters = models.num_parameters(model)

    def num_classes(self, theta: torch.Tensor, x: torch.Tensor) -> int:
        """Return the number of logits K; a network that is not one of ours maps an image of `x`."""
        if isinstance(self.model, models.ImageClassifier):
            return self.model.classifier.out_features
        with torch.no_grad():
            return models.functional(self.model, theta, x[:1]).shape[1]

    def loss(self, theta: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(models.functional(self.model, theta, x, path="generic"), y)

    def advance(
        self,
        theta: torch.Tensor,
        velocity: torch.Tensor | None,
        x: torch.Tensor,
        y: torch.Tensor,
        lr: torch.Tensor,
        momentum: float,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Take one step of SGD: m' = momentum m + g, theta' = theta - lr m'; no graph.

        Args:
            theta, x, y: as for `gradient`.
            velocity: m [P], None for 0.
            lr: scalar tensor.
            momentum: factor of the velocity.

        Returns:
            theta' and m'.
        """
        gradient = self.gradient(theta, x, y)
        velocity = gradient if velocity is None else momentum * velocity + gradient
        return theta - lr * velocity, velocity

    def gradient(self, theta: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Compute g = grad_theta L(theta; x, y), detached."""
        with torch.enable_grad(), repeatable():
            theta = theta.detach().requires_grad_()
            return torch.autograd.grad(self.loss(theta, x.detach(), y.detach()), theta)[0]

    def adjoint(
        self,
        theta: torch.Tensor,
        x: torch.Tensor,
        y: torch.Tensor,
        direction: torch.Tensor,
        needs: tuple[bool, bool, bool],
    ) -> tuple[torch.Tensor, list[torch.Tensor | None]]:
        """Compute <g, p> and the derivatives of (grad_theta, grad_x, grad_y) L along p in theta.

        Args:
            theta, x, y: where the step was taken; x is the augmented batch.
            direction: p [P].
            needs: which of (h_theta, h_x, h_y) to compute.

        Returns:
            The scalar <g, p>, and [h_theta, h_x, h_y] with None for what was not asked for.
        """
        with torch.enable_grad(), repeatable():
            theta = theta.detach().requires_grad_()
            x = x.detach().requires_grad_(needs[1])
            y = y.detach().requires_grad_(needs[2])
            gradient = torch.autograd.grad(self.loss(theta, x, y), theta, create_graph=any(needs))[
                0
            ]
            along = torch.dot(gradient, direction)
            asked = [tensor for tensor, need in zip((theta, x, y), needs, strict=True) if need]
            gradients = iter(torch.autograd.grad(along, asked) if asked else ())
        return along.detach(), [next(gradients) if need else None for need in needs]


def repeatable() -> AbstractContextManager:
    """Have cuDNN choose algorithms that give the same bits every time; no effect on the CPU."""
    return torch.backends.cudnn.flags(
        enabled=torch.backends.cudnn.enabled,
        benchmark=False,
        deterministic=True,
        allow_tf32=torch.backends.cudnn.allow_tf32,
    )


def has_training_state(module: nn.Module) -> bool:
    """Say whether a module keeps statistics or draws at random in training, so no step repeats."""
    keeps_statistics = isinstance(module, _NormBase) and module.track_running_stats
    return keeps_statistics or isinstance(module, _DropoutNd | nn.RReLU)
