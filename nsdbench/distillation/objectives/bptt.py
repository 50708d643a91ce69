"""Back-propagation through time: the loss of a student that was trained on decoded images.

A student starts afresh and takes T steps of SGD with momentum. It should then do well on real data:

    l = CE(theta_T; A(real batch)),    theta_T = SGD^T(theta_0; A(decoded images))

Classes are drawn for an outer step, images of each anew for every inner one. A, one operation with
one parameter, is the same for all images of an outer step. The gradient is exact, and clipped.
Deng and Russakovsky, Remember the Past, NeurIPS 2022, and the authors' code. Their penalty on
addresses is left out: it is added to the student's loss, where it has no gradient.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nsdbench import models
from nsdbench.distillation.objectives.base import Objective, ObjectiveContext
from nsdbench.distillation.objectives.families.unrolled import BpttSettings
from nsdbench.sets.parameterizations.base import Parameterization
from nsdbench.student import augment
from nsdbench.student.unroll import code_path, unrolled_sgd


def draw_some(rows: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Draw `size` of these rows without replacement; all of them, shuffled, if there are fewer."""
    return rows[torch.randperm(len(rows), generator=generator)[:size]]


class BackpropagationThroughTime(Objective):
    """Train a fresh student and judge it, see the module's formula.

    Args:
        context: the parameter values of its model are not used.
        settings: see there.
    """

    def __init__(self, context: ObjectiveContext, settings: BpttSettings):
        super().__init__()
        self._model = context.model
        self._real = context.real
        self._settings = settings

    def loss(
        self, parameterization: Parameterization, step: int, generator: torch.Generator
    ) -> Tensor:
        """Train one student on the classes of this step; see the module's formula."""
        settings, device = self._settings, parameterization.labels.device
        models.initialize(self._model, generator)
        classes = self._draw_classes(generator)
        batches = self._draw_batches(parameterization, classes, generator)
        shape = self._real.image_shape
        draw = augment.sample(
            settings.strategy, 1, shape, generator, siamese=True, align_corners=False
        )
        used, positions = torch.unique(torch.cat(batches), return_inverse=True)
        images, labels = parameterization.decode(used.to(device), generator)
        theta = unrolled_sgd(
            self._model,
            models.flatten(self._model).detach(),
            images,
            labels,
            positions.split([len(batch) for batch in batches]),
            settings.lr_inner,
            momentum=settings.momentum_inner,
            augment=[draw] * len(batches),
        )
        rows = [
            draw_some(self._real.rows_of_class(label), settings.real_batch, generator)
            for label in classes
        ]
        x_real, y_real = self._real.batch(torch.cat(rows))
        logits = models.functional(self._model, theta, augment.apply(x_real, draw))
        return F.cross_entropy(logits, y_real)

    def accumulate(
        self, parameterization: Parameterization, step: int, generator: torch.Generator
    ) -> float:
        """Add the loss's gradients, clipped to `clip_norm` all together, and return the loss."""
        loss = super().accumulate(parameterization, step, generator)
        nn.utils.clip_grad_norm_(parameterization.parameters(), self._settings.clip_norm)
        return loss

    def _draw_classes(self, generator: torch.Generator) -> list[int]:
        """Draw the classes of an outer step, ascending; all of them draw nothing."""
        everything, wanted = self._real.num_classes, self._settings.num_classes
        if wanted is None or wanted >= everything:
            return list(range(everything))
        return sorted(torch.randperm(everything, generator=generator)[:wanted].tolist())

    def _draw_batches(
        self, parameterization: Parameterization, classes: list[int], generator: torch.Generator
    ) -> list[Tensor]:
        """Draw the image numbers of every student step, some of each class without replacement."""
        owned = [parameterization.class_rows(label).cpu() for label in classes]
        size = self._settings.batch_syn
        return [
            torch.cat([draw_some(rows, size, generator) for rows in owned])
            for _ in range(self._settings.syn_steps)
        ]

    def describe(self) -> dict:
        """Name the implementation that differentiates the unroll."""
        return {"code_path": code_path(self._model)}
