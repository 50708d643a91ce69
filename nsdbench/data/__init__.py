"""Datasets by name, their preprocessing, and where everything is kept on disk."""

from nsdbench.data.cache import cache_dir
from nsdbench.data.catalog import DatasetSpec
from nsdbench.data.dataset import Dataset, Split
from nsdbench.data.loading import load, names, spec
from nsdbench.data.lookup import how_to_get, locate
from nsdbench.data.preprocess import Preprocessing, preprocessing

__all__ = [
    "Dataset",
    "DatasetSpec",
    "Preprocessing",
    "Split",
    "cache_dir",
    "how_to_get",
    "load",
    "locate",
    "names",
    "preprocessing",
    "spec",
]
