"""The folder of everything that can be made again."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from nsdbench.errors import DataCorrupt
from nsdbench.files import user_path, write_atomically
from nsdbench.sums import notice, set_aside

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


def keep_tensors(file: Path | None, tensors: Mapping[str, "Tensor"]) -> None:
    """Write tensors for the next time; where that fails, a warning says so.

    Args:
        file: where; None if there is no cache.
        tensors: contiguous, on the CPU.
    """
    from nsdbench.data.formats.tensors import save_tensors

    try:
        if file is None:
            raise OSError("there is no home folder for the cache")
        name = file.name
        write_atomically(file, lambda path: save_tensors(path, tensors, {"name": name}))
    except OSError as error:
        what = file or "what was made"
        notice(f"{what} is not kept for the next time ({error}); {_REMEDY}")


def read_tensors(
    file: Path | None, kind: str, fits: Callable[[Mapping[str, tuple[int, ...]]], bool]
) -> "dict[str, Tensor] | None":
    """Read tensors that were kept; None if there are none, or if they are damaged.

    A damaged file is set aside.

    Args:
        file: where; None if there is no cache.
        kind: what it is, for the notice about files of older versions.
        fits: says whether the names and shapes are those that are wanted.
    """
    if file is None or not file.exists():
        return None
    from safetensors import SafetensorError

    from nsdbench.data.formats.tensors import load_tensors

    try:
        return load_tensors(file, kind, fits)
    except (OSError, SafetensorError, DataCorrupt) as error:
        set_aside(file, error if isinstance(error, DataCorrupt) else f"{file}: {error}")
        return None
