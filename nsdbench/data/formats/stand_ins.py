"""Stand-ins for what numpy names in a pickle: they check and keep values, and run nothing.

A pickle that holds an array or a number of numpy asks for numpy's constructors by name. These take
their place, so that a file decides neither what is imported nor what is called.
"""

import pickle
import re
from typing import Any

import numpy as np

_NUMBERS = re.compile(r"[?]|b1|[iu][1248]|f[248]")  # numpy's codes of plain numbers


class _Dtype:
    """Stand in for numpy.dtype: the code of plain numbers and their byte order."""

    def __init__(self, code: Any = None, *_: Any) -> None:
        self.code = code.decode() if isinstance(code, bytes) else code
        self.is_big_endian = False

    def __setstate__(self, state: Any) -> None:
        self.is_big_endian = state[1] in (">", b">")

    @property
    def dtype(self) -> np.dtype:
        """The type of numbers that is meant.

        Raises:
            pickle.UnpicklingError: something else than plain numbers.
        """
        if not isinstance(self.code, str) or not _NUMBERS.fullmatch(self.code):
            raise pickle.UnpicklingError(f"numpy values of type {self.code!r:.50}")
        return np.dtype(self.code).newbyteorder(">" if self.is_big_endian else "<")


class _Array:
    """Stand in for numpy.ndarray: holds the checked content that the file states."""

    value: np.ndarray

    def __setstate__(self, state: Any) -> None:
        _version, shape, dtype, is_fortran, content = state
        values = _values(dtype, content)
        self.value = values.reshape(shape, order="F" if is_fortran else "C")


def _values(dtype: Any, content: Any) -> np.ndarray:
    """Read numbers [n] from their bytes."""
    if not isinstance(dtype, _Dtype) or not isinstance(content, bytes):
        raise pickle.UnpicklingError("numpy values that are not plain numbers")
    return np.frombuffer(content, dtype=dtype.dtype)


def _reconstruct(*_: Any) -> _Array:
    """Stand in for numpy's array constructor."""
    return _Array()


def _scalar(dtype: Any, content: Any) -> bool | int | float:
    """Stand in for numpy's constructor of single numbers."""
    (number,) = _values(dtype, content).tolist()
    return number


def _encode(text: str, encoding: str) -> bytes:
    """Stand in for codecs.encode: how Python 3 writes bytes in protocol 2."""
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"bytes in the encoding {encoding!r}")
    return text.encode("latin-1")


# Names as written by numpy 1, by numpy 2 and by Python 2.
ADMITTED: dict[tuple[str, str], Any] = {
    ("numpy", "dtype"): _Dtype,
    ("numpy", "ndarray"): _Array,
    ("_codecs", "encode"): _encode,
    **{
        (f"numpy.{core}.multiarray", name): stand_in
        for core in ("core", "_core")
        for name, stand_in in (("_reconstruct", _reconstruct), ("scalar", _scalar))
    },
}


def unwrapped(value: Any) -> Any:
    """Put arrays in the place of their stand-ins, inside lists, tuples and dicts too."""
    if isinstance(value, _Array):
        return value.value
    if isinstance(value, dict):
        return {key: unwrapped(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(unwrapped, value)) if type(value) in (list, tuple) else value
    return value
