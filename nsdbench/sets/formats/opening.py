"""Open a file of numbers, whatever wrote it; its first bytes tell the kind, nothing is executed."""

import os
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
from torch import Tensor

from nsdbench.data.formats import torch_file
from nsdbench.data.formats.tensors import split_sum
from nsdbench.errors import DataCorrupt

_LARGEST_UNPACKED = 2**33  # bytes of a compressed .npz; our choice


@dataclass(frozen=True, eq=False)
class Opened:
    """What a path holds.

    Attributes:
        path: as it was given.
        kind: "torch", "npy", "npz", "safetensors" or "folder".
        content: of torch whatever was saved; an array; a dict of arrays or tensors; None of a
            folder.
        metadata: texts in a safetensors file.
    """

    path: Path
    kind: str
    content: Any
    metadata: dict[str, str] = field(default_factory=dict)


def open_path(path: str | os.PathLike) -> Opened:
    """Open a path.

    Raises:
        FileNotFoundError: nothing is there.
        DataCorrupt: a file that is truncated, of no kind that is read, or asks for code.
    """
    path = Path(path)
    if path.is_dir():
        return Opened(path, "folder", None)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    with open(path, "rb") as file:
        head = file.read(9)
    if head.startswith(b"\x93NUMPY"):
        return Opened(path, "npy", _numpy(path))
    if head.startswith(b"PK") and _is_npz(path):
        return Opened(path, "npz", _numpy(path))
    if path.suffix == ".safetensors" or head[8:] == b"{":
        return _safetensors(path)
    return Opened(path, "torch", torch_file.load(path))


def described(opened: Opened) -> str:
    """Say in a few words what a path holds."""
    content = opened.content
    if opened.kind == "folder":
        return "a folder"
    if isinstance(content, Tensor | np.ndarray):
        return f"numbers {list(content.shape)}"
    if isinstance(content, dict):
        names = ", ".join(f"{key!s:.30}" for key in list(content)[:6])
        return f"a dict of {names}{', ...' if len(content) > 6 else ''}" if names else "no tensor"
    if isinstance(content, list | tuple):
        return f"a {type(content).__name__} of {len(content)}"
    return f"a {type(content).__name__}"


def _is_npz(path: Path) -> bool:
    """Say whether a ZIP holds arrays; torch writes ZIP files too."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return path.suffix == ".npz"
    if not members or not all(member.filename.endswith(".npy") for member in members):
        return path.suffix == ".npz"
    unpacked = sum(member.file_size for member in members)
    if unpacked > max(_LARGEST_UNPACKED, path.stat().st_size):
        raise DataCorrupt(f"{path}: unpacks to {unpacked} bytes; expected at most 8 GiB")
    return True


def _numpy(path: Path) -> Any:
    """Read an array or a dict of arrays; arrays of objects, which may run code, are refused."""
    try:
        with open(path, "rb") as file:
            content = np.load(file, allow_pickle=False)
            return content if isinstance(content, np.ndarray) else dict(content)
    except Exception as error:  # damaged files make numpy and zlib raise many types
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataCorrupt(
            f"{path}: numpy cannot read it as plain arrays ({reason:.200}); save them with "
            "numpy.savez(FILE, images=images, labels=labels)"
        ) from None


def _safetensors(path: Path) -> Opened:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata, _ = split_sum(file.metadata())
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except safetensors.SafetensorError as error:
        raise DataCorrupt(f"{path}: not a readable safetensors file ({error})") from None
    return Opened(path, "safetensors", tensors, metadata)
