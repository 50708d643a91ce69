"""Where data is searched, in which order, and the message that lists every way to provide it."""

import inspect
import os
from pathlib import Path

from nsdbench.data.catalog import source
from nsdbench.data.description import Source
from nsdbench.data.fetching.cache import find_cache_dir
from nsdbench.data.holdout import base_name
from nsdbench.data.readers import image_folder
from nsdbench.files import user_path


def is_offline() -> bool:
    """Whether NSDBENCH_OFFLINE forbids downloads."""
    return os.environ.get("NSDBENCH_OFFLINE", "0").lower() not in ("", "0", "false", "no")


def data_roots(root: str | os.PathLike[str] | None) -> list[Path]:
    """The folders that may hold datasets, in the order they are asked."""
    cache = find_cache_dir()
    roots = [root, os.environ.get("NSDBENCH_DATA"), cache and cache / "datasets"]
    return [user_path(r) for r in roots if r]


def locate(name: str, root: str | os.PathLike[str] | None = None) -> Path | None:
    """Find a dataset on this machine without reading or fetching it.

    Order: root, $NSDBENCH_DATA, the cache, system folders; unpacked files first, then (in the same
    order) the published archive.

    Args:
        name: a dataset name; a hold-out is where the whole is.
        root: the folder given as --data-root.

    Returns:
        The folder with the files, or the archive; for generated and bundled data the module that
        makes them. None when only a download could provide it, or nothing at all.
    """
    name = base_name(name)
    if name.startswith("folder:"):
        path = image_folder.parse(name).path
        return path if path.is_dir() else None
    entry = source(name)
    if entry.is_bundled:
        return Path(inspect.getfile(entry.read))
    roots = data_roots(root)
    for folder in _folders(entry, roots):
        absent, _ = _missing(folder, entry)
        if not absent:
            return folder
    for base in roots:
        for archive in entry.archives:
            for path in (base / archive.name, base / name / archive.name):
                if path.is_file():
                    return path
    return None


def _missing(folder: Path, entry: Source) -> tuple[list[str], bool]:
    """What a folder lacks of the alternative it comes closest to, and whether it has part of it."""
    absent, marker = min(
        (([n for n in marker if not _has(folder, n)], marker) for marker in entry.markers),
        key=lambda pair: len(pair[0]),
    )
    return absent, 0 < len(absent) < len(marker)


def _has(folder: Path, name: str) -> bool:
    path = folder / name
    return path.is_dir() if name.endswith("/") else path.is_file()


def how_to_get(name: str, root: str | os.PathLike[str] | None = None, reason: str = "") -> str:
    """Write the message that a dataset is missing, with every way to provide it.

    Args:
        name: a dataset name.
        root: the folder given as --data-root, if any.
        reason: why the download did not happen or failed.
    """
    name = base_name(name)
    if name.startswith("folder:"):
        return f"{name}: make the folder: {source(name).layout}"
    entry = source(name)
    if entry.is_bundled:
        return f"{name} needs no files: it is generated, or ships inside scikit-learn"
    cache = find_cache_dir()
    kept = cache / "datasets" / entry.folders[0] if cache else "nowhere: set NSDBENCH_CACHE"
    first = f"DIR/{entry.folders[0]} with {entry.layout}"
    environment = os.environ.get("NSDBENCH_DATA")
    asked = [f"looked in {place}" if place else "" for place in (root, environment)]
    system = " or ".join(map(str, entry.system_folders)) or "none known for this dataset"
    lines = [
        f"{name} is not on this machine. Any one of these provides it:",
        f"  1. --data-root DIR (in Python: root=DIR): {first} [{asked[0] or 'not given'}]",
        f"  2. the environment variable NSDBENCH_DATA=DIR: likewise [{asked[1] or 'not set'}]",
        f"  3. the cache: the same files in {kept}",
        f"  4. a system folder: {system}",
    ]
    if entry.downloads:
        size = sum(file.num_bytes for file in entry.downloads) / 1e6
        base = entry.downloads[0].url.rsplit("/", 1)[0]
        files = ", ".join(file.name for file in entry.downloads)
        lines.append(
            f"  5. download ({size:.0f} MB): {files} from {base}/ [{reason or 'not tried'}]"
        )
    else:
        lines.append("  5. download: not offered for this dataset")
    if entry.note:
        lines.append(f"  Note: {entry.note}")
    lines += [f"  Incomplete: {text}" for text in _incomplete(entry, root)]
    return "\n".join(lines)


def _incomplete(entry: Source, root: str | os.PathLike[str] | None) -> list[str]:
    """Name folders that hold some of the files, and what they lack."""
    lines = []
    for folder in _folders(entry, data_roots(root)):
        absent, has_part = _missing(folder, entry)
        if has_part:
            shown = ", ".join(absent[:4]) + (", ..." if len(absent) > 4 else "")
            lines.append(f"{folder} lacks {shown}")
    return lines


def _folders(entry: Source, roots: list[Path]) -> list[Path]:
    """List the folders that may hold the files of a dataset, in the order they are asked."""
    return [*(base / folder for base in roots for folder in entry.folders), *entry.system_folders]
