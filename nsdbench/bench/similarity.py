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
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nsdbench import data, provenance
from nsdbench.bench.figures import PlannedFigure
from nsdbench.bench.run import Outcome
from nsdbench.bench.tables import Similarity
from nsdbench.data import Dataset
from nsdbench.errors import NsdbenchError
from nsdbench.experts import Run
from nsdbench.files import write_atomically
from nsdbench.seeding import generator

DIMENSIONS = {"batch": 0, "height": 2, "width": 3}


def run_figures(planned: Iterable[PlannedFigure], run: Run, outcome: Outcome) -> None:
    """Compute what planned figures do not have yet, and tell the outcome how each ended."""
    for figure in planned:
        try:
            if not figure.is_done:
                compute(figure.wanted, figure.path, run.data_root)
            outcome.done.append(figure.name)
        except (NsdbenchError, ValueError) as error:
            outcome.failed[figure.name] = str(error)


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
    arrays["about"] = np.array(json.dumps(about))

    def write(partial: Path) -> None:
        with open(partial, "wb") as file:
            np.savez_compressed(file, **arrays, allow_pickle=False)

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
