"""Figures of real images among tables: which there are, and which are computed already."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nsdbench.bench.arrays import read_arrays
from nsdbench.bench.store import Store
from nsdbench.bench.tables import Similarity, Table

if TYPE_CHECKING:
    import numpy as np

PANELS = ("batch", "height", "width")  # the dimensions along which slices are compared


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


def plan_figures(tables: Iterable[Table], scale: str, results: Path) -> list[PlannedFigure]:
    """Plan the figures of real images among some tables; the other tables are passed over."""
    planned = []
    for table in tables:
        if (wanted := table.settings(scale).similarity) is not None:
            path = Store(results).figure_path(scale, table.name)
            planned.append(PlannedFigure(table.name, wanted, path, is_computed(wanted, path)))
    return planned


def is_computed(wanted: Similarity, path: Path) -> bool:
    """Say whether a file holds the similarities of these images."""
    try:
        read_similarity(path)
        (about,) = read_arrays(path, ("about",))
        known = json.loads(str(about))
    except (ValueError, RecursionError):  # none, damaged, or not one of these
        return False
    return isinstance(known, dict) and all(
        known.get(key) == value for key, value in wanted.model_dump().items()
    )


def read_similarity(path: Path) -> "dict[str, np.ndarray]":
    """Read the similarities of slices [n, n] by dimension.

    Raises:
        ValueError: the file does not hold them; the message names it.
    """
    arrays = dict(zip(PANELS, read_arrays(path, PANELS), strict=True))
    for name, values in arrays.items():
        if values.ndim != 2 or len(set(values.shape)) != 1 or values.dtype.kind != "f":
            raise ValueError(f"{path}: {name} is {values.dtype} {values.shape}; expected [n, n]")
    return arrays
