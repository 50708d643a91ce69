"""The front door: names, specs and datasets by name."""

from dataclasses import replace
from pathlib import Path

from nsdbench.data import holdout
from nsdbench.data.catalog import PUBLISHED, DatasetSpec
from nsdbench.data.dataset import Dataset
from nsdbench.data.fetching import archive, download, lookup
from nsdbench.data.fetching.cache import cache_dir
from nsdbench.data.readers import image_folder, synthetic
from nsdbench.data.sources import source
from nsdbench.errors import DataCorrupt, DataMissing, nearest


def names() -> list[str]:
    """List the named datasets; `folder:...`, `synthetic:...` and hold-outs exist besides."""
    return list(PUBLISHED)


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
        return _holdout_spec(spec(held[0]), held[1], name)
    if name.startswith("synthetic:"):
        return synthetic.describe(name)
    if name.startswith("folder:"):
        return image_folder.describe(name)
    if name not in PUBLISHED:
        raise ValueError(
            f"dataset: expected one of {', '.join(PUBLISHED)}, folder:PATH[@SIZE] or "
            "synthetic:CLASSESxCHANNELSxHEIGHTxWIDTH, each also with -holdoutN-seedS at its end, "
            f"got {name!r}{nearest(name, PUBLISHED)}"
        )
    return PUBLISHED[name]


def load(
    name: str, root: Path | str | None = None, progress: download.Progress | None = None
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


def _holdout_spec(base: DatasetSpec, size: int, name: str) -> DatasetSpec:
    """Describe a dataset with `size` of its training images set aside for testing."""
    if base.train_size is None:
        return replace(base, test_size=size)
    if size >= base.train_size:
        raise ValueError(
            f"{name}: {base.name} has {base.train_size} training images; hold out fewer"
        )
    return replace(base, train_size=base.train_size - size, test_size=size)


def _download(name: str, root: Path | str | None, progress: download.Progress | None) -> Path:
    """Fetch a dataset into the cache and say where it is."""
    files = source(name).downloads
    if not files:
        raise DataMissing(lookup.how_to_get(name, root))
    if lookup.is_offline():
        raise DataMissing(lookup.how_to_get(name, root, "forbidden by NSDBENCH_OFFLINE"))
    try:
        download.fetch(files, _cache_folder(name), progress)
    except download.Unreachable as error:
        raise DataMissing(lookup.how_to_get(name, root, f"failed: {error}")) from error
    return _located(name)


def _unpack(name: str, path: Path) -> Path:
    """Unpack a published archive into the cache and say where its content is."""
    published = next(file for file in source(name).archives if file.name == path.name)
    if not download.is_intact(path, published.checksum):
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
