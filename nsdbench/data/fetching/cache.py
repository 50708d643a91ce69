"""Where everything that can be made again is kept."""

import os
from collections.abc import Callable
from pathlib import Path

from nsdbench.files import user_path, write_atomically
from nsdbench.sums import notice

_REMEDY = "set NSDBENCH_CACHE to a folder that you can write to"


def find_cache_dir() -> Path | None:
    """The folder of `cache_dir`; None where nobody knows a home folder and no variable is set."""
    if os.environ.get("NSDBENCH_CACHE"):
        return user_path(os.environ["NSDBENCH_CACHE"])
    if os.environ.get("XDG_CACHE_HOME"):
        return Path(os.environ["XDG_CACHE_HOME"]) / "nsdbench"
    try:
        return Path.home() / ".cache" / "nsdbench"
    except RuntimeError:
        return None


def cache_dir() -> Path:
    """The folder for downloads, resized images, whitening matrices and expert buffers.

    $NSDBENCH_CACHE, else $XDG_CACHE_HOME/nsdbench, else ~/.cache/nsdbench. Not created here.

    Raises:
        ValueError: there is no home folder, and no variable names another.
    """
    folder = find_cache_dir()
    if folder is None:
        raise ValueError(f"there is no home folder to keep a cache in; {_REMEDY}")
    return folder


def make_folder(folder: Path) -> Path:
    """Make a folder of the cache, and return it.

    Raises:
        OSError: it cannot be made or written; the message says what to do.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(f"{folder} cannot be made ({error.strerror}); {_REMEDY}") from error
    if not os.access(folder, os.W_OK):
        raise OSError(f"{folder} cannot be written; {_REMEDY}")
    return folder


def keep(file: Path | None, write: Callable[[Path], object]) -> None:
    """Write a file of the cache for the next time; where that fails, a warning says so.

    Args:
        file: where; None if there is no cache.
        write: writes the content to the path it is given; raises OSError if it cannot.
    """
    try:
        if file is None:
            raise OSError("there is no home folder")
        write_atomically(file, write)
    except OSError as error:
        notice(f"{file or 'the cache'} is not kept for the next time ({error}); {_REMEDY}")
