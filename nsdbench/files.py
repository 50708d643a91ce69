"""Name files, find the folders that users declare, and write files atomically."""

import os
import tomllib
from collections.abc import Callable, Iterable
from functools import cache, wraps
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


def file_name(text: str) -> str:
    """Make text fit for a file name: all but letters, digits, ".", "_" and "-" becomes "_"."""
    return "".join(c if c.isalnum() or c in "._-" else "_" for c in text)


def cell_id(dataset: str, ipc: int, method: str, arch: str, protocol: str) -> str:
    """Name a cell within its scale, fit for a file name; ipc 0 stands for the full data."""
    size = "full" if ipc == 0 else f"ipc{ipc}"
    return f"{file_name(dataset)}-{size}-{method}-{arch}-{protocol}"


def search_folders(ours: Path, variable: str) -> list[Path]:
    """Return the folders that are searched for TOML files: ours, then those of a variable.

    Args:
        ours: the folder of the files that are part of the package.
        variable: environment variable that lists the user's folders, separated as in PATH.

    Raises:
        ValueError: it names something that is not a folder.
    """
    extra = [Path(part) for part in os.environ.get(variable, "").split(os.pathsep) if part]
    for folder in extra:
        if not folder.is_dir():
            raise ValueError(
                f"{variable} names {folder}, which is not a folder; give folders that hold TOML "
                "files, or unset the variable"
            )
    return [ours, *extra]


def toml_files(folders: Iterable[Path], kind: str) -> dict[str, Path]:
    """Map the name of every TOML file of some folders to the file.

    Args:
        folders: where they are.
        kind: what a file describes, as the message says it: "method".

    Raises:
        ValueError: two files have one name.
    """
    found: dict[str, Path] = {}
    for folder in folders:
        for path in sorted(folder.glob("*.toml")):
            if path.stem in found:
                raise ValueError(
                    f"{kind} {path.stem!r} is described twice: {found[path.stem]} and {path}; "
                    "rename one file and the name in it"
                )
            found[path.stem] = path
    return found


def read_once(read: Callable[[Path], T]) -> Callable[[Path], T]:
    """Cache a reader's result per file until the file changes.

    All callers share what it returns: do not change it.
    """

    @cache
    def kept(path: Path, changed: int, size: int) -> T:
        return read(path)

    @wraps(read)
    def reader(path: Path) -> T:
        state = path.stat()
        return kept(path, state.st_mtime_ns, state.st_size)

    return reader


@read_once
def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file that describes what it is named after.

    Raises:
        ValueError: it cannot be read, is no TOML, or its `name` is not the file's.
    """
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8-sig"))  # with a byte order mark or not
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path}: not valid TOML: {error}") from error
    if raw.get("name", path.stem) != path.stem:
        raise ValueError(
            f"{path}: `name` is {raw['name']!r} but the file is called {path.stem}; make them equal"
        )
    return raw


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file atomically: readers, and a run after a crash, see all of it or none.

    Args:
        path: the file; its folder is made.
        write: writes the content to the path it is given, in the same folder.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        write(partial)
        with open(partial, "rb") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
