"""Read files of `torch.save` without letting them choose what code runs."""

import errno
import pickle
import re
import warnings
from pathlib import Path
from typing import Any

import torch

from nsdbench.data.formats.stand_ins import ADMITTED, unwrapped
from nsdbench.errors import DataCorrupt


def load(path: Path) -> Any:
    """Read tensors, plain values, and arrays and numbers of numpy in lists, tuples and dicts.

    Torch's own unpickler admits tensors and plain values; what numpy names is replaced by
    stand-ins that only store. Everything else a file could ask for is refused unlooked at.

    Args:
        path: the file; tensors come to the CPU.

    Raises:
        DataCorrupt: truncated, no file of torch.save, or it asks for anything but data.
    """
    admitted = [(stand_in, ".".join(name)) for name, stand_in in ADMITTED.items()]
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(admitted):  # type: ignore[arg-type]  # torch's stub knows no pairs
            warnings.simplefilter("ignore")  # about old protocols, which it reads or refuses
            return unwrapped(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # torch raises many types for files it cannot or may not read
        raise DataCorrupt(
            f"{path}: torch cannot read it as plain tensors ({reason(error)}); save them with "
            "torch.save((images, labels), FILE)"
        ) from None


def reason(error: Exception) -> str:
    """Say in a few words what torch says in many, and without its advice to trust the file.

    Args:
        error: what `torch.load(path, weights_only=True)` raised.
    """
    if isinstance(error, KeyError):  # torch's words for an opcode that pickles do not have
        return "it is no pickle"
    is_before_start = isinstance(error, OSError) and error.errno == errno.EINVAL  # of its seeks
    if is_before_start or "reading zip archive" in str(error):
        return "it is cut short or damaged"
    inner = error.__context__  # torch wraps what its unpickler says in its advice
    text = str(inner if isinstance(error, pickle.UnpicklingError) and inner else error).strip()
    if asked := re.search(r"GLOBAL (\S+) (was not|whose module)", text):
        return f"it asks for {asked[1]:.100}, which is not data"
    if text.startswith("Unsupported operand"):
        return "it is no pickle that torch.save writes"
    return f"{next(iter(text.splitlines()), '') or type(error).__name__:.200}"
