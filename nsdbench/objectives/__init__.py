"""Objectives by name: the losses that distillation minimises."""

from nsdbench.objectives.base import Objective
from nsdbench.objectives.trajectory import TrajectoryMatching

__all__ = ["Objective", "TrajectoryMatching"]
