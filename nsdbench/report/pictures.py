"""Draw decoded images of a cell as a PNG: one column per class, the same bytes every time."""

import io
from pathlib import Path

import numpy as np

from nsdbench.bench.arrays import has_array, read_arrays

_SMALLEST_HEIGHT = 64  # pixels of an image as drawn
_GAP = 1  # pixels between images, before they are enlarged


def draw_images(source: Path, per_class: int | None = None, *, is_enlarged: bool = True) -> bytes:
    """Draw the images that a run kept with its record.

    Args:
        source: npz with images [n, 1 or 3, H, W] (uint8, or floats in [0, 1]) and labels [n].
        per_class: at most so many of a class, spread evenly over those that were kept.
        is_enlarged: enlarges small images by a whole number, so that their pixels are seen.

    Returns:
        The PNG file.

    Raises:
        ValueError: the file does not hold pictures; the message names it.
    """
    from PIL import Image

    images, labels = _read(source)
    if images.dtype != np.uint8:
        images = (np.clip(images, 0, 1) * 255).round().astype(np.uint8)
    columns = [_spread(images[labels == label], per_class) for label in np.unique(labels)]
    height, width = (size + _GAP for size in images.shape[2:])
    size = (max(map(len, columns)) * height + _GAP, len(columns) * width + _GAP)
    mosaic = np.full((images.shape[1], *size), 255, dtype=np.uint8)
    for x, column in enumerate(columns):
        for y, image in enumerate(column):
            top, left = y * height + _GAP, x * width + _GAP
            mosaic[:, top : top + height - _GAP, left : left + width - _GAP] = image
    pixels = mosaic[0] if len(mosaic) == 1 else mosaic.transpose(1, 2, 0)
    factor = -(-_SMALLEST_HEIGHT // images.shape[2]) if is_enlarged else 1
    picture = Image.fromarray(np.ascontiguousarray(pixels)).resize(
        (size[1] * factor, size[0] * factor), Image.Resampling.NEAREST
    )
    stream = io.BytesIO()
    picture.save(stream, "PNG", optimize=not is_enlarged)
    return stream.getvalue()


def what_is_drawn(source: Path) -> str:
    """Say what `draw_images` shows of a file, and how images beyond black or white are drawn.

    Files of older versions have clipped them; newer ones say the range of each.
    """
    is_whole = has_array(source, "range")
    beyond = "are clipped" if not is_whole else "have their own contrast"
    return f"decoded images, a column a class; those beyond black or white {beyond}"


def _spread(images: np.ndarray, most: int | None) -> np.ndarray:
    """Return at most so many images, spread evenly over all of them."""
    count = len(images) if most is None else min(most, len(images))
    return images[np.arange(count) * len(images) // count]


def _read(source: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read images and labels, and check that they are."""
    images, labels = read_arrays(source, ("images", "labels"))
    is_picture = images.ndim == 4 and images.shape[1] in (1, 3) and images.size > 0
    is_picture = is_picture and images.dtype.kind in "uf"
    if not is_picture or labels.shape != images.shape[:1] or labels.dtype.kind not in "iu":
        raise ValueError(
            f"{source}: images {images.shape} with labels {labels.shape} of {labels.dtype}; "
            "expected [n, 1 or 3, H, W] with n whole numbers"
        )
    return images, labels
