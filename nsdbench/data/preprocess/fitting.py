"""Preprocessing by name, fitted to a data set."""

import torch

from nsdbench.data.catalog import KINDS
from nsdbench.data.dataset import Dataset
from nsdbench.data.preprocess.base import Preprocessing
from nsdbench.data.preprocess.standardise import Standardise
from nsdbench.data.preprocess.whitening import whitening


def preprocessing(kind: str, dataset: Dataset) -> Preprocessing:
    """Make the preprocessing of a dataset.

    Args:
        kind: "standardise" (constants of the catalog), "zca" (kornia's whitening: 0.1 added to the
            eigenvalues) or "zca_relative" (0.1 * trace / D added to them).
        dataset: whitening is fitted on its training split and cached.

    Raises:
        ValueError: unknown kind.
    """
    if kind == "standardise":
        return Standardise(torch.tensor(dataset.spec.mean), torch.tensor(dataset.spec.std))
    if kind in KINDS:
        return whitening(dataset, kind)
    raise ValueError(f"preprocessing: expected one of {', '.join(KINDS)}, got {kind!r}")
