"""The front door: a dataset by name, found on this machine or fetched, and read."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from nsdbench.data import holdout
from nsdbench.data.catalog import source, spec
from nsdbench.data.dataset import Dataset
from nsdbench.data.fetching import archive, lookup
from nsdbench.data.fetching.cache import cache_dir
from nsdbench.errors import DataCorrupt, DataMissing

if TYPE_CHECKING:
    from nsdbench.data.fetching.download import Progress


def load(
    name: str, root: str | os.PathLike[str] | None = None, progress: "Progress | None" = None
) -> Dataset:
    """Read a dataset: the training split now, the test split when it is first used.

    Args:
        name: as for `spec`.
        root: folder that holds datasets; asked before $NSDBENCH_DATA, the cache, system folders and
            the download.
        progress: called with (phase, bytes done, bytes in all) while downloading; default: a bar
            on a terminal.

    Returns:
        A `Dataset` with images uint8 [N, C, H, W] and labels int64 [N].

    Raises:
        ValueError: no such dataset.
        DataMissing: the data is nowhere; the message names every way to provide it.
        DataCorrupt: a file is damaged; the message names it.
    """
    described = spec(name)
    if held := holdout.parse(name):
        base, size, seed = held
        return load(base, root, progress).holdout(size, seed)
    entry = source(name)
    path = lookup.locate(name, root)
    if path is None:
        path = _download(name, root, progress)
    if path.is_file() and not entry.is_bundled:
        path = _unpack(name, path)
    train = entry.read(path, described, "train")
    return Dataset(described, train, lambda: entry.read(path, described, "test"))


def _download(name: str, root: str | os.PathLike[str] | None, progress: "Progress | None") -> Path:
    """Fetch a dataset into the cache and say where it is."""
    files = source(name).downloads
    if not files:
        raise DataMissing(lookup.how_to_get(name, root))
    if lookup.is_offline():
        raise DataMissing(lookup.how_to_get(name, root, "forbidden by NSDBENCH_OFFLINE"))
    from nsdbench.data.fetching import download

    try:
        download.fetch(files, _cache_folder(name), progress)
    except download.Unreachable as error:
        raise DataMissing(lookup.how_to_get(name, root, f"failed: {error}")) from error
    return _located(name)


def _unpack(name: str, path: Path) -> Path:
    """Unpack a published archive into the cache and say where its content is."""
    published = next(file for file in source(name).archives if file.name == path.name)
    if not archive.is_intact(path, published.checksum):
        raise DataCorrupt(
            f"{path}: expected {published.checksum} ({published.num_bytes} bytes), got something "
            f"else ({path.stat().st_size} bytes); delete it and fetch it again"
        )
    archive.unpack(path, _cache_folder(name))
    return _located(name)


def _cache_folder(name: str) -> Path:
    return cache_dir() / "datasets" / name


def _located(name: str) -> Path:
    path = lookup.locate(name)
    if path is None:
        raise DataCorrupt(f"{_cache_folder(name)}: expected the files of {name} after unpacking")
    return path
