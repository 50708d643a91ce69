"""Objectives that compare each class with real images of it: one class in memory at a time."""

from collections.abc import Iterator

import torch
from torch import Tensor

from nsdbench.distillation.objectives.base import Objective, ObjectiveContext
from nsdbench.distillation.objectives.families.classwise import ClasswiseSettings
from nsdbench.sets.parameterizations.base import Parameterization
from nsdbench.student import augment


class ClasswiseObjective(Objective):
    """A sum over classes c of a loss on the decoded images of c and a batch of real ones.

    Every class is decoded, compared and differentiated by itself, so memory does not grow with the
    number of classes.

    Args:
        context: its model is the network both are seen through.
        settings: how many images of a class a step compares.
        dsa_strategy: Siamese augmentation, one draw a class and step for the decoded and the real
            images; None for none.
    """

    def __init__(
        self,
        context: ObjectiveContext,
        settings: ClasswiseSettings,
        dsa_strategy: str | None = None,
    ):
        super().__init__()
        self._model = context.model
        self._real = context.real
        self._real_batch = settings.real_batch
        self._batch_syn = settings.batch_syn
        self._dsa_strategy = dsa_strategy

    def prepare_network(
        self, parameterization: Parameterization, step: int, generator: torch.Generator
    ) -> None:
        """Bring the network to where this step looks through it."""
        raise NotImplementedError

    def draw_augmentations(self, generator: torch.Generator) -> list[augment.DsaParams]:
        """Draw what decoded and real images of a class go through, one after the other."""
        shape = self._real.image_shape
        return [augment.sample(self._dsa_strategy, 1, shape, generator, siamese=True)]

    def class_loss(self, images: Tensor, real_images: Tensor, labels: Tensor) -> Tensor:
        """Compare the images of a class, already augmented.

        Args:
            images: [n, C, H, W] decoded.
            real_images: [m, C, H, W].
            labels: [1] the class.

        Returns:
            Scalar, differentiable in `images`.
        """
        raise NotImplementedError

    def loss(
        self, parameterization: Parameterization, step: int, generator: torch.Generator
    ) -> Tensor:
        """Sum the losses of all classes; `accumulate` gives its gradients in less memory."""
        return torch.stack([*self._class_losses(parameterization, step, generator)]).sum()

    def accumulate(
        self, parameterization: Parameterization, step: int, generator: torch.Generator
    ) -> float:
        """Differentiate class by class; see the base class."""
        total = 0.0
        for loss in self._class_losses(parameterization, step, generator):
            loss.backward()
            total += loss.item()
            del loss  # or its graph would live on while the next class is decoded
        return total

    def _class_losses(
        self, parameterization: Parameterization, step: int, generator: torch.Generator
    ) -> Iterator[Tensor]:
        self.prepare_network(parameterization, step, generator)
        for label in range(self._real.num_classes):
            yield self._one_class_loss(parameterization, label, generator)

    def _one_class_loss(
        self, parameterization: Parameterization, label: int, generator: torch.Generator
    ) -> Tensor:
        chosen = parameterization.class_rows(label)
        if self._batch_syn is not None and self._batch_syn < len(chosen):
            order = torch.randperm(len(chosen), generator=generator)[: self._batch_syn]
            chosen = chosen[order.to(chosen.device)]
        images, labels = parameterization.decode(chosen, generator)
        rows = self._real.rows_of_class(label)
        rows = rows[torch.randperm(len(rows), generator=generator)[: self._real_batch]]
        real_images, _ = self._real.batch(rows)
        for draw in self.draw_augmentations(generator):
            draw = draw.to(images.device)
            images, real_images = augment.apply(images, draw), augment.apply(real_images, draw)
        return self.class_loss(images, real_images, labels[:1])
