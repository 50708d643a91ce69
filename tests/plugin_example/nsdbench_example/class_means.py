"""An objective that looks through no network: the mean image of every class, real and distilled.

    l = mean over c and pixels of (mean x_syn of class c  -  mean of a batch of x_real of class c)^2

The simplest objective that learns; an example, and no method that anybody proposed.
"""

import torch

from nsdbench.distillation.objectives import Objective, ObjectiveContext


class ClassMeans(Objective):
    """Match the mean image of every class.

    Args:
        real: training data in network-input space.
        real_per_class: real images of a class whose mean a step compares with.
    """

    def __init__(self, real, *, real_per_class: int):
        super().__init__()
        if real_per_class < 1:
            raise ValueError(f"real_per_class is {real_per_class}; expected at least 1")
        self._real = real
        self._real_per_class = real_per_class

    def loss(self, parameterization, step: int, generator: torch.Generator) -> torch.Tensor:
        """Compare the means of this step's real images with those of all decoded ones."""
        images, labels = parameterization.decode(generator=generator)
        differences = []
        for label in range(self._real.num_classes):
            rows = self._real.class_rows(label, self._real_per_class, generator)
            x_real, _ = self._real.batch(rows)
            differences.append(images[labels == label].mean(dim=0) - x_real.mean(dim=0))
        return torch.stack(differences).square().mean()


def build(context: ObjectiveContext, settings: dict) -> Objective:
    """Build the objective of a recipe that says `name = "class-means"`."""
    return ClassMeans(context.real, **settings)
