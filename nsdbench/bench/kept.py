"""What a results folder keeps of cells besides their records, and where.

    artefacts/<set name>-draw<D>.safetensors    sets, shared by all cells of a recipe
    work/<set name>.pt                          checkpoints of their distillation
    work/<scale>-<cell id>.json                 networks that are judged
    images/<scale>/<name>.npz                   a few pictures of a recipe's first set, shared by
                                                its cells; `files.pictures_name` names them

What is damaged, or is to be made anew, is set aside under another ending.
"""

import os
from collections.abc import Iterator
from glob import escape
from pathlib import Path

from nsdbench.bench.cell import Cell
from nsdbench.bench.store import Store
from nsdbench.files import set_prefix
from nsdbench.methods import Recipe

ASIDE = (".damaged", ".diverged")


def networks_path(results: Path, scale: str, cell_id: str) -> Path:
    """Return where the judged networks of a cell are kept, whether they exist or not."""
    return results / "work" / f"{scale}-{cell_id}.json"


def sets(results: Path, recipe: Recipe, dataset: str) -> Iterator[Path]:
    """List the sets of a recipe, of all seeds and draws."""
    return _of(results / "artefacts", recipe, dataset, "-draw*.safetensors")


def checkpoints(results: Path, recipe: Recipe, dataset: str) -> Iterator[Path]:
    """List the checkpoints of a recipe, of all seeds."""
    return _of(results / "work", recipe, dataset, ".pt")


def set_back(cell: Cell, recipe: Recipe, results: Path) -> None:
    """Set aside all that is kept of a cell, its record too: it starts anew.

    Other cells that share its sets keep their records and judged networks. A cell that another
    process works on is left as it is.
    """
    store = Store(results)
    with store.lock(cell.scale, cell.id, wait=False) as is_ours:
        for path in (
            *sets(results, recipe, cell.dataset),
            *checkpoints(results, recipe, cell.dataset),
            networks_path(results, cell.scale, cell.id),
            store.path(cell.scale, cell.id),
        ):
            if is_ours and path.exists():
                os.replace(path, path.with_name(f"{path.name}.diverged"))


def _of(folder: Path, recipe: Recipe, dataset: str, ending: str) -> Iterator[Path]:
    prefix = set_prefix(recipe.method, dataset, recipe.ipc, recipe.hash)
    yield from folder.glob(f"{escape(prefix)}*{ending}")
