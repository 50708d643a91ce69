"""All data sets by name: what is known of them before a single file is read.

A new data set is one module in `readers` that declares `DATASETS`, and its name below.
"""

from dataclasses import replace

from nsdbench.data import holdout
from nsdbench.data.description import DatasetSpec, Source
from nsdbench.data.readers import (
    cifar,
    digits,
    fashion_mnist,
    image_folder,
    imagenet,
    synthetic,
    tiny_imagenet,
)
from nsdbench.errors import nearest

_READERS = (digits, fashion_mnist, cifar, tiny_imagenet, imagenet)
_FAMILIES = {"synthetic:": synthetic, "folder:": image_folder}  # described by the name itself

DATASETS: dict[str, tuple[DatasetSpec, Source]] = {
    described.name: (described, source_of)
    for reader in _READERS
    for described, source_of in reader.DATASETS.items()
}


def names() -> list[str]:
    """List the named datasets; `folder:...`, `synthetic:...` and hold-outs exist besides."""
    return list(DATASETS)


def spec(name: str) -> DatasetSpec:
    """Look a dataset up by name, without needing its data.

    Args:
        name: one of `names()`, `synthetic:KxCxHxW[@TRAIN+TEST]` (images per class), or
            `folder:PATH[@SIZE]`, whose class folders are listed (only there the disk is read); any
            of them with "-holdoutN-seedS", whose spec has the name of the whole and its own sizes.

    Raises:
        ValueError: no such dataset, a malformed synthetic or folder name, or a hold-out that leaves
            no training data.
        DataMissing: the folder of `folder:PATH` does not exist.
    """
    if held := holdout.parse(name):
        base, size, _ = held
        return _holdout_spec(spec(base), size, name)
    for prefix, family in _FAMILIES.items():
        if name.startswith(prefix):
            return family.describe(name)
    if name not in DATASETS:
        raise ValueError(
            f"dataset: expected one of {', '.join(DATASETS)}, folder:PATH[@SIZE] or "
            "synthetic:CLASSESxCHANNELSxHEIGHTxWIDTH, each also with -holdoutN-seedS at its end, "
            f"got {name!r}{nearest(name, DATASETS)}"
        )
    return DATASETS[name][0]


def source(name: str) -> Source:
    """Find the source of a dataset.

    Args:
        name: as for `spec`, but no hold-out.

    Raises:
        ValueError: no such dataset.
    """
    for prefix, family in _FAMILIES.items():
        if name.startswith(prefix):
            return family.SOURCE
    if name not in DATASETS:
        raise ValueError(
            f"unknown dataset {name!r}; known: {', '.join(DATASETS)}{nearest(name, DATASETS)}"
        )
    return DATASETS[name][1]


def _holdout_spec(base: DatasetSpec, size: int, name: str) -> DatasetSpec:
    """Describe a dataset with `size` of its training images set aside for testing."""
    if base.train_size is None:
        return replace(base, test_size=size)
    if size >= base.train_size:
        raise ValueError(
            f"{name}: {base.name} has {base.train_size} training images; hold out fewer"
        )
    return replace(base, train_size=base.train_size - size, test_size=size)
