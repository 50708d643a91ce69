"""Read pickled arrays, lists and dicts without letting the file choose what code runs."""

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from nsdbench.data.formats.stand_ins import ADMITTED, unwrapped
from nsdbench.errors import DataCorrupt


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ADMITTED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is not data")
        return ADMITTED[module, name]


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
    values = {
        key.encode() if isinstance(key, str) else key: value
        for key, value in unwrapped(loaded).items()
    }
    for value in values.values():
        if isinstance(value, np.ndarray) and value.dtype != np.uint8:
            raise DataCorrupt(f"{path}: expected arrays of unsigned bytes, one is {value.dtype}")
    return values
