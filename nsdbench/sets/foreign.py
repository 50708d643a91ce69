"""Distilled sets of other projects: tensors, arrays, torch data sets; `formats` reads their files.

What their numbers mean is left to `meaning`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from nsdbench.sets.budget import Entry, Ledger
from nsdbench.sets.meaning import UNSAID, Meaning
from nsdbench.sets.parameterizations import Parameterization

_LARGEST_EXPANDED = 2**32  # bytes that a view of fewer may be written out to; our choice


@dataclass(frozen=True, eq=False)
class ForeignSet:
    """Images and labels as they came, and what their format says of them.

    Attributes:
        images, labels: on the CPU, of any shape and dtype.
        origin: what holds them, as messages begin.
        lr: step size that was learned with them.
        meaning: what their format says of the numbers; what the owner says goes before.
        stored: what is stored, where that is not images and labels as they are.
        drawn_from: draws the images anew for every epoch, where decoding is stochastic.
    """

    images: Tensor
    labels: Tensor
    origin: str = "the set"
    lr: float | None = None
    meaning: Meaning = UNSAID
    stored: tuple[Entry, ...] | None = None
    drawn_from: Parameterization | None = None

    @classmethod
    def of(cls, images: Any, labels: Any, origin: str = "the set") -> "ForeignSet":
        """Take tensors, arrays, and lists of numbers.

        Raises:
            ValueError: something else.
        """
        return cls(
            _tensor(images, f"{origin}: images"), _tensor(labels, f"{origin}: labels"), origin
        )

    @property
    def entries(self) -> tuple[Entry, ...]:
        """What counts as stored; labels do where they say more than a class an image."""
        if self.stored is not None:
            return self.stored
        entries = (Entry.of("coefficient", "images", self.images),)
        return (*entries, *self.label_entries)

    @property
    def label_entries(self) -> tuple[Entry, ...]:
        """The soft labels, if they are: a row that is one number but for its highest is a class."""
        if self.labels.dim() < 2 or self.labels.shape[-1] < 2:
            return ()
        rows = self.labels.flatten(0, -2).sort(-1).values
        is_class = bool((rows[:, :-1] == rows[0, 0]).all() and (rows[:, -1] == rows[0, -1]).all())
        return () if is_class else (Entry.of("label", "labels", self.labels),)

    def ledger(self) -> Ledger:
        """List what is stored, with bits."""
        listed = () if self.label_entries else ("hard labels implied by order",)
        return Ledger(self.entries, (*listed, *(() if self.lr is None else ("learned step size",))))


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
