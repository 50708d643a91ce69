"""Networks of a user's own: a factory in a Python file, or one that an installed package enters.

    nets/mine.py:Net        the file, and the name in it of a class or function
    mine                    an entry point of the group nsdbench.networks, "package.module:Net"

The factory is called with in_channels, image_size and num_classes, all by name, and with width,
depth and norm where an id says them: `nets/mine.py:Net-d3-w64-bn`. It returns a torch.nn.Module
that maps images [B, C, H, W] to logits [B, num_classes].

Records name the version: "~" and a digest of the file's source stand behind the factory's name,
`nets/mine.py:Net~4f0c2a9b1d3e-w64`. The digest is that of the one file: what it imports does not
count. Such code is the user's; it runs with the user's rights when a network is built.

Names are looked at, and sources read, without torch.
"""

import hashlib
import importlib
import inspect
import multiprocessing
import os
import re
import sys
import traceback
from collections.abc import Callable
from functools import cache
from importlib import util
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from nsdbench.errors import nearest
from nsdbench.files import user_path
from nsdbench.registry import plugin, plugin_names
from nsdbench.sums import notice

GROUP = "nsdbench.networks"
SUFFIXES = {"instance_norm": "", "batch_norm": "-bn", "none": "-nonorm"}  # of norms, in ids
NORMS = tuple(SUFFIXES)  # the first is the default
_SIGNATURE = "(*, in_channels, image_size, num_classes, width, depth, norm)"
_DIGITS = 12
_ID = re.compile(
    r"(?P<factory>.+\.py:[A-Za-z_]\w*|[A-Za-z_][\w.-]*?)(?P<digest>~[0-9a-f]{12})?"
    rf"(?:-d(?P<depth>[1-9]\d*))?(?:-w(?P<width>[1-9]\d*))?(?P<norm>{'|'.join(SUFFIXES.values())})"
)

Parts = tuple[str, int | None, int | None, str]  # name, depth, width, norm


class _Place(NamedTuple):
    """Where a factory is: its file, its name there, and the module if a package entered it."""

    file: Path
    attribute: str
    module: str | None


def split(identifier: str) -> Parts | None:
    """Split the id of a user's network into (name, depth, width, norm); None if it is none.

    The name holds the digest if the id does; depth and width are None where the id says nothing.
    """
    match = _ID.fullmatch(identifier)
    if match is None or not is_own(match["factory"]):
        return None
    depth, width = (int(digits) if digits else None for digits in match.group("depth", "width"))
    norm = next(norm for norm, suffix in SUFFIXES.items() if suffix == match["norm"])
    return match["factory"] + (match["digest"] or ""), depth, width, norm


def join(name: str, depth: int | None, width: int | None, norm: str) -> str:
    """Write the id of a user's network, the inverse of `split`."""
    sizes = "".join(f"-{key}{size}" for key, size in (("d", depth), ("w", width)) if size)
    return f"{name}{sizes}{SUFFIXES[norm]}"


def split_list(text: str) -> list[str]:
    """Split a list of ids at its commas, but for those in the path of a user's file that is there.

    Of a file in the folder "a,b" the id is one piece, "a,b/net.py:Net"; other pieces are returned
    as they are, whether they are ids or not.
    """
    pieces, ids = text.split(","), []
    while pieces:
        ends = range(1, len(pieces) + 1)
        end = next((n for n in ends if _is_there(",".join(pieces[:n]).strip())), 1)
        ids.append(",".join(pieces[:end]).strip())
        del pieces[:end]
    return ids


def _is_there(identifier: str) -> bool:
    """Say whether an id is that of a user's network in a file that exists."""
    parts = split(identifier)
    path, colon, _ = _versioned(parts[0])[0].rpartition(":") if parts else ("", "", "")
    return bool(colon) and os.path.isfile(user_path(path))


def is_own(name: str) -> bool:
    """Say whether a name, with a digest or without, is that of a user's network."""
    factory, _ = _versioned(name)
    return ".py:" in factory or factory in plugin_names(GROUP)


def with_digest(name: str) -> str:
    """Complete the name of a user's network by the digest of its source.

    Raises:
        ValueError: there is no such file, it cannot be read, or the name holds the digest of
            another version.
    """
    factory, digest = _versioned(name)
    path, colon, attribute = factory.rpartition(":")
    factory = f"{_below_here(path)}:{attribute}" if colon else factory
    now = hashlib.sha256(_source(_place(factory))).hexdigest()[:_DIGITS]
    if digest and digest != now:
        raise ValueError(
            f"{factory} has changed: its source is version ~{now}, asked for is ~{digest}; leave "
            "the digest out to take it as it is now"
        )
    return f"{factory}~{now}"


def maker(
    name: str,
    *,
    in_channels: int,
    image_size: int,
    num_classes: int,
    width: int | None,
    depth: int | None,
    norm: str,
) -> Callable[[], Any]:
    """Load a user's factory, and say how it is called.

    Args: as of `models.build`; the name holds the digest of its source.

    Returns:
        What builds the network, called without arguments.

    Raises:
        ValueError: the file or the factory is missing or has changed, or it takes other arguments.
            The message says which, and the line of the user's code.
    """
    factory = _load(name)
    said = {"width": width, "depth": depth, "norm": None if norm == NORMS[0] else norm}
    arguments = {"in_channels": in_channels, "image_size": image_size, "num_classes": num_classes}
    arguments |= _choices(name, factory, said)
    _check_arguments(name, factory, arguments)
    return lambda: factory(**arguments)


