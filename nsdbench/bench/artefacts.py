"""The sets of a run as files, shared by all cells with the same recipe, data and seed.

results/artefacts/<set name>-draw<D>.safetensors
"""

from pathlib import Path

from filelock import FileLock

from nsdbench.coresets import select_recipe
from nsdbench.data import Dataset
from nsdbench.distillation import distill_recipe
from nsdbench.errors import DataCorrupt
from nsdbench.experts import Run, set_name
from nsdbench.methods import Recipe
from nsdbench.sets import Artefact, load_artefact
from nsdbench.sums import set_aside


def is_drawn_per_network(recipe: Recipe) -> bool:
    """Say whether every network gets a set of its own, as a random coreset does."""
    return recipe.kind == "coreset" and recipe.values["coreset"]["draw_per_network"]


def make_or_load(recipe: Recipe, data: Dataset, seed: int, draw: int, run: Run) -> Artefact:
    """Load a set, after distilling or selecting it if it is not there.

    Args:
        recipe: of kind "distillation" or "coreset".
        data: the data set.
        seed: of the set.
        draw: number of the draw, for coresets that are drawn anew for every network; else 0.
        run: its results folder holds checkpoints and sets; a damaged set is set aside.
    """
    name = f"{set_name(recipe, data, seed)}{run.suffix}-draw{draw}.safetensors"
    path = run.results / "artefacts" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        try:
            return _load(path, recipe, data, seed)
        except FileNotFoundError:
            pass
        except DataCorrupt as damage:
            set_aside(path, damage)
        if recipe.kind == "coreset":
            artefact = select_recipe(recipe, data, seed, draw, run)
        else:
            artefact = distill_recipe(recipe, data, seed, run, run.results / "work")
        artefact.save(path)
    return load_artefact(path)


def _load(path: Path, recipe: Recipe, data: Dataset, seed: int) -> Artefact:
    """Load the set that is to be in a file; one of another recipe, data or seed is damage."""
    artefact = load_artefact(path)
    wanted = {"recipe_hash": recipe.hash, "dataset": data.name, "seed": seed}
    if any(artefact.metadata.get(key) != value for key, value in wanted.items()):
        raise DataCorrupt(f"{path} is damaged: it holds another set")
    return artefact
