"""Coresets: real images stored as pixels; only the networks that select them are trained.

Some selections look at the images through a network that was trained on the whole training split,
or at how its training went. It is trained as an expert is (`experts` in the recipe) and kept where
experts are kept: once for all ipc and all methods that ask for the same training. Every seed has
its own, so that the sets of different seeds are independent.
"""

import os
import time
from typing import Any

import torch

from nsdbench import methods, provenance
from nsdbench.coresets.registry import SelectionTask, read
from nsdbench.data import Dataset, load, preprocessing
from nsdbench.data.training import TrainingData
from nsdbench.experts import (
    ExpertBuffer,
    Run,
    recipe_experts,
    student_arch,
    with_sound_experts,
)
from nsdbench.progress import Shown, reporting
from nsdbench.seeding import generator
from nsdbench.sets import parameterizations
from nsdbench.sets.artefact import Artefact, check_out, load_artefact


def select(
    method: str,
    dataset: str | Dataset,
    ipc: int,
    scale: str = "smoke",
    *,
    seed: int = 0,
    draw: int = 0,
    out: str | os.PathLike[str] | None = None,
    data_root: str | os.PathLike[str] | None = None,
    device: str = "cpu",
    progress: Shown = "bar",
) -> Artefact:
    """Select a coreset by a method's recipe and store it as float32 pixels.

    Args:
        method: name of a method of kind "coreset".
        dataset: name or loaded dataset; its test split stays closed.
        ipc: images per class.
        scale: which settings of the recipe apply.
        seed, draw: name the random stream; another draw of one seed is another set.
        out: where to write the artefact; None keeps it in memory.
        data_root: folder of the data set, see `nsdbench.data.load`.
        device: where the network of a selection is trained.
        progress: as of `distill`.

    Raises:
        ValueError: the method selects nothing, a class has fewer than `ipc` images, or `out` is no
            place for a set.
    """
    check_out(out)
    data = load(dataset, data_root) if isinstance(dataset, str) else dataset
    recipe = methods.resolve(method, data.spec.name, ipc, scale)
    if recipe.kind != "coreset":
        raise ValueError(f"method {method!r} is of kind {recipe.kind}; there is nothing to select")
    with reporting(progress) as report:
        artefact = select_recipe(recipe, data, seed, draw, Run(device=device, progress=report))
    if out is None:
        return artefact
    artefact.save(out)
    return load_artefact(out)


def select_recipe(
    recipe: methods.Recipe, data: Dataset, seed: int, draw: int, run: Run
) -> Artefact:
    """Select a coreset by a resolved recipe; arguments and errors as of `select`."""
    return with_sound_experts(lambda: _select(recipe, data, seed, draw, run))


def _select(recipe: methods.Recipe, data: Dataset, seed: int, draw: int, run: Run) -> Artefact:
    family, settings = read(recipe.values["coreset"])
    data = data.without_test()
    real = TrainingData(
        data, preprocessing(recipe.values["data"]["preprocessing"], data), run.device
    )
    for label in range(real.num_classes):
        real.rows_of_class(label, at_least=recipe.ipc)
    cost = {"experts": 0.0}
    described: dict[str, Any] = {}

    def open_experts() -> ExpertBuffer:
        started = time.perf_counter()
        buffer = recipe_experts(recipe, data, real.preprocessing, seed, run)
        cost["experts"] = time.perf_counter() - started
        entry = buffer.manifest["experts"][0]
        described["network"] = {
            "name": buffer.path.name,
            "final_train_accuracy": entry.get("final_train_accuracy"),
        }
        return buffer

    started = time.perf_counter()
    arch = student_arch(recipe, data.spec) if "network" in recipe.values else None
    stream = generator(seed, "coreset", draw)
    task = SelectionTask(real, recipe.ipc, stream, arch, open_experts)
    rows = family.load()(task, settings)
    pixels = parameterizations.build({"name": "pixels"}, data.spec, recipe.ipc)
    with torch.no_grad():
        spectra = pixels.get_parameter("spectra")
        spectra.copy_(real.batch(rows)[0].view_as(spectra))
    cost["distill"] = time.perf_counter() - started - cost["experts"]
    return Artefact(
        pixels.requires_grad_(False),
        {
            "method": recipe.method,
            "dataset": data.name,
            "ipc": recipe.ipc,
            "scale": recipe.scale,
            "seed": seed,
            "draw": draw,
            "recipe_hash": recipe.hash,
            "preprocessing": real.preprocessing.kind,
            "preprocessing_hash": real.preprocessing.hash,
            "commit": provenance.commit(),
            "rows": rows.tolist(),
            "cost": cost,
            **described,
        },
    )
