"""Coresets: a selection of real images, stored as pixels; nothing is learned."""

import os

import torch

from nsdbench import methods, parameterizations, provenance
from nsdbench.artefact import Artefact, load_artefact
from nsdbench.data import Dataset, load, preprocessing
from nsdbench.data.training import TrainingData
from nsdbench.registry import Registry
from nsdbench.seeding import generator


def select_random(real: TrainingData, ipc: int, stream: torch.Generator) -> torch.Tensor:
    """Draw `ipc` row numbers per class uniformly without replacement.

    Returns:
        [num_classes * ipc] int64, in the order of classes.
    """
    return torch.cat([real.class_rows(c, ipc, stream) for c in range(real.num_classes)])


_SELECTIONS = {"random": select_random}
_REGISTRY = Registry("selection", "nsdbench.coresets", _SELECTIONS)


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

    Raises:
        ValueError: the method selects nothing, or a class has fewer than `ipc` images.
    """
    data = load(dataset, data_root) if isinstance(dataset, str) else dataset
    recipe = methods.resolve(method, data.spec.name, ipc, scale)
    if recipe.kind != "coreset":
        raise ValueError(f"method {method!r} is of kind {recipe.kind}; there is nothing to select")
    selection = _REGISTRY.get(recipe.values.get("coreset", {}).get("name"))
    data = data.without_test()
    real = TrainingData(data, preprocessing(recipe.values["data"]["preprocessing"], data))
    rows = selection(real, ipc, generator(seed, "coreset", draw))
    pixels = parameterizations.build({"name": "pixels"}, data.spec, ipc)
    with torch.no_grad():
        pixels.spectra.copy_(real.batch(rows)[0].view_as(pixels.spectra))
    artefact = Artefact(
        pixels.requires_grad_(False),
        {
            "method": method,
            "dataset": data.name,
            "ipc": ipc,
            "scale": scale,
            "seed": seed,
            "draw": draw,
            "recipe_hash": recipe.hash,
            "preprocessing": real.preprocessing.kind,
            "preprocessing_hash": real.preprocessing.hash,
            "commit": provenance.commit(),
            "rows": rows.tolist(),
        },
    )
    if out is None:
        return artefact
    artefact.save(out)
    return load_artefact(out)
