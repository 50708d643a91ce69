"""Distribution matching (DM): class means of features of random networks.

    l = sum over classes c of |mean_i psi(A(r_ci)) - mean_j psi(A(x_cj))|^2

psi: the features before the classifier of a network drawn anew every step and never trained; A: one
Siamese augmentation a class. Zhao and Bilen, WACV 2023, eq. 6; main_DM.py of the reference code,
which sums over features and divides by nothing.
"""

import torch
from torch import Tensor

from nsdbench import models
from nsdbench.distillation.objectives.base import ObjectiveContext
from nsdbench.distillation.objectives.classwise import ClasswiseObjective
from nsdbench.distillation.objectives.families.classwise import DistributionSettings
from nsdbench.sets.parameterizations.base import Parameterization


class DistributionMatching(ClasswiseObjective):
    """Match mean features, see the module's formula."""

    _model: models.ImageClassifier

    def __init__(self, context: ObjectiveContext, settings: DistributionSettings):
        super().__init__(context, settings, context.dsa_strategy if settings.augment else None)

    def prepare_network(
        self, parameterization: Parameterization, step: int, generator: torch.Generator
    ) -> None:
        """Draw a new network."""
        self._model.requires_grad_(False)
        models.initialize(self._model, generator)

    def class_loss(self, images: Tensor, real_images: Tensor, labels: Tensor) -> Tensor:
        """Return the squared distance of the two mean features."""
        target = self._model.embed(real_images).mean(0)
        return (target - self._model.embed(images).mean(0)).square().sum()

    def describe(self) -> dict:
        """Name the implementation that computes features and their gradient."""
        return {"code_path": models.code_path(self._model)}
