"""Coresets: a selection of real images, stored as pixels; nothing is learned but what selects them.

Some selections look at the images through a network that was trained on the whole training split,
or at how its training went. It is trained as an expert is (`experts` in the recipe) and kept where
experts are kept: once for all ipc and all methods that ask for the same training. Every seed has
its own, so that the sets of different seeds are independent.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from nsdbench import methods, models, provenance
from nsdbench.coresets.rules import (
    forgetting_scores,
    select_herding,
    select_highest,
    select_k_center,
)
from nsdbench.data import Dataset, load, preprocessing
from nsdbench.data.training import TrainingData
from nsdbench.experts import (
    ExpertBuffer,
    Progress,
    Run,
    recipe_experts,
    silent,
    student_arch,
)
from nsdbench.registry import Registry
from nsdbench.seeding import generator
from nsdbench.sets import parameterizations
from nsdbench.sets.artefact import Artefact, load_artefact

_EMBEDDED_AT_ONCE = 512


@dataclass(frozen=True)
class SelectionTask:
    """What a selection, which returns the row numbers of a coreset, works with.

    Attributes:
        real: training data in network-input space.
        ipc: images per class.
        stream: the only source of randomness.
        arch: id of the network of the recipe, if it names one.
        experts: opens the buffer of the networks trained on all images, training them if need be.
    """

    real: TrainingData
    ipc: int
    stream: torch.Generator
    arch: str | None
    experts: Callable[[], ExpertBuffer]


def names() -> list[str]:
    """List the selections a recipe may name."""
    return _REGISTRY.names()


def select(
    method: str,
    dataset: str | Dataset,
    ipc: int,
    scale: str = "smoke",
    *,
    seed: int = 0,
    draw: int = 0,
    out: str | os.PathLike | None = None,
    data_root: str | os.PathLike | None = None,
    device: str = "cpu",
    progress: Progress = silent,
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
        progress: called as progress(phase, done, total, note).

    Raises:
        ValueError: the method selects nothing, or a class has fewer than `ipc` images.
    """
    data = load(dataset, data_root) if isinstance(dataset, str) else dataset
    recipe = methods.resolve(method, data.spec.name, ipc, scale)
    if recipe.kind != "coreset":
        raise ValueError(f"method {method!r} is of kind {recipe.kind}; there is nothing to select")
    artefact = select_recipe(recipe, data, seed, draw, Run(device=device, progress=progress))
    if out is None:
        return artefact
    artefact.save(out)
    return load_artefact(out)


def select_recipe(
    recipe: methods.Recipe, data: Dataset, seed: int, draw: int, run: Run
) -> Artefact:
    """Select a coreset by a resolved recipe; arguments and errors as of `select`."""
    selection = _REGISTRY.get(recipe.values.get("coreset", {}).get("name"))
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
    rows = selection(SelectionTask(real, recipe.ipc, stream, arch, open_experts))
    pixels = parameterizations.build({"name": "pixels"}, data.spec, recipe.ipc)
    with torch.no_grad():
        pixels.spectra.copy_(real.batch(rows)[0].view_as(pixels.spectra))
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


def _random(task: SelectionTask) -> torch.Tensor:
    """Draw `ipc` row numbers per class uniformly without replacement.

    Returns:
        [num_classes * ipc] int64, in the order of classes, as every selection does.
    """
    real = task.real
    return torch.cat([real.class_rows(c, task.ipc, task.stream) for c in range(real.num_classes)])


def _by_features(
    rule: Callable[[torch.Tensor, int], torch.Tensor],
) -> Callable[[SelectionTask], torch.Tensor]:
    """Make a selection of a rule on what the trained network's classifier sees of every image."""

    def selection(task: SelectionTask) -> torch.Tensor:
        model = _trained_network(task)
        chosen = []
        for label in range(task.real.num_classes):
            rows = task.real.rows_of_class(label)
            chosen.append(rows[rule(_features(model, task.real, rows), task.ipc)])
        return torch.cat(chosen)

    return selection


def _forgetting(task: SelectionTask) -> torch.Tensor:
    """Take what the networks of the recipe forgot most often while they were trained."""
    scores = forgetting_scores(task.experts().correctness())
    chosen = []
    for label in range(task.real.num_classes):
        rows = task.real.rows_of_class(label)
        chosen.append(rows[select_highest(scores[rows], task.ipc, task.stream)])
    return torch.cat(chosen)


def _trained_network(task: SelectionTask) -> models.ImageClassifier:
    """Return the network of the recipe after its training on all real images."""
    buffer = task.experts()
    model = models.for_dataset(task.arch, task.real)
    models.load_flat(model, buffer.snapshot(0, buffer.num_epochs))
    return model.to(task.real.device).eval()


@torch.no_grad()
def _features(
    model: models.ImageClassifier, real: TrainingData, rows: torch.Tensor
) -> torch.Tensor:
    """Embed images of the training split, without augmentation: [n, F]."""
    return torch.cat(
        [model.embed(real.batch(part)[0]).cpu() for part in rows.split(_EMBEDDED_AT_ONCE)]
    )


_SELECTIONS: dict[str, Callable[[SelectionTask], torch.Tensor]] = {
    "random": _random,
    "herding": _by_features(select_herding),
    "k-center": _by_features(select_k_center),
    "forgetting": _forgetting,
}
_REGISTRY = Registry("selection", "nsdbench.coresets", _SELECTIONS)
