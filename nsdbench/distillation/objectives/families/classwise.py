"""Objectives that compare real and decoded images class by class."""

from typing import Annotated, Literal

from pydantic import Field

from nsdbench.distillation.objectives.families.fields import Momentum, Strategy
from nsdbench.distillation.objectives.registry import (
    DIFFERENTIATED_PASSES,
    TRAINING_PASSES,
    ObjectiveFamily,
    StepWork,
)
from nsdbench.registry import Count, Rate, Settings

Share = Annotated[float, Field(ge=0, le=1)]


class ClasswiseSettings(Settings):
    """Settings of every `classwise.ClasswiseObjective`.

    Attributes:
        real_batch: real images of a class, all of them if it has fewer.
        batch_syn: decoded images of a class, drawn without replacement; None for all.
    """

    real_batch: Count
    batch_syn: Count | None = None


def classwise_work(
    settings: ClasswiseSettings,
    num_images: int,
    num_classes: int,
    passes: tuple[int, int] = (TRAINING_PASSES, DIFFERENTIATED_PASSES),
    trained: float = 0.0,
    batch: int = 1,
) -> StepWork:
    """Count a step that goes class by class, with one class in memory at a time.

    Args:
        settings, num_images, num_classes: as of `ObjectiveFamily.work`.
        passes: forward passes that a real and a decoded image take.
        trained: images that networks train on between two steps, on average.
        batch: of that training.
    """
    decoded = min(num_images, num_classes * (settings.batch_syn or num_images))
    compared = num_classes * settings.real_batch * passes[0] + decoded * passes[1]
    return StepWork(
        compared + trained * TRAINING_PASSES,
        2 * num_classes + trained / batch,
        4,
        max(3 * settings.real_batch, 6 * decoded // num_classes),
    )


class DistributionSettings(ClasswiseSettings):
    """Settings of `distribution.DistributionMatching`.

    Attributes:
        augment: whether decoded and real images go through the data set's DSA.
    """

    augment: bool


def _distribution_work(
    settings: DistributionSettings, num_images: int, num_classes: int
) -> StepWork:
    """Count a forward pass of real images and a gradient of decoded ones."""
    return classwise_work(settings, num_images, num_classes, (1, TRAINING_PASSES))


class GradientSettings(DistributionSettings):
    """Settings of `gradient.GradientMatching`; networks train with the same augmentation.

    Attributes:
        distance: one of `gradient.DISTANCES`.
        outer_loops: image steps K that a network sees; step s is step s % K of network s // K.
        inner_epochs: epochs T of its training between two of them.
        lr_network, batch_network: of that training, plain SGD.
    """

    distance: Literal["grouped_cosine", "squared_error", "cosine"]
    outer_loops: Count
    inner_epochs: Count
    lr_network: Rate
    batch_network: Count


def _gradient_work(settings: GradientSettings, num_images: int, num_classes: int) -> StepWork:
    """Count two gradients, one of them differentiated, and networks that train on the set."""
    trained = settings.inner_epochs * (1 - 1 / settings.outer_loops) * num_images
    batch = min(settings.batch_network, num_images)
    return classwise_work(settings, num_images, num_classes, trained=trained, batch=batch)


class ConvGradientSettings(ClasswiseSettings):
    """Settings of `conv_gradient.ConvGradientMatching`.

    Attributes:
        strategy: operations A of DSA that are all applied, in the order named.
        distance: one of `conv_gradient.DISTANCES`.
        inner_loops: image steps that a network sees; step s is step s % inner_loops of its network.
        real_images_network: real images, without replacement, that it trains on between two steps.
        batch_network, lr_network, momentum_network, weight_decay_network: of that training, SGD.
        strategy_network: as `strategy`, drawn for every image.
        cutmix_probability: see `conv_gradient.cutmix`.
    """

    batch_syn: Count
    strategy: Strategy
    distance: Literal["squared_error", "absolute_error"]
    inner_loops: Count
    real_images_network: Count
    batch_network: Count
    lr_network: Rate
    momentum_network: Momentum
    weight_decay_network: Rate
    strategy_network: Strategy
    cutmix_probability: Annotated[float, Field(ge=0, le=1)]


def _conv_gradient_work(
    settings: ConvGradientSettings, num_images: int, num_classes: int
) -> StepWork:
    """Count two gradients, one of them differentiated, and networks that train on real images."""
    trained = settings.real_images_network * (1 - 1 / settings.inner_loops)
    return classwise_work(
        settings, num_images, num_classes, trained=trained, batch=settings.batch_network
    )


class FeatureAlignmentSettings(DistributionSettings):
    """Settings of `feature_alignment.FeatureAlignment`; networks train with the same augmentation.

    Attributes:
        layer_weights: of the maps after the last three ReLUs, and of the pooled map.
        discrimination_weight: of the cross-entropy of real images by decoded class means.
        window: image steps, or epochs, whose accuracies are compared.
        query_batch: real images of a class that an accuracy is taken of.
        steady_below: a network is left when its accuracies differ by less.
        moved_above: its training between two image steps ends when they differ by more.
        max_image_steps, max_epochs: caps of both loops.
        lr_network, batch_network: of that training, plain SGD.
    """

    layer_weights: Annotated[tuple[Rate, Rate, Rate, Rate], Field(strict=False)]
    discrimination_weight: Rate
    window: Count
    query_batch: Count
    steady_below: Share
    moved_above: Share
    max_image_steps: Count
    max_epochs: Count
    lr_network: Rate
    batch_network: Count


def _feature_alignment_work(
    settings: FeatureAlignmentSettings, num_images: int, num_classes: int
) -> StepWork:
    """Count features of real and decoded images, and training halfway between window and cap."""
    shortest = min(settings.window, settings.max_epochs)
    steps = min(settings.window, settings.max_image_steps)
    epochs = (1 - 1 / steps) * (shortest + settings.max_epochs) / 2
    work = classwise_work(
        settings,
        num_images,
        num_classes,
        (1, TRAINING_PASSES),
        trained=epochs * num_images,
        batch=min(settings.batch_network, num_images),
    )
    asked = num_classes * settings.query_batch
    decoded = min(num_images, num_classes * (settings.batch_syn or num_images))
    return StepWork(
        work.passes + (1 + epochs) * asked,
        work.steps + epochs,
        work.kept_parameters,
        max(settings.real_batch, 2 * decoded),
    )


_HERE = "nsdbench.distillation.objectives"
DISTRIBUTION = ObjectiveFamily(
    DistributionSettings, f"{_HERE}.distribution:DistributionMatching", _distribution_work
)
GRADIENT = ObjectiveFamily(GradientSettings, f"{_HERE}.gradient:GradientMatching", _gradient_work)
CONV_GRADIENT = ObjectiveFamily(
    ConvGradientSettings, f"{_HERE}.conv_gradient:ConvGradientMatching", _conv_gradient_work
)
FEATURE_ALIGNMENT = ObjectiveFamily(
    FeatureAlignmentSettings,
    f"{_HERE}.feature_alignment:FeatureAlignment",
    _feature_alignment_work,
)
