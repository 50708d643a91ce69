"""The contract every objective keeps: a loss on decoded images, and its own network policy."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nsdbench.data.training import TrainingData
from nsdbench.experts import ExpertBuffer
from nsdbench.sets.parameterizations.base import Parameterization


@dataclass(frozen=True)
class ObjectiveContext:
    """What a run offers its objective.

    Attributes:
        model: the student's architecture.
        real: training data in network-input space.
        dsa_strategy: the data set's augmentation.
        experts: opens the recorded experts, recording them first if need be.
    """

    model: nn.Module
    real: TrainingData
    dsa_strategy: str
    experts: Callable[[], ExpertBuffer]


class Objective(nn.Module):
    """The loss that distillation minimises.

    It is built of an `ObjectiveContext` and the settings of its family (`registry`). It owns the
    networks it looks through (experts, fresh random nets, ...) and whatever it learns besides the
    images, such as the student's step size, as parameters of this module.

    Attributes:
        explosion_threshold: a loss above it counts as diverged.
    """

    explosion_threshold: float = float("inf")

    def loss(
        self, parameterization: Parameterization, step: int, generator: torch.Generator
    ) -> Tensor:
        """Return the scalar loss of one step, differentiable in all that is learned.

        Args:
            parameterization: decoded for the images the step needs.
            step: number of the step, from 0.
            generator: the only source of randomness of this step.
        """
        raise NotImplementedError

    def accumulate(
        self, parameterization: Parameterization, step: int, generator: torch.Generator
    ) -> float:
        """Add the gradients of one step's loss to all that is learned, and return the loss.

        Args: as of `loss`, whose value and gradients these are.
        """
        loss = self.loss(parameterization, step, generator)
        loss.backward()
        return loss.item()

    def parameter_groups(self, settings: dict) -> list[dict]:
        """Return the optimiser groups of what the objective itself learns."""
        return []

    def constrain(self) -> None:
        """Bring what the objective learns back into its allowed range, after every update."""

    def after_update(self, parameterization: Parameterization, generator: torch.Generator) -> None:
        """Train what only the objective looks through, after every update and `constrain`.

        Args:
            parameterization: as it is after the update.
            generator: that of the step's loss, which has advanced it.
        """

    def learned(self) -> dict[str, float]:
        """Return what evaluation may use of the learned values, such as the step size."""
        return {}

    def describe(self) -> dict:
        """Return what a record should say of this run, as plain JSON types.

        `code_path` names the code that computes the gradient: "native", "fused" or "generic".
        """
        return {"code_path": "generic"}
