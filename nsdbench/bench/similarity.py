"""How similar real images are along their dimensions: what Figure 4 of the paper draws.

Of images [B, C, H, W] of one class, slices along one dimension are compared by the cosine of the
angle between them, pixel values as they are in the files: image with image (batch), row with row
over all images and channels (height), column with column (width). The paper says neither which
similarity it takes nor whether anything is subtracted first; this is the plainest reading.

    results/figures/<scale>/<name>.npz      batch [B, B], height [H, H], width [W, W], float16;
                                            about: what they were computed from, as JSON
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch

from nsdbench import data, provenance
from nsdbench.bench.run import Outcome
from nsdbench.bench.store import Store
from nsdbench.bench.tables import Similarity, Table
from nsdbench.data import Dataset
from nsdbench.errors import NsdbenchError
from nsdbench.files import write_atomically
from nsdbench.seeding import generator

DIMENSIONS = {"batch": 0, "height": 2, "width": 3}


@dataclass(frozen=True)
class PlannedFigure:
    """A figure of real images: its name, what it compares, its file, whether that is there."""

    name: str
    wanted: Similarity
    path: Path
    is_done: bool

    def __str__(self) -> str:
        images = self.wanted
        return (
            f"{self.name}: similarity of {images.num_images} training images of class "
            f"{images.label} of {images.dataset}: {'done' if self.is_done else 'todo'}"
        )


def plan(tables: Iterable[Table], scale: str, results: Path) -> list[PlannedFigure]:
    """Plan the figures of real images among some tables; the other tables are passed over."""
    planned = []
    for table in tables:
        if (wanted := table.settings(scale).similarity) is not None:
            path = Store(results).figure_path(scale, table.name)
            planned.append(PlannedFigure(table.name, wanted, path, is_computed(wanted, path)))
    return planned


def run(planned: Iterable[PlannedFigure], data_root: Path | None, outcome: Outcome) -> None:
    """Compute what planned figures do not have yet, and tell the outcome how each ended."""
    for figure in planned:
        try:
            if not figure.is_done:
                compute(figure.wanted, figure.path, data_root)
            outcome.done.append(figure.name)
        except (NsdbenchError, ValueError) as error:
            outcome.failed[figure.name] = str(error)


def is_computed(wanted: Similarity, path: Path) -> bool:
    """Say whether a file holds the similarities of these images."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            about = json.loads(str(arrays["about"]))
    except (OSError, KeyError, ValueError, BadZipFile):  # none, or not one of these
        return False
    return all(about.get(key) == value for key, value in wanted.model_dump().items())


def compute(wanted: Similarity, path: Path, data_root: Path | None = None) -> None:
    """Compute similarities along every dimension and write them.

    Raises:
        ValueError: the class has fewer images, or there is no such class.
        DataMissing: the data set is not on this machine.
    """
    dataset = data.load(wanted.dataset, data_root).without_test()
    images = _draw(wanted, dataset)
    about: dict[str, Any] = {
        **wanted.model_dump(),
        "checksum": dataset.checksum,
        "commit": provenance.commit()[0],
    }
    arrays = {
        name: cosine_similarity(images, dimension).to(torch.float16).numpy()
        for name, dimension in DIMENSIONS.items()
    }

    def write(partial: Path) -> None:
        with open(partial, "wb") as file:
            np.savez_compressed(file, about=np.array(json.dumps(about)), **arrays)

    write_atomically(path, write)


def cosine_similarity(images: torch.Tensor, dimension: int) -> torch.Tensor:
    """Compare the slices of images along a dimension.

    Args:
        images: [B, C, H, W], any number type.
        dimension: 0 images, 2 rows, 3 columns; n is its length.

    Returns:
        [n, n] float64: <a, b> / (|a| |b|) of slices a and b; 0 where one of them is all zero.
    """
    slices = images.double().movedim(dimension, 0).flatten(1)
    lengths = slices.norm(dim=1, keepdim=True)
    units = slices / torch.where(lengths > 0, lengths, 1.0)
    return units @ units.T


def _draw(wanted: Similarity, dataset: Dataset) -> torch.Tensor:
    """Draw training images of a class, always the same: uint8 [num_images, C, H, W]."""
    rows = torch.nonzero(dataset.train.labels == wanted.label).flatten()
    if not 1 <= wanted.num_images <= len(rows):
        raise ValueError(
            f"{wanted.num_images} images of class {wanted.label} were asked for; {wanted.dataset} "
            f"has {len(rows)} for training"
        )
    order = torch.randperm(len(rows), generator=generator(0, "similarity", wanted.label))
    return dataset.train.images[rows[order[: wanted.num_images]]]
