"""Gradient matching: dataset condensation (DC) and, with Siamese augmentation, DSA.

    l = sum over classes c of D( grad_theta L(theta; A(x_c)),  grad_theta L(theta; A(r_c)) )

L is the mean cross-entropy, A the augmentation of DSA or nothing. A network is drawn anew every
`outer_loops` steps; between two of its steps it trains on the decoded set for `inner_epochs`.
Zhao et al., ICLR 2021, and Zhao and Bilen, ICML 2021; main.py and utils.py of the reference code.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from nsdbench import models
from nsdbench.distillation.objectives.base import ObjectiveContext
from nsdbench.distillation.objectives.classwise import ClasswiseObjective
from nsdbench.distillation.objectives.families.classwise import GradientSettings
from nsdbench.sets.parameterizations.base import Parameterization
from nsdbench.student import augment
from nsdbench.student.selection import select_step
from nsdbench.student.step import InnerStep
from nsdbench.student.unroll import unrolled_sgd

_EPS = 1e-6  # added to the product of norms, as the reference code


def _cosine_distances(synthetic: Tensor, target: Tensor) -> Tensor:
    """Return 1 - cos of every row of two matrices [n, m]."""
    product = synthetic.norm(dim=1) * target.norm(dim=1)
    return 1 - (synthetic * target).sum(1) / (product + _EPS)


def grouped_cosine(synthetic: dict[str, Tensor], target: dict[str, Tensor]) -> Tensor:
    """Sum 1 - cos over the output channels of every weight; vectors (biases, norms) count nothing.

    This is the distance "ours" of the reference code: a weight [out, ...] has `out` rows.
    """
    rows = [
        _cosine_distances(synthetic[name].flatten(1), target[name].flatten(1)).sum()
        for name in synthetic
        if synthetic[name].dim() > 1
    ]
    return torch.stack(rows).sum()


def squared_error(synthetic: dict[str, Tensor], target: dict[str, Tensor]) -> Tensor:
    """Sum the squared differences of all parameters' gradients (the reference code's "mse")."""
    return torch.stack(
        [(synthetic[name] - target[name]).square().sum() for name in synthetic]
    ).sum()


def cosine(synthetic: dict[str, Tensor], target: dict[str, Tensor]) -> Tensor:
    """Return 1 - cos of all gradients as one vector (the reference code's "cos")."""
    pair = (torch.cat([part.flatten() for part in side.values()]) for side in (synthetic, target))
    return _cosine_distances(*(vector[None] for vector in pair)).sum()


DISTANCES: dict[str, Callable[[dict[str, Tensor], dict[str, Tensor]], Tensor]] = {
    "grouped_cosine": grouped_cosine,
    "squared_error": squared_error,
    "cosine": cosine,
}


class ParameterGradient(torch.autograd.Function):
    """g = grad_theta L(theta; x, y) as a function of x, differentiable once, without a graph.

    <p, dg/dx> is the derivative along p, in theta, of grad_x L: the adjoint of a student's step.
    """

    @staticmethod
    def forward(ctx: Any, step: InnerStep, theta: Tensor, x: Tensor, y: Tensor) -> Tensor:
        ctx.step = step
        ctx.save_for_backward(theta, x, y)
        return step.gradient(theta, x, y)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, direction: Tensor) -> tuple[None, None, Tensor | None, None]:
        _, (_, h_x, _) = ctx.step.adjoint(*ctx.saved_tensors, direction, (False, True, False))
        return None, None, h_x, None


def gradient_pair(
    model: nn.Module, theta: Tensor, images: Tensor, real_images: Tensor, labels: Tensor
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the gradients, by parameter, of decoded images (differentiable) and of real ones.

    Args:
        model: the network.
        theta: [P] its parameters.
        images, real_images, labels: as of `ClasswiseObjective.class_loss`.
    """
    step = select_step(model, "exact", theta)
    target = step.gradient(theta, real_images, labels.expand(len(real_images)))
    synthetic = ParameterGradient.apply(step, theta, images, labels.expand(len(images)))
    return models.unflatten(model, synthetic), models.unflatten(model, target)


def gradient_code_path(model: nn.Module, theta: Tensor) -> dict:
    """Name the implementation that computes gradients and their derivatives."""
    return {"code_path": select_step(model, "exact", theta).name}


class GradientMatching(ClasswiseObjective):
    """Match the gradients of decoded and of real images, see the module's formula.

    Attributes:
        theta: [P] the network of the current step; a checkpoint keeps it.
    """

    theta: Tensor

    def __init__(self, context: ObjectiveContext, settings: GradientSettings):
        super().__init__(context, settings, context.dsa_strategy if settings.augment else None)
        self._settings = settings
        self._distance = DISTANCES[settings.distance]
        self.register_buffer("theta", models.flatten(context.model))

    def prepare_network(
        self, parameterization: Parameterization, step: int, generator: torch.Generator
    ) -> None:
        """Draw a new network, or train the one at hand on the set as it is now."""
        if step % self._settings.outer_loops == 0:
            models.initialize(self._model, generator)
            self.theta = models.flatten(self._model)
        else:
            self.theta = self._trained(parameterization, generator)

    def class_loss(self, images: Tensor, real_images: Tensor, labels: Tensor) -> Tensor:
        """Return the distance of the two gradients."""
        return self._distance(*gradient_pair(self._model, self.theta, images, real_images, labels))

    @torch.no_grad()
    def _trained(self, parameterization: Parameterization, generator: torch.Generator) -> Tensor:
        images, labels = parameterization.decode(None, generator)
        size = self._settings.batch_network
        batches = [
            batch
            for _ in range(self._settings.inner_epochs)
            for batch in torch.randperm(len(labels), generator=generator).split(size)
        ]
        draws = None
        if self._dsa_strategy is not None:
            shape = self._real.image_shape
            draws = [
                augment.sample(self._dsa_strategy, len(batch), shape, generator)
                for batch in batches
            ]
        lr = self._settings.lr_network
        return unrolled_sgd(self._model, self.theta, images, labels, batches, lr, augment=draws)

    def describe(self) -> dict:
        """Name the implementation that computes gradients and their derivatives."""
        return gradient_code_path(self._model, self.theta)
