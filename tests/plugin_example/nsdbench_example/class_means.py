"""An objective that looks through no network: the mean image of every class, real and distilled.

    l = mean over c and pixels of (mean x_syn of class c  -  mean of a batch of x_real of class c)^2

The simplest objective that learns; an example, and no method that anybody proposed.
"""

import torch

from nsdbench.plugin import Count, Objective, ObjectiveContext, ObjectiveFamily, Settings, StepWork


class ClassMeansSettings(Settings):
    """Settings of the objective.

    Attributes:
        real_per_class: real images of a class whose mean a step compares with.
    """

    real_per_class: Count


class ClassMeans(Objective):
    """Match the mean image of every class."""

    def __init__(self, context: ObjectiveContext, settings: ClassMeansSettings):
        super().__init__()
        self._real = context.real
        self._real_per_class = settings.real_per_class

    def loss(self, parameterization, step: int, generator: torch.Generator) -> torch.Tensor:
        """Compare the means of this step's real images with those of all decoded ones."""
        images, labels = parameterization.decode(generator=generator)
        differences = []
        for label in range(self._real.num_classes):
            rows = self._real.class_rows(label, self._real_per_class, generator)
            x_real, _ = self._real.batch(rows)
            differences.append(images[labels == label].mean(dim=0) - x_real.mean(dim=0))
        return torch.stack(differences).square().mean()


def work(settings: ClassMeansSettings, num_images: int, num_classes: int) -> StepWork:
    """Price a step: it looks through no network."""
    return StepWork(passes=0, steps=1, kept_parameters=0, kept_images=0)


FAMILY = ObjectiveFamily(ClassMeansSettings, "nsdbench_example.class_means:ClassMeans", work)
