"""Sums of what is stored: files that tell when they were damaged, and what becomes of those.

The sums of files that belong to one place cover their name: a file in another's place is damaged.

A damaged file is set aside under another name where its content can be made anew, and refused by
name where it cannot. What is said besides goes through `logging`, in the processes of a run too.
"""

import hashlib
import json
import logging
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from io import BufferedIOBase
from pathlib import Path
from typing import Any, BinaryIO

from nsdbench.errors import DataCorrupt
from nsdbench.files import write_atomically

_SEAL = re.compile(rb"nsdbench sha256 ([0-9a-f]{64})\n")
_SEAL_BYTES = 81


def content_sum(content: bytes | bytearray | memoryview) -> str:
    """Return the SHA-256 of bytes, hex."""
    return hashlib.sha256(content).hexdigest()


def file_sum(path: Path) -> str:
    """Return the SHA-256 of a file, hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def json_sum(content: Any) -> str:
    """Return the SHA-256 of JSON values, hex: the same however they are laid out in a file."""
    return content_sum(json.dumps(content, sort_keys=True).encode())


def write_summed_json(path: Path, content: dict[str, Any], indent: int | None = None) -> None:
    """Write a JSON object together with its sum, whole or not at all."""
    text = json.dumps({**content, "sum": json_sum([path.name, content])}, indent=indent)
    write_atomically(path, lambda partial: partial.write_text(text, encoding="utf-8"))


def read_summed_json(path: Path, kind: str) -> dict[str, Any]:
    """Read a JSON object that `write_summed_json` wrote, and compare it with its sum.

    Args:
        path: the file.
        kind: what it is, for the notice about files of older versions, which have no sum.

    Raises:
        OSError: it cannot be read.
        DataCorrupt: it is no JSON object, or has changed since it was written.
    """
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise DataCorrupt(f"{path} is damaged: not JSON ({error})") from None
    if not isinstance(content, dict):
        raise DataCorrupt(f"{path} is damaged: expected a JSON object")
    stated = content.pop("sum", None)
    compare(stated, lambda: json_sum([path.name, content]), path, kind)
    return content


def compare(stated: Any, computed: Callable[[], str], path: Path | str, kind: str) -> None:
    """Compare the sum that a file states with that of its content.

    Args:
        stated: None if the file is of an older version and states none: a notice says so once.
        computed: computes the sum; called if one is stated.
        path: the file, for the message.
        kind: what it is, for the notice.

    Raises:
        DataCorrupt: they differ.
    """
    if stated is None:
        notice_without_sum(kind)
    elif stated != computed():
        raise DataCorrupt(f"{path} is damaged: its content has changed since it was written")


def sealed(path: Path, write: Callable[[BinaryIO], object]) -> Callable[[Path], None]:
    """Have a writer put a first line before its content that holds the sum of name and content.

    Args:
        path: the file, as it will be called.
        write: writes the content to the file it is given, from where that stands.

    Returns:
        What writes all of it to the path it is given, see `files.write_atomically`.
    """

    def seal(partial: Path) -> None:
        with open(partial, "w+b") as file:
            file.write(b" " * _SEAL_BYTES)
            write(file)
            file.seek(_SEAL_BYTES)
            digest = _rest_sum(file, path)
            file.seek(0)
            file.write(f"nsdbench sha256 {digest}\n".encode())

    return seal


@contextmanager
def open_sealed(path: Path, kind: str, *, old: bytes) -> Iterator[BinaryIO]:
    """Open the content of a file of `sealed`, after its sum was compared.

    Args:
        path: the file.
        kind: what it is, for the notice about files of older versions.
        old: how those begin, which have no sum.

    Raises:
        OSError: it cannot be read.
        DataCorrupt: it has changed since it was written.
    """
    with open(path, "rb") as file:
        seal = _SEAL.fullmatch(file.read(_SEAL_BYTES))
        file.seek(0)
        if seal is None and file.read(len(old)) != old:
            raise DataCorrupt(f"{path} is damaged, or was not written by nsdbench")
        file.seek(_SEAL_BYTES if seal else 0)
        stated = seal[1].decode() if seal else None
        compare(stated, lambda: _rest_sum(file, path), path, kind)
        file.seek(_SEAL_BYTES if seal else 0)
        yield file


def _rest_sum(file: BufferedIOBase, path: Path) -> str:
    """Return the sum of the name of a file and of what it holds from where it stands."""
    return hashlib.file_digest(file, lambda: hashlib.sha256(path.name.encode())).hexdigest()


def show_notices() -> None:
    """Have a command, or a process of a run, print notices as lines on stderr."""
    logging.basicConfig(format="warning: %(message)s")


def notice(text: str) -> None:
    """Tell the user what goes on besides (`logging`)."""
    logging.getLogger("nsdbench").warning("%s", text)


@cache
def notice_without_sum(kind: str) -> None:
    """Say, once a process, that files of an older version are read, which have no sum."""
    notice(f"{kind} of an older version has no sum of its content: damage to it would not be seen")


def set_aside(path: Path, why: object) -> None:
    """Rename a damaged file, so that it can be made anew, and say so.

    Args:
        path: the file; it becomes `<name>.damaged`.
        why: what is wrong with it; the message names the file.
    """
    damaged = path.with_name(f"{path.name}.damaged")
    try:
        os.replace(path, damaged)
    except OSError as error:
        notice(f"{why}; it is made anew, but cannot be set aside ({error.strerror})")
    else:
        notice(f"{why}; it is set aside as {damaged.name} and made anew")
