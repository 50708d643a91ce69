"""The objectives of this package: their settings and their cost per step; no torch."""

from dataclasses import replace
from math import ceil
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from nsdbench.distillation.objectives.registry import (
    DIFFERENTIATED_PASSES,
    TRAINING_PASSES,
    KernelWork,
    ObjectiveFamily,
    Sizes,
    StepWork,
)
from nsdbench.models.shapes import plain_convnet_map
from nsdbench.registry import Count, Rate, Settings
from nsdbench.student.strategy import parse_strategy


class TrajectorySettings(Settings):
    """Settings of `trajectory.TrajectoryMatching`.

    Attributes:
        syn_steps: student steps N.
        expert_epochs: expert epochs M between start and target.
        max_start_epoch: start epochs are drawn from [0, max_start_epoch).
        lr_inner: initial student step size.
        lr_inner_min: floor of the learned step size (1e-3 in FreD, HaBa and SPEED).
        learns_lr_inner: whether the step size is learned (MTT) or stays (Algorithm 1 of NSD).
        normalised: whether the distance is divided by the expert's movement (MTT) or is the plain
            squared one (Algorithm 1 of NSD).
        guided_weight: gamma; 0 leaves the guided loss out.
        real_batch: images of the guided loss, not augmented.
        mode: how the unroll is differentiated, see `unrolled_sgd`.
        batch_syn: images per student step; None takes the full set.
    """

    syn_steps: Count
    expert_epochs: Count
    max_start_epoch: Count
    lr_inner: Rate
    lr_inner_min: Annotated[float, Field(ge=-1e6, le=1e6)]
    guided_weight: Rate
    real_batch: Count
    mode: Literal["exact", "first_order", "full"]
    batch_syn: Count | None = None
    learns_lr_inner: bool = True
    normalised: bool = True


def _trajectory_work(settings: TrajectorySettings, num_images: int, num_classes: int) -> StepWork:
    """Count the unrolled student, and the guided loss if there is one."""
    batch = min(settings.batch_syn or num_images, num_images)
    passes = settings.syn_steps * batch * DIFFERENTIATED_PASSES
    if settings.guided_weight:
        passes += settings.real_batch * TRAINING_PASSES
    return StepWork(passes, 2 * settings.syn_steps, settings.syn_steps, 6 * batch)


class AdversarialTrajectorySettings(TrajectorySettings):
    """Settings of `adversarial_trajectory.AdversarialTrajectory`; weights of its formulas.

    Attributes:
        cosine_weight: w, of what images, hallucinators and step size descend.
        auxiliary_ce_weight, auxiliary_cosine_weight, auxiliary_contrast_weight: of what the
            auxiliary network descends.
        temperature: of the contrast.
        lr_auxiliary, momentum_auxiliary: of the auxiliary network's SGD.
        momentum_lr: of the step size's SGD, whatever the images' is.
    """

    cosine_weight: Rate
    auxiliary_ce_weight: Rate
    auxiliary_cosine_weight: Rate
    auxiliary_contrast_weight: Rate
    temperature: Annotated[float, Field(gt=0, le=1e6)]
    lr_auxiliary: Rate
    momentum_auxiliary: Annotated[float, Field(ge=0, lt=1)]
    momentum_lr: Annotated[float, Field(ge=0, lt=1)]


def _adversarial_work(
    settings: AdversarialTrajectorySettings, num_images: int, num_classes: int
) -> StepWork:
    """Count trajectory matching, and a gradient of two views of a batch twice over."""
    batch = min(settings.batch_syn or num_images, num_images)
    work = _trajectory_work(settings, num_images, num_classes)
    passes = work.passes + 2 * 2 * batch * TRAINING_PASSES
    return replace(work, passes=passes, steps=work.steps + 2)


def _is_strategy(text: str) -> str:
    parse_strategy(text)
    return text


Strategy = Annotated[str, AfterValidator(_is_strategy)]
Momentum = Annotated[float, Field(ge=0, lt=1)]


class BpttSettings(Settings):
    """Settings of `bptt.BackpropagationThroughTime`.

    Attributes:
        syn_steps: student steps T.
        lr_inner, momentum_inner: of the student's SGD.
        batch_syn: decoded images of a class in each of these steps, all of them if it has fewer.
        real_batch: real images of a class that the trained student is judged on.
        num_classes: classes drawn for an outer step; None takes all.
        strategy: operations of DSA, one of which is drawn for all images of an outer step.
        clip_norm: largest 2-norm of the gradient of all that is stored.
    """

    syn_steps: Count
    lr_inner: Rate
    momentum_inner: Momentum
    batch_syn: Count
    real_batch: Count
    num_classes: Count | None = None
    strategy: Strategy
    clip_norm: Annotated[float, Field(gt=0, le=1e6)]


def _bptt_work(settings: BpttSettings, num_images: int, num_classes: int) -> StepWork:
    """Count the unrolled student and the judgement of it."""
    classes = min(settings.num_classes or num_classes, num_classes)
    batch = min(settings.batch_syn * classes, num_images)
    passes = settings.syn_steps * batch * DIFFERENTIATED_PASSES
    passes += classes * settings.real_batch * TRAINING_PASSES
    kept = max(6 * batch, 2 * classes * settings.real_batch)
    return StepWork(passes, 2 * settings.syn_steps, settings.syn_steps, kept)


