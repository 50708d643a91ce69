"""Read arrays from npz files that may be damaged: in words, and in no more memory than they say."""

from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import BadZipFile, ZipFile

if TYPE_CHECKING:
    import numpy as np

_MOST_BYTES = 2**30  # of one array; our choice, far beyond any picture or figure here


def read_arrays(source: Path, names: Sequence[str]) -> "list[np.ndarray]":
    """Read some arrays of an npz file, whose own checksums are compared.

    Raises:
        ValueError: it does not hold them, is damaged, or says to be of an absurd size; the message
            names it.
    """
    try:
        with ZipFile(source) as archive:
            return [_read(archive, f"{name}.npy") for name in names]
    except Exception as error:  # damaged files make zlib and numpy raise almost anything
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ValueError(f"{source} does not hold {', '.join(names)} ({reason})") from error


def has_array(source: Path, name: str) -> bool:
    """Say whether an npz file lists an array; one that is damaged lists none."""
    try:
        with ZipFile(source) as archive:
            return f"{name}.npy" in archive.namelist()
    except (OSError, ValueError, BadZipFile):
        return False


def _read(archive: ZipFile, name: str) -> "np.ndarray":
    """Read one array; its header is compared with the size of what follows before that is read."""
    import numpy as np

    size = archive.getinfo(name).file_size
    with archive.open(name) as member:
        version = np.lib.format.read_magic(member)
        if version != (1, 0):
            raise ValueError(f"{name} is of the version {version}")
        shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(member)
        if dtype.hasobject or size > _MOST_BYTES or prod(shape) * dtype.itemsize > size:
            raise ValueError(f"{name} says to be {dtype} {shape} in {size} bytes")
        values = np.frombuffer(member.read(), dtype)  # to the end: that compares the checksum
    return values.reshape(shape, order="F" if is_fortran else "C")
