"""Read pickled arrays, lists and dicts without letting the file choose what code runs."""

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from nsdbench.errors import DataCorrupt


class _Dtype:
    """Stand in for numpy.dtype: remembers its code, does nothing."""

    def __init__(self, code: Any = None, *_: Any) -> None:
        self.code = code.decode() if isinstance(code, bytes) else code

    def __setstate__(self, state: Any) -> None:
        """Ignore byte order and the rest: single bytes have none."""


class _Array:
    """Stand in for numpy.ndarray: holds the checked content that the file states."""

    value: np.ndarray

    def __setstate__(self, state: Any) -> None:
        _version, shape, dtype, is_fortran, content = state
        if not isinstance(dtype, _Dtype) or dtype.code != "u1":
            raise pickle.UnpicklingError("an array of something else than unsigned bytes")
        values = np.frombuffer(content, dtype=np.uint8)
        self.value = values.reshape(shape, order="F" if is_fortran else "C")


def _reconstruct(*_: Any) -> _Array:
    """Stand in for numpy's array constructor."""
    return _Array()


def _encode(text: str, encoding: str) -> bytes:
    """Stand in for codecs.encode: how Python 3 writes bytes in protocol 2."""
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"bytes in the encoding {encoding!r}")
    return text.encode("latin-1")


# Names as written by numpy 1, by numpy 2 and by Python 2; nothing of them is ever imported.
_ADMITTED = {
    ("numpy", "dtype"): _Dtype,
    ("numpy", "ndarray"): _Array,
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("_codecs", "encode"): _encode,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ADMITTED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is not data")
        return _ADMITTED[module, name]


def load(path: Path) -> dict[bytes, Any]:
    """Read a pickled dict of byte arrays, lists, numbers and strings.

    Everything else a pickle could ask for (any function or class) is refused before it is looked
    up; even numpy's own constructors are replaced by stand-ins that only store.

    Args:
        path: the file; Python 2 strings come back as bytes.

    Returns:
        The dict, keys as bytes, arrays as uint8 `np.ndarray`.

    Raises:
        DataCorrupt: truncated, not a pickle of a dict, or it asks for anything but data.
    """
    content = io.BytesIO(path.read_bytes())
    try:
        loaded = _Unpickler(content, encoding="bytes").load()
    except Exception as error:  # a damaged pickle can fail in any way; none of them is ours
        raise DataCorrupt(
            f"{path}: expected a pickle of plain arrays and lists, it was refused: {error}"
        ) from error
    if not isinstance(loaded, dict):
        raise DataCorrupt(f"{path}: expected a pickled dict, got {type(loaded).__name__}")
    return {
        key.encode() if isinstance(key, str) else key: getattr(value, "value", value)
        for key, value in loaded.items()
    }
