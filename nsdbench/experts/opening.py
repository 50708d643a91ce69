"""Open the experts that a recipe asks for, and derive the name of the set."""

import hashlib
from collections.abc import Callable
from typing import Any, TypeVar

from nsdbench.data import Dataset, DatasetSpec, Preprocessing
from nsdbench.experts.buffer import ExpertBuffer, ExpertsDamaged, default_root
from nsdbench.experts.networks import student_arch
from nsdbench.experts.recipe import ExpertRecipe
from nsdbench.experts.recording import record, set_back_damaged
from nsdbench.experts.run import Run
from nsdbench.files import checked_name, set_prefix
from nsdbench.methods import Recipe
from nsdbench.sums import notice

T = TypeVar("T")
EXPERT_SEED = 0  # experts are shared by all runs on a data set, as in MTT


def recipe_experts(
    recipe: Recipe, data: Dataset, preprocessing: Preprocessing, seed: int, run: Run
) -> ExpertBuffer:
    """Open the experts a recipe asks for; record them first if they do not exist."""
    arch = student_arch(recipe, data.spec)
    name = recipe.values["experts"].get("buffer")
    if name is not None:
        return _imported_experts(name, data.name, arch, preprocessing.kind)
    return record(data, preprocessing, arch, expert_recipe(recipe, data.spec), seed=seed, run=run)


def expert_recipe(recipe: Recipe, spec: DatasetSpec) -> ExpertRecipe:
    """Return how the experts that a recipe asks for are trained on a data set.

    Raises:
        ValueError: it does not say so, or wrongly.
    """
    settings: dict[str, Any] = {"dsa_strategy": spec.dsa_strategy, **recipe.values["experts"]}
    return ExpertRecipe(**settings)


def _imported_experts(name: str, dataset: str, arch: str, preprocessing_kind: str) -> ExpertBuffer:
    """Open a buffer that was imported under a name, if it fits data set, network and inputs."""
    buffer = _buffer(name)
    held = tuple(buffer.manifest[key] for key in ("dataset", "arch", "preprocessing"))
    if held != (dataset, arch, preprocessing_kind):
        raise ValueError(
            f"experts.buffer {name!r} holds {held[1]} trained on {held[0]} with {held[2]}, this "
            f"recipe needs {arch} trained on {dataset} with {preprocessing_kind}; set "
            "network.width or data.preprocessing, or import fitting experts"
        )
    return buffer


def _buffer(name: str) -> ExpertBuffer:
    """Open the buffer that a recipe names."""
    return ExpertBuffer(default_root() / checked_name(name, "experts.buffer"))


def set_name(recipe: Recipe, data: Dataset, seed: int) -> str:
    """Name the set that a recipe yields on a data set: equal names, equal sets."""
    digests = data.checksum[:8]
    if "buffer" in recipe.values.get("experts", {}):  # other files may be imported by one name
        buffer = _buffer(recipe.values["experts"]["buffer"])
        files = "".join(file["sha256"] for file in buffer.manifest["files"])
        digests += f"-{hashlib.sha256(files.encode()).hexdigest()[:8]}"
    prefix = set_prefix(recipe.method, data.name, recipe.ipc, recipe.hash)
    return f"{prefix}{digests}-seed{seed}"


def with_sound_experts(make: Callable[[], T]) -> T:
    """Make something from experts; damaged ones are trained anew, then it is made again."""
    try:
        return make()
    except ExpertsDamaged as damage:
        if not damage.is_recorded:
            raise
        notice(f"{damage}; it is trained anew from there")
        set_back_damaged(damage.folder)
        return make()
