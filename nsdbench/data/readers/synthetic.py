"""A stand-in of any shape that a network can learn, for tests and for trying an installation."""

import re
from pathlib import Path

import torch
import torch.nn.functional as F

from nsdbench import seeding
from nsdbench.data.catalog import DSA_WITH_FLIP, DatasetSpec, convnet_depth
from nsdbench.data.dataset import Split

DEFAULTS = (0, 0, 0, 0, 100, 20)

# Grey levels: the class pattern, the noise of a pixel, the brightness of an image.
PATTERN_STD, NOISE_STD, BRIGHTNESS_STD = 48.0, 32.0, 16.0


def describe(name: str) -> DatasetSpec:
    """Turn `synthetic:KxCxHxW[@TRAIN+TEST]` into a spec (images per class, 100 and 20 if unsaid).

    Raises:
        ValueError: the name is malformed or a number is zero.
    """
    match = re.fullmatch(r"synthetic:(\d+)x(\d+)x(\d+)x(\d+)(?:@(\d+)\+(\d+))?", name)
    groups = match.groups(default="") if match else ("0",) * 6
    numbers = [int(n or default) for n, default in zip(groups, DEFAULTS, strict=True)]
    if min(numbers) < 1:
        raise ValueError(
            "synthetic dataset: expected synthetic:CLASSESxCHANNELSxHEIGHTxWIDTH[@TRAIN+TEST] with "
            f"positive numbers, for example synthetic:10x3x32x32@50+10, got {name!r}"
        )
    classes, channels, height, width, train, test = numbers
    return DatasetSpec(
        name, (channels, height, width), classes, classes * train, classes * test,
        (0.5,) * channels, (0.25,) * channels, DSA_WITH_FLIP, convnet_depth(min(height, width)),
        source="generated: a smooth pattern per class plus noise",
    )  # fmt: skip


def read(folder: Path | None, spec: DatasetSpec, part: str) -> Split:
    """Generate one split: image = 128 + pattern of its class + brightness + noise.

    The pattern is 4 x 4 Gaussian numbers per class and channel, enlarged bilinearly: smooth, so
    that convolutions and crops keep it, and the same in both splits. Labels come in turn
    (0, 1, ..., K-1, 0, ...), so any prefix is balanced.

    Args:
        folder: unused.
        spec: of a `synthetic:` name; its name is the seed.
        part: "train" or "test".
    """
    size = spec.train_size if part == "train" else spec.test_size
    channels, height, width = spec.image_shape
    coarse = torch.randn(
        spec.num_classes, channels, 4, 4, generator=seeding.generator(0, spec.name, "pattern")
    )
    pattern = F.interpolate(coarse, size=(height, width), mode="bilinear", align_corners=False)
    labels = torch.arange(size) % spec.num_classes
    stream = seeding.generator(0, spec.name, part)
    brightness = torch.randn(len(labels), 1, 1, 1, generator=stream)
    noise = torch.randn(len(labels), *spec.image_shape, generator=stream)
    images = 128 + PATTERN_STD * pattern[labels] + BRIGHTNESS_STD * brightness + NOISE_STD * noise
    return Split(images.round().clamp(0, 255).to(torch.uint8), labels)