class ClasswiseSettings(Settings):
    """Settings of every `classwise.ClasswiseObjective`.

    Attributes:
        real_batch: real images of a class, all of them if it has fewer.
        batch_syn: decoded images of a class, drawn without replacement; None for all.
    """

    real_batch: Count
    batch_syn: Count | None = None


class DistributionSettings(ClasswiseSettings):
    """Settings of `distribution.DistributionMatching`.

    Attributes:
        augment: whether decoded and real images go through the data set's DSA.
    """

    augment: bool


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


Share = Annotated[float, Field(ge=0, le=1)]


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


class FeatureRegressionSettings(Settings):
    """Settings of `feature_regression.FeatureRegression`.

    Attributes:
        real_batch: real images, of all classes together, that a step predicts.
        ridge: r of the module's formula.
        mirrored: whether mirror images of all decoded images are predicted from as well.
        num_networks: size of the pool.
        max_updates: a network that has taken more Adam steps starts anew.
        lr_network: of these steps.
        batch_network: decoded images in each of them, all if there are no more.
    """

    real_batch: Count
    ridge: Annotated[float, Field(gt=0, le=1e6)]
    mirrored: bool
    num_networks: Count
    max_updates: Count
    lr_network: Rate
    batch_network: Count


def _feature_regression_work(
    settings: FeatureRegressionSettings, num_images: int, num_classes: int
) -> StepWork:
    """Count features of real and decoded images, and a training step.

    A network of the pool takes its parameters and two moments.
    """
    decoded = num_images * (2 if settings.mirrored else 1)
    trained = min(settings.batch_network, num_images)
    passes = settings.real_batch + (decoded + trained) * TRAINING_PASSES
    kept = max(settings.real_batch, 2 * decoded, 2 * trained)
    return StepWork(passes, 2, 3 * settings.num_networks + 2, kept)


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


def _distribution_work(
    settings: DistributionSettings, num_images: int, num_classes: int
) -> StepWork:
    """Count a forward pass of real images and a gradient of decoded ones."""
    return classwise_work(settings, num_images, num_classes, (1, TRAINING_PASSES))


def _gradient_work(settings: GradientSettings, num_images: int, num_classes: int) -> StepWork:
    """Count two gradients, one of them differentiated, and networks that train on the set."""
    trained = settings.inner_epochs * (1 - 1 / settings.outer_loops) * num_images
    batch = min(settings.batch_network, num_images)
    return classwise_work(settings, num_images, num_classes, trained=trained, batch=batch)


def _conv_gradient_work(
    settings: ConvGradientSettings, num_images: int, num_classes: int
) -> StepWork:
    """Count two gradients, one of them differentiated, and networks that train on real images."""
    trained = settings.real_images_network * (1 - 1 / settings.inner_loops)
    return classwise_work(
        settings, num_images, num_classes, trained=trained, batch=settings.batch_network
    )


class RandomFeatureRidgeSettings(Settings):
    """Settings of `random_feature_ridge.RandomFeatureRidge`.

    Attributes:
        num_networks: M, drawn anew for every step.
        batch_syn: decoded images of a step, drawn without replacement; all if there are no more.
        real_batch: real images of all classes together, drawn without replacement.
        ridge: in units of the mean diagonal of the kernel.
        loss: "platt", or "squared" as KIP's.
        lr_scale: learning rate of k in the Platt loss.
    """

    num_networks: Count
    batch_syn: Count
    real_batch: Count
    ridge: Annotated[float, Field(gt=0, le=1e6)]
    loss: Literal["platt", "squared"]
    lr_scale: Rate


FEATURES_AT_ONCE = 64  # images in a pass; measured: 256 take twice as long on a CPU


def _random_feature_work(
    settings: RandomFeatureRidgeSettings, num_images: int, num_classes: int
) -> StepWork:
    """Count a pass of real images, and of decoded ones two and the gradient of data."""
    m, decoded = settings.num_networks, min(settings.batch_syn, num_images)
    at_once = min(FEATURES_AT_ONCE, max(settings.real_batch, decoded))
    passes = m * (settings.real_batch + TRAINING_PASSES * decoded)
    parts = [ceil(images / FEATURES_AT_ONCE) for images in (settings.real_batch, decoded)]
    steps = m * (parts[0] + TRAINING_PASSES * parts[1])
    return StepWork(passes, steps, m + 1, 2 * at_once)


def _no_kernel(settings: Settings, sizes: Sizes) -> KernelWork:
    """Refuse a single class, of which there is nothing to predict; kernels are small."""
    _check_classes(sizes.num_classes)
    return KernelWork()


def _check_classes(num_classes: int) -> None:
    if num_classes < 2:
        raise ValueError(f"regression tells classes apart and needs at least 2, got {num_classes}")


_ARRAYS_KEPT = 10  # measured: of a ReLU, for its gradient
_ARRAYS_AT_WORK = 6  # measured: of the largest size, while it is passed


