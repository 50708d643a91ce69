"""Distilled sets of other projects: files of `torch.save`, arrays, torch data sets.

What their numbers mean is left to `meaning`.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from nsdbench.errors import DataCorrupt
from nsdbench.sets.artefact import Artefact, load_artefact

_LARGEST_EXPANDED = 2**32  # bytes that a view of fewer may be written out to; our choice


@dataclass(frozen=True, eq=False)
class ForeignSet:
    """Images and labels as they came; nothing but that they are tensors of numbers is known.

    Attributes:
        images, labels: on the CPU, of any shape and dtype.
        origin: what holds them, as messages begin.
    """

    images: Tensor
    labels: Tensor
    origin: str = "the set"

    @classmethod
    def of(cls, images: Any, labels: Any, origin: str = "the set") -> "ForeignSet":
        """Take tensors, arrays, and lists of numbers.

        Raises:
            ValueError: something else.
        """
        return cls(
            _tensor(images, f"{origin}: images"), _tensor(labels, f"{origin}: labels"), origin
        )


def read_set(
    path: str | os.PathLike, labels: str | os.PathLike | None = None
) -> Artefact | ForeignSet:
    """Read a set from its file: an artefact of ours, or tensors of another project.

    Args:
        path: a .safetensors file is one of ours.
        labels: as of `load_tensors`.

    Raises:
        ValueError: labels are given although the file holds them.
        FileNotFoundError, DataCorrupt: as of `load_artefact` and `load_tensors`.
    """
    if Path(path).suffix != ".safetensors":
        return load_tensors(path, labels)
    if labels is not None:
        raise _two_labels(path, labels)
    return load_artefact(path)


def load_tensors(path: str | os.PathLike, labels: str | os.PathLike | None = None) -> ForeignSet:
    """Read images and labels that another project saved with `torch.save`; nothing is executed.

    Args:
        path: a file with a pair (images, labels), a dict with these keys, or images alone.
        labels: the file of labels, if `path` holds images alone (MTT's `labels_best.pt`).

    Raises:
        FileNotFoundError: no such file.
        DataCorrupt: a file holds something else.
        ValueError: labels are given although the file holds them.
    """
    content = _read(path)
    pair = content if isinstance(content, list | tuple) and len(content) == 2 else None
    if isinstance(content, Mapping) and {"images", "labels"} <= content.keys():
        pair = content["images"], content["labels"]
    if labels is not None:
        if pair is not None:
            raise _two_labels(path, labels)
        pair = content, _read(labels)
    if pair is None:
        what = "images alone; the file of their labels is needed: --labels FILE"
        if not isinstance(content, Tensor):
            what = (
                f"a {type(content).__name__}; expected (images, labels) or a dict with these keys"
            )
        raise DataCorrupt(f"{path}: holds {what}")
    try:
        return ForeignSet.of(pair[0], pair[1], str(path))
    except ValueError as error:
        raise DataCorrupt(str(error)) from None


def from_python(source: Any) -> ForeignSet:
    """Take a set that is in memory.

    Args:
        source: (images, labels) or a dict with these keys, of tensors, arrays or lists of numbers;
            or a torch data set that has a length and gives pairs (image, label).

    Raises:
        ValueError: something else.
    """
    if isinstance(source, Mapping) and source.keys() == {"images", "labels"}:
        return ForeignSet.of(source["images"], source["labels"])
    if isinstance(source, TensorDataset) and len(source.tensors) == 2:
        return ForeignSet.of(*source.tensors)
    is_array = isinstance(source, Tensor | np.ndarray)
    if isinstance(source, tuple | list) and len(source) == 2 and not isinstance(source[0], tuple):
        return ForeignSet.of(*source)
    if is_array or not (hasattr(source, "__len__") and hasattr(source, "__getitem__")):
        raise ValueError(
            f"the set is a {type(source).__name__}; expected an artefact, (images, labels), or a "
            "torch data set that has a length and gives pairs (image, label)"
        )
    return _from_items(source[number] for number in range(len(source)))


def _from_items(items: Iterable[Any]) -> ForeignSet:
    """Gather pairs (image, label) of equal shapes."""
    pairs = []
    for number, item in enumerate(items):
        if not isinstance(item, tuple | list) or len(item) != 2:
            raise ValueError(
                f"the set: item {number} is a {type(item).__name__}; expected a pair (image, label)"
            )
        kinds = ("image", "label")
        pairs.append(
            [_tensor(x, f"the set: {k} {number}") for x, k in zip(item, kinds, strict=True)]
        )
    if not pairs:
        raise ValueError("the set holds no images")
    for number, pair in enumerate(pairs):
        for tensor, first, kind in zip(pair, pairs[0], ("image", "label"), strict=True):
            if tensor.shape != first.shape:
                raise ValueError(
                    f"the set: {kind} {number} is {list(tensor.shape)}, {kind} 0 is "
                    f"{list(first.shape)}; expected equal shapes"
                )
    images, labels = zip(*pairs, strict=True)
    return ForeignSet(torch.stack(images), torch.stack(labels))


def _read(path: str | os.PathLike) -> Any:
    """Read a file of torch.save, of which only plain values and tensors are loaded."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: {'a folder' if path.is_dir() else 'no such file'}")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # torch raises several types for files it cannot or may not read
        words = str(error).strip().splitlines()
        raise DataCorrupt(
            f"{path}: torch cannot read it as plain tensors "
            f"({words[0] if words else type(error).__name__:.200}); save them with "
            "torch.save((images, labels), FILE)"
        ) from None


def _tensor(value: Any, what: str) -> Tensor:
    """Bring numbers of any kind to a plain tensor on the CPU; `what` they are begins a message."""
    if isinstance(value, Tensor):
        kind = "" if value.layout == torch.strided else f"a tensor of layout {value.layout}"
        kind = f"a tensor of {value.dtype}" if value.is_complex() or value.is_quantized else kind
        kind = "a tensor without values" if value.is_meta else kind
        if not kind and value.nbytes > max(_LARGEST_EXPANDED, value.untyped_storage().nbytes()):
            kind = f"{value.numel()} numbers that repeat a few"
        if not kind:
            return value.detach().cpu()
    else:
        kind = f"a {type(value).__name__}"
        try:
            array = np.asarray(value)
            if array.dtype.kind in "biuf":
                return torch.tensor(np.array(array, array.dtype.newbyteorder("="), order="C"))
            kind += f" of {array.dtype}"
        except (TypeError, ValueError, RuntimeError):  # ragged lists; a float of 128 bits
            pass
    raise ValueError(f"{what} are {kind}; expected a tensor or array of numbers")


def _two_labels(path: str | os.PathLike, labels: str | os.PathLike) -> ValueError:
    return ValueError(
        f"{path} holds labels, and --labels names {labels}: which of the two? Leave --labels out, "
        "or give a file of images alone"
    )