def blame(name: str, error: BaseException, when: str) -> ValueError:
    """Make the error for a user's code that raised one.

    Args:
        name: of the network.
        error: what it raised.
        when: what was done with it: "while it was built".
    """
    file = str(_place(_versioned(name)[0]).file)
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == file]
    if isinstance(error, SyntaxError) and error.filename == file:
        lines.append(error.lineno)
    where = f"{file}, line {lines[-1]}" if lines else file
    message = str(error.msg if isinstance(error, SyntaxError) else error).strip()
    first = message.splitlines()[0] if message else "no message"
    return ValueError(f"your code of {where} raised {type(error).__name__} {when}: {first}")


def _versioned(name: str) -> tuple[str, str]:
    """Split a name into the factory's and the digest, empty if there is none."""
    match = re.fullmatch(rf"(.*)~([0-9a-f]{{{_DIGITS}}})", name)
    return (match[1], match[2]) if match else (name, "")


def _below_here(path: str) -> str:
    """Write the path of a file in one way, below the working folder without that folder."""
    path = os.path.normpath(path)
    here = os.path.join(os.getcwd(), "")
    return path.removeprefix(here) if path.startswith(here) else path


def _place(factory: str) -> _Place:
    """Say where a factory is, without an import of what holds it."""
    path, colon, attribute = factory.rpartition(":")
    if colon:
        return _Place(user_path(path), attribute, None)
    entry = plugin("network", GROUP, factory)
    if entry is None:
        known = plugin_names(GROUP)
        raise ValueError(
            f"unknown network {factory!r}; packages enter {', '.join(known) or 'none'}, a file is "
            f"path/to/file.py:Factory{nearest(factory, known)}"
        )
    try:
        spec = util.find_spec(entry.module)
    except (ImportError, ValueError):  # a parent package that is not there; a malformed name
        spec = None
    if spec is None or not spec.origin or not entry.attr:
        raise ValueError(
            f"the network {factory!r} is entered as {entry.value!r}; expected module:Factory"
        )
    return _Place(Path(spec.origin), entry.attr, entry.module)


def _source(place: _Place) -> bytes:
    try:
        return place.file.read_bytes()
    except OSError as error:
        raise ValueError(
            f"{place.file}: {error.strerror}; expected the Python file of a network, as "
            f"path/to/file.py:{place.attribute}"
        ) from error


@cache
def _load(name: str) -> Callable[..., Any]:
    """Run a user's file, in the version that the name's digest says, and return the factory."""
    factory, digest = _versioned(name)
    place = _place(factory)
    if multiprocessing.parent_process() is None:  # others were started by one that said it
        notice(f"running your code, with your rights: {place.file} (version ~{digest})")
    try:
        module = _import(place, digest)
    except (Exception, SystemExit) as error:
        raise blame(name, error, "while it was loaded") from error
    found = getattr(module, place.attribute, None)
    if not callable(found):
        known = [
            key
            for key, value in vars(module).items()
            if callable(value) and getattr(value, "__module__", None) == module.__name__
        ]
        what = "nothing" if found is None else f"{found!r}, which cannot be called,"
        raise ValueError(
            f"{place.file} has {what} under {place.attribute!r}; expected a factory "
            f"{_SIGNATURE}{nearest(place.attribute, known)}"
        )
    return found


def _import(place: _Place, digest: str) -> ModuleType:
    if place.module is not None:
        return importlib.import_module(place.module)
    # from the bytes that were digested: the file may change, and leaves nothing beside it
    module = ModuleType(f"nsdbench_network_{digest}")
    module.__file__ = os.fspath(place.file)
    code = compile(_source(place), module.__file__, "exec")
    sys.modules[module.__name__] = module  # dataclasses look themselves up there
    exec(code, module.__dict__)
    return module


def _choices(name: str, factory: Callable[..., Any], said: dict[str, Any]) -> dict[str, Any]:
    """Return width, depth and norm as far as an id says them, or a factory has no default."""
    parameters = inspect.signature(factory).parameters
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    chosen = {}
    for key, value in said.items():
        if value is None:
            default = NORMS[0] if key == "norm" else None
            if key in parameters and parameters[key].default is inspect.Parameter.empty:
                chosen[key] = default
        elif key in parameters or takes_any:
            chosen[key] = value
        else:
            raise ValueError(f"{name} takes no {key}, got {value!r}; leave it out of the id")
    return chosen


def _check_arguments(name: str, factory: Callable[..., Any], arguments: dict[str, Any]) -> None:
    signature = inspect.signature(factory)
    try:
        signature.bind(**arguments)
    except TypeError as error:
        raise ValueError(
            f"{name} takes {signature}: {error}; expected a factory {_SIGNATURE}, of which the "
            "last three may be absent"
        ) from error