def kernel_pair_bytes(side: int, depth: int, is_prepended: bool, element_size: int) -> float:
    """Return what the arrays of a pair of images take in `ntk`, gradients included.

    Args:
        side: of the images in pixels.
        depth, is_prepended: as of `ntk.KernelNet`.
        element_size: bytes of a number.
    """
    sides = [side >> block for block in range(depth)] + [side] * is_prepended
    kept = _ARRAYS_KEPT * sum(size**4 for size in sides)
    return float((kept + _ARRAYS_AT_WORK * side**4) * element_size)


class NtkRidgeSettings(Settings):
    """Settings of `ntk_ridge.NtkRidge`.

    Attributes:
        batch_syn: decoded images of a step, drawn without replacement; all if there are no more.
        prepended: whether one more [conv, ReLU] stands in front of the network's blocks.
        targets_per_class: real images of a class, all of them if it has fewer.
        ridge: in units of the mean diagonal of the kernel.
        precision: of the kernels; systems are solved in float64.
        memory_mib: what the arrays of a block of pairs may take, in MiB.
    """

    prepended: bool
    batch_syn: Count
    targets_per_class: Count
    ridge: Annotated[float, Field(gt=0, le=1e6)]
    precision: Literal["float32", "float64"]
    memory_mib: Count


_ARRAYS_MOVED = 60  # our count: of a ReLU, read or written, forward twice and backward once


def _ntk_work(settings: NtkRidgeSettings, num_images: int, num_classes: int) -> StepWork:
    """Count no pass of the network, which is infinitely wide."""
    return StepWork(0, 1, 0, 0)


def _ntk_kernel(settings: NtkRidgeSettings, sizes: Sizes) -> KernelWork:
    """Count the pairs of a step, and refuse images of which no pair fits."""
    _check_classes(sizes.num_classes)
    side, depth = sizes.image_shape[1], sizes.depth
    plain_convnet_map(side, depth)
    element_size = int(settings.precision.removeprefix("float")) // 8
    limit = settings.memory_mib * 2**20

    def pair(side: int) -> float:
        return kernel_pair_bytes(side, depth, settings.prepended, element_size)

    if pair(side) > limit:
        largest = max((size for size in range(2**depth, side) if pair(size) <= limit), default=0)
        takes = f"images of up to {largest} px" if largest else "no images"
        raise ValueError(
            f"the arrays of a pair of {side} px images take {pair(side) / 2**20:.0f} MiB, "
            f"`memory_mib` = {settings.memory_mib} takes {takes}; raise it, or set "
            "objective.name to random-feature-ridge, which has no such arrays"
        )
    n = min(settings.batch_syn, sizes.num_images)
    real = settings.targets_per_class * sizes.num_classes
    pairs = n * (n + 1) / 2 + n * real + n + real  # of each image with itself, too
    passed = sum((side >> block) ** 4 for block in range(depth)) + settings.prepended * side**4
    moved = pairs * _ARRAYS_MOVED * passed * element_size
    return KernelWork(moved, min(limit, pairs * pair(side)) + 4 * 8 * n * (n + real))


_HERE = "nsdbench.distillation.objectives"
TRAJECTORY = ObjectiveFamily(
    TrajectorySettings, f"{_HERE}.trajectory:TrajectoryMatching", _trajectory_work
)
ADVERSARIAL_TRAJECTORY = ObjectiveFamily(
    AdversarialTrajectorySettings,
    f"{_HERE}.adversarial_trajectory:AdversarialTrajectory",
    _adversarial_work,
)
BPTT = ObjectiveFamily(BpttSettings, f"{_HERE}.bptt:BackpropagationThroughTime", _bptt_work)
DISTRIBUTION = ObjectiveFamily(
    DistributionSettings, f"{_HERE}.distribution:DistributionMatching", _distribution_work
)
GRADIENT = ObjectiveFamily(GradientSettings, f"{_HERE}.gradient:GradientMatching", _gradient_work)
FEATURE_ALIGNMENT = ObjectiveFamily(
    FeatureAlignmentSettings,
    f"{_HERE}.feature_alignment:FeatureAlignment",
    _feature_alignment_work,
)
FEATURE_REGRESSION = ObjectiveFamily(
    FeatureRegressionSettings,
    f"{_HERE}.feature_regression:FeatureRegression",
    _feature_regression_work,
    trains_batch_norm=True,
    learns_labels=True,
    kernel_work=_no_kernel,
)
CONV_GRADIENT = ObjectiveFamily(
    ConvGradientSettings, f"{_HERE}.conv_gradient:ConvGradientMatching", _conv_gradient_work
)
RANDOM_FEATURE_RIDGE = ObjectiveFamily(
    RandomFeatureRidgeSettings,
    f"{_HERE}.random_feature_ridge:RandomFeatureRidge",
    _random_feature_work,
    learns_labels=True,
    kernel_work=_no_kernel,
)
NTK_RIDGE = ObjectiveFamily(
    NtkRidgeSettings,
    f"{_HERE}.ntk_ridge:NtkRidge",
    _ntk_work,
    learns_labels=True,
    kernel_work=_ntk_kernel,
)
