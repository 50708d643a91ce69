"""Objectives that predict real images by a ridge regression on the set, in features or a kernel."""

from math import ceil
from typing import Annotated, Literal

from pydantic import Field

from nsdbench.distillation.objectives.registry import (
    TRAINING_PASSES,
    KernelWork,
    ObjectiveFamily,
    Sizes,
    StepWork,
)
from nsdbench.models.shapes import plain_convnet_map
from nsdbench.registry import Count, Rate, Settings

FEATURES_AT_ONCE = 64  # images in a pass; measured: 256 take twice as long on a CPU
_ARRAYS_KEPT = 10  # measured: of a ReLU, for its gradient
_ARRAYS_AT_WORK = 6  # measured: of the largest size, while it is passed
_ARRAYS_MOVED = 60  # our count: of a ReLU, read or written, forward twice and backward once


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


def _no_kernel(settings: Settings, sizes: Sizes) -> KernelWork:
    """Refuse a single class, of which there is nothing to predict; kernels are small."""
    _check_classes(sizes.num_classes)
    return KernelWork()


def _check_classes(num_classes: int) -> None:
    if num_classes < 2:
        raise ValueError(f"regression tells classes apart and needs at least 2, got {num_classes}")


_HERE = "nsdbench.distillation.objectives"
FEATURE_REGRESSION = ObjectiveFamily(
    FeatureRegressionSettings,
    f"{_HERE}.feature_regression:FeatureRegression",
    _feature_regression_work,
    trains_batch_norm=True,
    learns_labels=True,
    kernel_work=_no_kernel,
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
