"""The front door: names, specs and datasets by name."""

from pathlib import Path

from nsdbench.data import lookup, synthetic
from nsdbench.data.catalog import PUBLISHED, DatasetSpec
from nsdbench.data.dataset import Dataset
from nsdbench.data.sources import source
from nsdbench.errors import DataMissing


def names() -> list[str]:
    """List the named datasets; `folder:...` and `synthetic:...` exist besides."""
    return list(PUBLISHED)


def spec(name: str) -> DatasetSpec:
    """Look a dataset up by name, without needing its data.

    Args:
        name: one of `names()`, `synthetic:KxCxHxW[@TRAIN+TEST]` (images per class), or
            `folder:PATH[@SIZE]`, whose class folders are listed (only there the disk is read).

    Raises:
        ValueError: no such dataset, or a malformed synthetic or folder name.
        DataMissing: the folder of `folder:PATH` does not exist.
    """
    if name.startswith("synthetic:"):
        return synthetic.describe(name)
    if name not in PUBLISHED:
        raise ValueError(
            f"dataset: expected one of {', '.join(PUBLISHED)}, folder:PATH[@SIZE] or "
            f"synthetic:CLASSESxCHANNELSxHEIGHTxWIDTH, got {name!r}"
        )
    return PUBLISHED[name]


def load(name: str, root: Path | str | None = None) -> Dataset:
    """Read a dataset: the training split now, the test split when it is first used.

    Args:
        name: as for `spec`.
        root: folder that holds datasets; asked before $NSDBENCH_DATA, the cache, system folders and
            the download.

    Returns:
        A `Dataset` with images uint8 [N, C, H, W] and labels int64 [N].

    Raises:
        ValueError: no such dataset.
        DataMissing: the data is nowhere; the message names every way to provide it.
        DataCorrupt: a file is damaged; the message names it.
    """
    described = spec(name)
    entry = source(name)
    path = lookup.find(entry, root)
    if path is None:
        raise DataMissing(lookup.how_to_get(name, root))
    train = entry.read(path, described, "train")
    return Dataset(described, train, lambda: entry.read(path, described, "test"))
