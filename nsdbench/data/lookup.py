"""Where data is looked for, in which order, and what is said when it is nowhere."""

import os
from pathlib import Path

from nsdbench.data.sources import Source, source


def cache_dir() -> Path:
    """The folder for downloads, resized images, whitening matrices and expert buffers.

    $NSDBENCH_CACHE, else $XDG_CACHE_HOME/nsdbench, else ~/.cache/nsdbench. Not created here.
    """
    if os.environ.get("NSDBENCH_CACHE"):
        return Path(os.environ["NSDBENCH_CACHE"]).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "nsdbench"


def is_offline() -> bool:
    """Whether NSDBENCH_OFFLINE forbids downloads."""
    return os.environ.get("NSDBENCH_OFFLINE", "0").lower() not in ("", "0", "false", "no")


def data_roots(root: Path | str | None) -> list[Path]:
    """The folders that may hold datasets, in the order they are asked."""
    roots = [root, os.environ.get("NSDBENCH_DATA"), cache_dir() / "datasets"]
    return [Path(r).expanduser() for r in roots if r]


def locate(name: str, root: Path | str | None = None) -> Path | None:
    """Find a dataset on this machine without reading or fetching it.

    Order: root, $NSDBENCH_DATA, the cache, system folders; in each, unpacked files first, then (in
    the same order) the published archive.

    Args:
        name: a dataset name.
        root: the folder given as --data-root.

    Returns:
        The folder with the files, or the archive, or for bundled data the file it comes from; None
        when only a download could provide it.
    """
    return find(source(name), root)


def find(entry: Source, root: Path | str | None) -> Path | None:
    """Do what `locate` does, for a source."""
    if entry.is_bundled:
        return Path(entry.read.__code__.co_filename)
    roots = data_roots(root)
    candidates = [base / folder for base in roots for folder in entry.folders]
    for folder in [*candidates, *entry.system_folders]:
        if any(all(_has(folder, name) for name in marker) for marker in entry.markers):
            return folder
    return None


def _has(folder: Path, name: str) -> bool:
    path = folder / name
    return path.is_dir() if name.endswith("/") else path.is_file()


def how_to_get(name: str, root: Path | str | None = None, reason: str = "") -> str:
    """Write the message that a dataset is missing, with every way to provide it.

    Args:
        name: a dataset name.
        root: the folder given as --data-root, if any.
        reason: why the download did not happen or failed.
    """
    entry = source(name)
    files = " or ".join(_listing(marker) for marker in entry.markers)
    environment = os.environ.get("NSDBENCH_DATA")
    lines = [
        f"{name} is not on this machine. Any one of these provides it:",
        f"  1. --data-root DIR (in Python: root=DIR) with DIR/{entry.folders[0]} holding {files}"
        f" [{f'looked in {root}' if root else 'not given'}]",
        f"  2. the environment variable NSDBENCH_DATA=DIR, same layout"
        f" [{f'looked in {environment}' if environment else 'not set'}]",
        f"  3. the cache: the same files in {cache_dir() / 'datasets' / entry.folders[0]}",
    ]
    system = ", ".join(map(str, entry.system_folders)) or "none known for this dataset"
    lines.append(f"  4. a system folder: {system}")
    if entry.downloads:
        size = sum(file.num_bytes for file in entry.downloads) / 1e6
        urls = ", ".join(file.url for file in entry.downloads)
        lines.append(
            f"  5. download ({size:.0f} MB): {urls} [{reason or 'not tried'}]",
        )
    else:
        lines.append("  5. download: not offered for this dataset")
    return "\n".join([*lines, *([f"  Note: {entry.note}"] if entry.note else [])])


def _listing(marker: tuple[str, ...]) -> str:
    shown = ", ".join(marker[:4])
    return shown if len(marker) <= 4 else f"{shown}, ... ({len(marker)} entries)"
