"""Draw decoded images of a set: one column per class, the same bytes every time."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nsdbench.bench.arrays import has_array, read_arrays

if TYPE_CHECKING:
    from PIL.Image import Image

_SMALLEST_HEIGHT = 64  # pixels of an image as drawn
_GAP = 1  # pixels between images, before they are enlarged
_QUALITY = 85  # of a WebP, of 100


def draw_images(source: Path) -> bytes:
    """Draw the images that a run kept of a set, enlarged so that their pixels are seen.

    Args:
        source: npz with images [n, 1 or 3, H, W] (uint8, or floats in [0, 1]) and labels [n].

    Returns:
        The PNG file.

    Raises:
        ValueError: the file does not hold pictures; the message names it.
    """
    from PIL.Image import Resampling

    picture, height = _mosaic(source, None)
    factor = -(-_SMALLEST_HEIGHT // height)
    size = (picture.width * factor, picture.height * factor)
    stream = io.BytesIO()
    picture.resize(size, Resampling.NEAREST).save(stream, "PNG")
    return stream.getvalue()


def draw_small(source: Path, per_class: int) -> bytes:
    """Draw some of the images as a small WebP, compressed with loss.

    Args:
        source: as of `draw_images`.
        per_class: at most so many of a class, spread evenly over those that were kept.

    Raises:
        ValueError: as `draw_images`.
    """
    stream = io.BytesIO()
    picture, _ = _mosaic(source, per_class)
    picture.convert("RGB").save(stream, "WEBP", quality=_QUALITY, method=6)
    return stream.getvalue()


def what_is_drawn(source: Path) -> str:
    """Say what `draw_images` shows of a file, and how images beyond black or white are drawn.

    Files of older versions have clipped them; newer ones say the range of each.
    """
    is_whole = has_array(source, "range")
    beyond = "are clipped" if not is_whole else "have their own contrast"
    return f"decoded images, a column a class; those beyond black or white {beyond}"


def _mosaic(source: Path, per_class: int | None) -> tuple[Image, int]:
    """Lay out images, a pixel a pixel; returns the picture and the height of one image."""
    from PIL.Image import fromarray

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
    return fromarray(np.ascontiguousarray(pixels)), images.shape[2]


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
