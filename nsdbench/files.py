"""Name files, find the folders that users declare, and write files atomically."""

import errno
import hashlib
import os
import platform
import re
import shlex
import tomllib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache, wraps
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

_REMEDIES = {  # by the cause of a failed write
    errno.ENOSPC: "make room there, or choose another folder",
    errno.EDQUOT: "your quota is used up: make room, or choose another folder",
    errno.EROFS: "choose a folder on a disk that can be written",
    errno.EACCES: "choose a folder that you may write to, or change its permissions",
    errno.EPERM: "choose a folder that you may write to, or change its permissions",
}
_LONGEST_NAME = 200  # file systems take 255 bytes; ".PID@MACHINE." and ".json" are added to it
_LONGEST_PART = 100  # of it what is shown before a digest


def file_name(*parts: str) -> str:
    """Join texts by "-" to the name of a file, such that other texts give another name.

    Letters of ASCII, digits and "._-+=" stay as they are. A part that holds anything else, or
    starts with a dot, gets "_" for it and a digest behind "~"; so does a whole that is too long.

    Args:
        parts: texts. Those whose own "-" could be taken for one between parts are the caller's
            care: "a-b", "c" and "a", "b-c" have one name.
    """
    name = "-".join(map(_plain, parts))
    return name if len(name) <= _LONGEST_NAME else _marked(name, name)


def _plain(text: str) -> str:
    """Return a text that is fit for a file name as it is, another one altered and marked."""
    if _is_plain(text):
        return text
    return _marked(re.sub(r"^\.", "_", readable(text)), text)


def readable(text: str) -> str:
    """Show in a file name what it is about; other texts may give the same."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", text[:_LONGEST_PART])


def _is_plain(text: str) -> bool:
    return re.fullmatch(r"(?!\.)[A-Za-z0-9._+=-]+", text) is not None


def _marked(shown: str, text: str) -> str:
    """End a name in the digest of a text; "~" keeps it apart from all names without one."""
    digest = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:16]
    return f"{shown[:_LONGEST_PART]}~{digest}"


def cell_id(dataset: str, ipc: int, method: str, arch: str, protocol: str) -> str:
    """Name a cell within its scale, fit for a file name; ipc 0 stands for the full data."""
    size = "full" if ipc == 0 else f"ipc{ipc}"
    return file_name(dataset, size, method, arch, protocol)


def pictures_name(dataset: str, ipc: int, method: str, recipe_hash: str) -> str:
    """Name the pictures of a recipe's sets within its scale, fit for a file name.

    All cells whose networks are trained on the sets of one recipe share them.
    """
    return file_name(dataset, f"ipc{ipc}", method, recipe_hash[:12])


def set_prefix(method: str, dataset: str, ipc: int, recipe_hash: str) -> str:
    """Begin the name of a set; what follows needs the data, see `experts.set_name`."""
    return f"{file_name(method, dataset, f'ipc{ipc}', recipe_hash[:12])}-"


def checked_name(name: str, what: str) -> str:
    """Return a name that a user gives to a file or folder of ours, if it is nothing more.

    Args:
        name: the name.
        what: is named, as the message begins: "experts.buffer".

    Raises:
        ValueError: it is a path, is hidden, or holds other signs than `file_name` leaves.
    """
    if not _is_plain(name.replace("~", "-")) or len(name) > _LONGEST_NAME:
        raise ValueError(
            f"{what}: {name!r} cannot name a file; use letters, digits and ._-+=, no folder, no "
            f"dot at the start, at most {_LONGEST_NAME} in all"
        )
    return name


def portable_command(program: str, words: Sequence[str]) -> str:
    """Write a command as records keep it: of absolute paths, which are of one machine, the name.

    Args:
        program: how it is called on every machine.
        words: its arguments, also as "--option=/path".
    """

    def named(word: str) -> str:
        option, equals, value = word.rpartition("=") if word.startswith("-") else ("", "", word)
        return (
            option + equals + ((Path(value).name or value) if Path(value).is_absolute() else value)
        )

    return f"{program} {shlex.join(map(named, words))}".rstrip()


def user_path(path: str | os.PathLike[str]) -> Path:
    """Expand "~" at the start of a path that a user gives.

    Raises:
        ValueError: nobody knows the home folder.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ValueError(f"{path}: {error}; write the whole path") from error


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

    Raises:
        OSError: the disk is full, or may not be written; the message names file, cause and remedy.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{os.getpid()}@{_machine()}.{path.name}")
        try:
            write(partial)
            with open(partial, "rb") as file:
                os.fsync(file.fileno())
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Have what goes wrong while a file is written name the file, the cause and a remedy."""
    try:
        yield
    except OSError as error:
        cause = error.strerror or error
        remedy = _REMEDIES.get(error.errno or 0, "check the folder, or choose another")
        raise type(error)(f"{path} cannot be written: {cause}; {remedy}") from error


@cache
def _machine() -> str:
    """Tell this machine, or container, from others that share a disk with it, in eight letters."""
    name = platform.node()
    with suppress(OSError):
        name += os.readlink("/proc/self/ns/pid")  # process ids mean something within it alone
    return hashlib.sha256(name.encode()).hexdigest()[:8]


def sweep(folders: Iterable[Path]) -> None:
    """Remove the partial files that killed processes of this machine left in some folders.

    Those of processes that live, and of other machines, stay; so does what cannot be removed.
    """
    for folder in folders:
        with suppress(OSError):
            for path in folder.glob(".*@*"):
                found = re.match(rf"\.(\d+)@{_machine()}\.", path.name)
                if found and not _is_alive(int(found[1])):
                    path.unlink(missing_ok=True)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # somebody else's; no process at all, nor one of our files
        return True
    return True
