"""Figures of real images among tables: which there are, and which are computed already."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

from nsdbench.bench.store import Store
from nsdbench.bench.tables import Similarity, Table


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
    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as arrays:
            about = json.loads(str(arrays["about"]))
    except (OSError, KeyError, ValueError, BadZipFile):  # none, or not one of these
        return False
    return all(about.get(key) == value for key, value in wanted.model_dump().items())
