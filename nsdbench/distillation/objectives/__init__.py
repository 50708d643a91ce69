"""Objectives by name: the losses that distillation minimises."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from nsdbench.data.training import TrainingData
from nsdbench.distillation.objectives.base import Objective
from nsdbench.distillation.objectives.classwise import ClasswiseObjective
from nsdbench.distillation.objectives.conv_gradient import ConvGradientMatching
from nsdbench.distillation.objectives.distribution import DistributionMatching
from nsdbench.distillation.objectives.gradient import GradientMatching
from nsdbench.distillation.objectives.trajectory import TrajectoryMatching
from nsdbench.experts import ExpertBuffer
from nsdbench.registry import Registry
from nsdbench.signature import check_settings

__all__ = [
    "ClasswiseObjective",
    "ConvGradientMatching",
    "DistributionMatching",
    "GradientMatching",
    "Objective",
    "ObjectiveContext",
    "TrajectoryMatching",
    "build",
    "names",
]


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


def _trajectory(context: ObjectiveContext, settings: dict) -> Objective:
    check_settings(TrajectoryMatching, 4, settings, "objective 'trajectory'")
    return TrajectoryMatching(
        context.experts(), context.model, context.real, context.dsa_strategy, **settings
    )


def _classwise(name: str, objective: type[ClasswiseObjective]) -> Callable[..., Objective]:
    """Make the builder of an objective; `augment` says whether it uses the data set's DSA."""

    def build_classwise(context: ObjectiveContext, settings: dict) -> Objective:
        check_settings(objective, 3, settings, f"objective {name!r}", augment=bool)
        strategy = context.dsa_strategy if settings.pop("augment") else None
        return objective(context.model, context.real, strategy, **settings)

    return build_classwise


def _conv_gradient(context: ObjectiveContext, settings: dict) -> Objective:
    check_settings(ConvGradientMatching, 2, settings, "objective 'conv-gradient'")
    return ConvGradientMatching(context.model, context.real, **settings)


_BUILDERS = {
    "trajectory": _trajectory,
    "distribution": _classwise("distribution", DistributionMatching),
    "gradient": _classwise("gradient", GradientMatching),
    "conv-gradient": _conv_gradient,
}
_REGISTRY = Registry("objective", "nsdbench.objectives", _BUILDERS)


def names() -> list[str]:
    """List the objectives a recipe may name."""
    return _REGISTRY.names()


def build(settings: dict, context: ObjectiveContext) -> Objective:
    """Build the objective of a recipe's `objective` section.

    Raises:
        ValueError: unknown name, or a setting that the objective does not have, lacks, or has of
            another type; before experts are opened.
    """
    settings = dict(settings)
    name = settings.pop("name", None)
    builder = _REGISTRY.get(name)
    if name in _BUILDERS:  # ours check their settings; a TypeError would be a fault of ours
        return builder(context, settings)
    try:
        return builder(context, settings)
    except TypeError as error:
        raise ValueError(f"objective {name!r}: {error}; its settings: {settings}") from None
