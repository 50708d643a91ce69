"""A learnable stand-in of any shape, for tests and for trying an installation."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

from nsdbench.data.description import DSA_WITH_FLIP, DatasetSpec, Source, convnet_depth

if TYPE_CHECKING:
    from nsdbench.data.split import Split

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
        name=name,
        image_shape=(channels, height, width),
        num_classes=classes,
        train_size=classes * train,
        test_size=classes * test,
        mean=(0.5,) * channels,
        std=(0.25,) * channels,
        dsa_strategy=DSA_WITH_FLIP,
        default_depth=convnet_depth(min(height, width)),
        source="generated: a smooth pattern per class plus noise",
    )


def read(folder: Path, spec: DatasetSpec, part: str) -> "Split":
    """Generate one split: image = 128 + pattern of its class + brightness + noise.

    The pattern is 4 x 4 Gaussian numbers per class and channel, enlarged bilinearly: smooth, so
    that convolutions and crops keep it, and the same in both splits. Labels come in turn
    (0, 1, ..., K-1, 0, ...), so any prefix is balanced.

    Args:
        folder: unused.
        spec: of a `synthetic:` name; its name is the seed.
        part: "train" or "test".
    """
    import torch
    import torch.nn.functional as F

    from nsdbench import seeding
    from nsdbench.data.split import Split

    channels, height, width = spec.image_shape
    coarse = torch.randn(
        spec.num_classes, channels, 4, 4, generator=seeding.generator(0, spec.name, "pattern")
    )
    pattern = F.interpolate(coarse, size=(height, width), mode="bilinear", align_corners=False)
    labels = torch.arange(spec.size(part)) % spec.num_classes
    stream = seeding.generator(0, spec.name, part)
    brightness = torch.randn(len(labels), 1, 1, 1, generator=stream)
    noise = torch.randn(len(labels), *spec.image_shape, generator=stream)
    images = 128 + PATTERN_STD * pattern[labels] + BRIGHTNESS_STD * brightness + NOISE_STD * noise
    return Split(images.round().clamp(0, 255).to(torch.uint8), labels)


SOURCE = Source(read)
