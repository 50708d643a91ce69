"""A few decoded images of a set, small enough to be kept with the records of its cells."""

from pathlib import Path
from typing import Any

import numpy
import torch

from nsdbench.data import Dataset
from nsdbench.files import write_atomically
from nsdbench.sets import Artefact

_PER_CLASS = 10
_CLASSES = 10


def save_pictures(artefact: Artefact, data: Dataset, path: Path) -> None:
    """Keep some images of the first classes, spread evenly over those of a class.

    So a set whose images share kernels shows as many of them as it can. Nothing is clipped: an
    image that is darker than black or brighter than white is scaled to its own contrast. The file
    holds `images` uint8 [n, C, H, W], `labels` [n], and `range` float32 [n, 2], the values that 0
    and 255 stand for, where black is 0 and white is 1.

    Args:
        artefact: the set.
        data: the data set whose preprocessing is undone.
        path: the npz file.
    """
    labels = artefact.labels()
    classes = range(min(_CLASSES, data.num_classes))
    rows = torch.cat([_spread(torch.nonzero(labels == c).flatten()) for c in classes])
    pictures = artefact.preprocessing(data).invert(artefact.images()[rows])
    low = pictures.amin((1, 2, 3)).clamp(max=0)
    high = pictures.amax((1, 2, 3)).clamp(min=1)
    scaled = (pictures - low[:, None, None, None]) / (high - low)[:, None, None, None]
    arrays: dict[str, Any] = {
        "images": (scaled * 255).round().to(torch.uint8).numpy(),
        "labels": labels[rows].numpy(),
        "range": torch.stack((low, high), 1).numpy(),
    }

    def write(partial: Path) -> None:
        with open(partial, "wb") as file:
            numpy.savez_compressed(file, **arrays)

    write_atomically(path, write)


def _spread(rows: torch.Tensor) -> torch.Tensor:
    """Return at most so many rows as are kept of a class, spread evenly over all of them."""
    count = min(_PER_CLASS, len(rows))
    return rows[torch.arange(count) * len(rows) // max(count, 1)]
