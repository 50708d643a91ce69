"""What is known about every dataset before a single file is read."""

import math
from dataclasses import dataclass

# Augmentation strategies of DSA. MTT reference code; flip is dropped where a mirrored image is
# another class or none (digits), kept for FashionMNIST (DC readme).
DSA_WITH_FLIP = "color_crop_cutout_flip_scale_rotate"
DSA_WITHOUT_FLIP = "color_crop_cutout_scale_rotate"


KINDS = ("standardise", "zca", "zca_relative")  # of preprocessing


@dataclass(frozen=True)
class DatasetSpec:
    """Describe a dataset: sizes, constants and the defaults methods use with it.

    Attributes:
        name: as `data.load` takes it.
        image_shape: channels, height, width.
        num_classes: labels are 0..num_classes-1.
        train_size: images in the training split; None = as many as the folder holds.
        test_size: images in the test split; None likewise.
        mean, std: per channel, in [0, 1] units; what `standardise` subtracts and divides by.
        dsa_strategy: DSA augmentation that suits the images.
        default_depth: blocks of the ConvNet, so that the last feature map is 4 x 4.
        default_preprocessing: kind used where a recipe names none.
        is_downloadable: `load` can fetch it; False for generated, bundled and local-only data.
        source: where the data and the constants come from.
    """

    name: str
    image_shape: tuple[int, int, int]
    num_classes: int
    train_size: int | None
    test_size: int | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    dsa_strategy: str
    default_depth: int
    default_preprocessing: str = "standardise"
    is_downloadable: bool = False
    source: str = ""


# Pixel means and standard deviations of the 1,437 training digits after enlarging and rounding;
# computed by us, and recomputed by a test.
_DIGITS = {
    "Digits": (8, 0.3054, 0.3759),
    "Digits16": (16, 0.3054, 0.3186),
    "Digits32": (32, 0.3054, 0.3235),
    "Digits64": (64, 0.3054, 0.3247),
}

# The std is the mean over images of each image's own std, as the literature uses it; the std over
# all pixels would be about 0.247.
_CIFAR10_STATISTICS = ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
# MTT and its family reuse the CIFAR10 constants for CIFAR100; DC's own are
# (0.5071, 0.4866, 0.4409) / (0.2673, 0.2564, 0.2762).
IMAGENET_STATISTICS = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

IMAGENET_SUBSETS = (
    "ImageNette", "ImageWoof", "ImageFruit", "ImageMeow", "ImageSquawk", "ImageYellow",
)  # fmt: skip


def _published() -> dict[str, DatasetSpec]:
    specs = [
        DatasetSpec(
            name, (1, size, size), 10, 1437, 360, (mean,), (std,), DSA_WITHOUT_FLIP,
            convnet_depth(size),
            source="UCI optical recognition of handwritten digits (its test part, 1,797 images), "
            "shipped inside scikit-learn; stratified split and constants are ours",
        )
        for name, (size, mean, std) in _DIGITS.items()
    ]  # fmt: skip
    specs += [
        DatasetSpec(
            "FashionMNIST", (1, 28, 28), 10, 60_000, 10_000, (0.2861,), (0.3530,), DSA_WITH_FLIP,
            3, is_downloadable=True,
            source="Xiao et al., arXiv 1708.07747; constants: DC reference code",
        ),
        DatasetSpec(
            "CIFAR10", (3, 32, 32), 10, 50_000, 10_000, *_CIFAR10_STATISTICS, DSA_WITH_FLIP,
            3, is_downloadable=True,
            source="Krizhevsky 2009; constants: DC and MTT reference code",
        ),
        DatasetSpec(
            "CIFAR100", (3, 32, 32), 100, 50_000, 10_000, *_CIFAR10_STATISTICS, DSA_WITH_FLIP,
            3, is_downloadable=True,
            source="Krizhevsky 2009; constants: those of CIFAR10, as in the MTT reference code",
        ),
        DatasetSpec(
            "TinyImageNet", (3, 64, 64), 200, 100_000, 10_000, *IMAGENET_STATISTICS,
            DSA_WITH_FLIP, 4, is_downloadable=True,
            source="Stanford CS231n, tiny-imagenet-200; test = its validation split; constants: "
            "MTT reference code (those of ImageNet)",
        ),
    ]  # fmt: skip
    specs += [
        DatasetSpec(
            name, (3, 128, 128), 10, None, 500, *IMAGENET_STATISTICS, DSA_WITH_FLIP, 5,
            source="ILSVRC 2012, the ten classes MTT's reference code lists; test = the 500 "
            "validation images; constants: MTT reference code",
        )
        for name in IMAGENET_SUBSETS
    ]  # fmt: skip
    return {spec.name: spec for spec in specs}


def convnet_depth(size: int) -> int:
    """Number of ConvNet blocks that brings `size` pixels to about 4 (28 counts as 32)."""
    return max(1, round(math.log2(size / 4)))


PUBLISHED = _published()
