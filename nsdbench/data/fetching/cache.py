"""The folder of everything that can be made again."""

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from nsdbench.files import user_path, write_atomically

if TYPE_CHECKING:
    from torch import Tensor

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


def keep_tensors(
    file: Path | None, tensors: "Mapping[str, Tensor]", metadata: dict[str, str] | None = None
) -> None:
    """Write tensors to the cache for the next time; where that fails, a warning says so.

    Args:
        file: where; None if there is no cache.
        tensors, metadata: what a file of safetensors holds.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        if file is None:
            raise OSError("there is no home folder for the cache")
        write_atomically(file, lambda path: save_file(dict(tensors), path, metadata))
    except (OSError, SafetensorError) as error:
        logging.getLogger(__name__).warning(
            "%s is not kept for the next time (%s); %s", file or "what was made", error, _REMEDY
        )
