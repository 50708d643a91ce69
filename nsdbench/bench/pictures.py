"""A few decoded images of a cell, small enough to be kept with its record."""

from pathlib import Path

import numpy
import torch

from nsdbench.data import Dataset, preprocessing
from nsdbench.files import write_atomically
from nsdbench.sets import Artefact

_PER_CLASS = 10
_CLASSES = 10


def save_pictures(artefact: Artefact, data: Dataset, path: Path) -> None:
    """Keep the first images of the first classes as uint8 pictures [n, C, H, W] with their labels.

    Args:
        artefact: the set.
        data: the data set whose preprocessing is undone.
        path: the npz file.
    """
    labels = artefact.labels()
    classes = range(min(_CLASSES, data.num_classes))
    rows = torch.cat([torch.nonzero(labels == c).flatten()[:_PER_CLASS] for c in classes])
    transform = preprocessing(artefact.metadata["preprocessing"], data)
    pictures = transform.invert(artefact.images()[rows]).clamp(0, 1)
    pixels = (pictures * 255).round().to(torch.uint8).numpy()

    def write(partial: Path) -> None:
        with open(partial, "wb") as file:
            numpy.savez_compressed(file, images=pixels, labels=labels[rows].numpy())

    write_atomically(path, write)
