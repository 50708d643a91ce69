"""What every format gives: sets with what is known of them, or the word that it is another."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nsdbench.data import DatasetSpec
from nsdbench.errors import DataCorrupt
from nsdbench.sets.artefact import Artefact
from nsdbench.sets.foreign import ForeignSet
from nsdbench.sets.formats.opening import Opened
from nsdbench.sets.meaning import UNSAID, Meaning


@dataclass(frozen=True)
class Asked:
    """What a reader may need to know besides the files.

    Attributes:
        spec: the data set that the set stands for.
        said: what its owner says of it.
    """

    spec: DatasetSpec
    said: Meaning = UNSAID


@dataclass(frozen=True)
class Reading:
    """What files were taken for.

    Attributes:
        taken_for: the format in words.
        sets: independent sets: one, or one an experiment.
        notes: what the owner should know, a sentence each.
    """

    taken_for: str
    sets: tuple[ForeignSet | Artefact, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Format:
    """A layout of files.

    Attributes:
        name: in a word, for messages.
        read: called with all files and what is asked; None if they are of another format.
            Raises DataCorrupt or ValueError if they are of this one and wrong.
    """

    name: str
    read: Callable[[Sequence[Opened], Asked], Reading | None]


def single(name: str, read_one: Callable[[Opened, Asked], tuple[str, ForeignSet] | None]) -> Format:
    """Make the format of one file a set; several files are parts of one set, in their order.

    Args:
        name: as of `Format`.
        read_one: returns what the file is taken for, and the set, or None.
    """

    def read(files: Sequence[Opened], asked: Asked) -> Reading | None:
        taken = [read_one(file, asked) for file in files]
        parts = [part for part in taken if part is not None]
        if len(parts) < len(files):
            return None
        words = dict.fromkeys(word for word, _ in parts)
        text = " and ".join(words)
        if len(parts) > 1:
            text += f", in {len(parts)} parts"
        return Reading(text, (joined([part for _, part in parts]),))

    return Format(name, read)


def joined(parts: Sequence[ForeignSet]) -> ForeignSet:
    """Join the parts of one set.

    Raises:
        DataCorrupt: they hold images or labels of different shapes or kinds, or different rates.
    """
    first = parts[0]
    if len(parts) == 1:
        return first
    for part in parts[1:]:
        for what, ours, theirs in (
            ("images are", list(first.images.shape[1:]), list(part.images.shape[1:])),
            ("labels are", list(first.labels.shape[1:]), list(part.labels.shape[1:])),
            ("images are of", first.images.dtype, part.images.dtype),
            ("the learned rate is", first.lr, part.lr),
            ("numbers are", first.meaning, part.meaning),
        ):
            if ours != theirs:
                raise DataCorrupt(
                    f"{part.origin}: {what} {theirs}, in {first.origin} {ours}; parts of one set "
                    "agree"
                )
    return replace(
        first,
        images=torch.cat([part.images for part in parts]),
        labels=torch.cat([part.labels for part in parts]),
        origin=f"{first.origin} and {len(parts) - 1} more",
        stored=sum((part.entries for part in parts), ()),
    )


def numbers(value: Any) -> bool:
    """Say whether a value is a tensor or an array."""
    return isinstance(value, Tensor | np.ndarray)


def foreign(opened: Opened, images: Any, labels: Any, **known: Any) -> ForeignSet:
    """Make the set of a file; `known` are further fields of `ForeignSet`.

    Raises:
        DataCorrupt: something that holds no numbers.
    """
    try:
        made = ForeignSet.of(images, labels, str(opened.path))
    except ValueError as error:
        raise DataCorrupt(str(error)) from None
    return replace(made, **known)


def rate(opened: Opened, value: Any) -> float:
    """Return a learned step size.

    Raises:
        DataCorrupt: it is not one positive finite number.
    """
    try:
        number = float(value.detach() if isinstance(value, Tensor) else value)
    except (TypeError, ValueError, RuntimeError):
        number = float("nan")
    if not 0 < number < float("inf"):
        raise DataCorrupt(
            f"{opened.path}: the learned rate is {value!r:.100}; expected one positive number"
        )
    return number
