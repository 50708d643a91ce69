"""All data sets by name: what is known of them before a single file is read.

A new data set is one module in `readers` that declares `DATASETS`, and its name below; or a package
outside enters a `DatasetFamily` in the group nsdbench.datasets.
"""

from dataclasses import replace

from nsdbench.data import holdout
from nsdbench.data.description import DatasetFamily, DatasetSpec, Source
from nsdbench.data.readers import (
    cifar,
    cifar10_jpeg,
    digits,
    fashion_mnist,
    image_folder,
    imagenet,
    mnist,
    stl10,
    svhn,
    synthetic,
    tiny_imagenet,
)
from nsdbench.errors import nearest
from nsdbench.registry import load_plugin, plugin, plugin_names

_GROUP = "nsdbench.datasets"
_READERS = (
    digits, mnist, fashion_mnist, svhn, cifar, cifar10_jpeg, stl10, tiny_imagenet, imagenet,
)  # fmt: skip
_FAMILIES = {"synthetic:": synthetic, "folder:": image_folder}  # described by the name itself

DATASETS: dict[str, tuple[DatasetSpec, Source]] = {
    described.name: (described, source_of)
    for reader in _READERS
    for described, source_of in reader.DATASETS.items()
}


def names() -> list[str]:
    """List the named datasets; `folder:...`, `synthetic:...` and hold-outs exist besides.

    Those of packages outside stand last; nothing of theirs is imported.
    """
    return [*DATASETS, *(name for name in plugin_names(_GROUP) if name not in DATASETS)]


def spec(name: str) -> DatasetSpec:
    """Look a dataset up by name, without needing its data.

    Args:
        name: one of `names()`, `synthetic:KxCxHxW[@TRAIN+TEST]` (images per class), or
            `folder:PATH[@SIZE]`, whose class folders are listed (only there the disk is read), or
            `folder:PATH[@SIZE]=NAME`, a copy that stands for NAME of `names()`; any of them with
            "-holdoutN-seedS", whose spec has the name of the whole and its own sizes.

    Raises:
        ValueError: no such dataset, a malformed synthetic or folder name, a folder that cannot
            stand for a dataset, a hold-out that leaves no training data, or a package outside
            that does not import.
        DataMissing: the folder of `folder:PATH` does not exist.
    """
    if held := holdout.parse(name):
        base, size, _ = held
        return _holdout_spec(spec(base), size, name)
    if stands_for := _copied_by_folder(name):
        return image_folder.describe_copy(name, _named(stands_for)[0])
    for prefix, family in _FAMILIES.items():
        if name.startswith(prefix):
            return family.describe(name)
    return _named(name)[0]


def original(name: str) -> str:
    """Return the name of the dataset that a dataset stands for; all others as they are.

    A hold-out stands for nothing: no number was printed for it.
    """
    stands_for = _named(name)[0].stands_for if name in names() else _copied_by_folder(name)
    return stands_for or name


def recipe_names(name: str) -> set[str]:
    """Name the datasets whose recipes hold for a dataset, itself among them.

    Args:
        name: as for `spec`. A hold-out has the recipes of the whole.
    """
    whole = holdout.base_name(name)
    return {whole, original(whole)}


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
    return _named(name)[1]


def _copied_by_folder(name: str) -> str:
    """Name the dataset that a folder stands for; empty if it is none, or stands for none."""
    return image_folder.parse(name).stands_for if name.startswith("folder:") else ""


def _named(name: str) -> tuple[DatasetSpec, Source]:
    """Look up one of `names()`."""
    entry = plugin("data set", _GROUP, name, DATASETS)
    if name in DATASETS:
        return DATASETS[name]
    if entry is None:
        known = names()
        raise ValueError(
            f"dataset: expected one of {', '.join(known)}, folder:PATH[@SIZE][=NAME] or "
            "synthetic:CLASSESxCHANNELSxHEIGHTxWIDTH, each also with -holdoutN-seedS at its end, "
            f"got {name!r}{nearest(name, known)}"
        )
    family = load_plugin("data set", entry, DatasetFamily)
    if family.spec.name != name:
        raise ValueError(
            f"the data set that a package enters as {name!r} calls itself {family.spec.name!r}; "
            "its spec must have the name of the entry point"
        )
    return family.spec, family.source


def _holdout_spec(base: DatasetSpec, size: int, name: str) -> DatasetSpec:
    """Describe a dataset with `size` of its training images set aside for testing."""
    if base.train_size is None:
        return replace(base, test_size=size)
    if size >= base.train_size:
        raise ValueError(
            f"{name}: {base.name} has {base.train_size} training images; hold out fewer"
        )
    return replace(base, train_size=base.train_size - size, test_size=size)
