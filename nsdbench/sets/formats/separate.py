"""Images, labels and the learned rate in a file each: MTT, DATM, and arrays in .npy files.

MTT's code saves images_N.pt [n, C, H, W] and labels_N.pt [n], and images_best.pt and
labels_best.pt of the best test; the rate is in its log alone. FTD and TESLA do the same. DATM's
adds lr_N.pt, a number, and its labels [n, K] are logits: its loss takes their softmax. With
whitening, images_zca_N.pt are the images of images_N.pt with the whitening undone: pictures from 0
to 1.
"""

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from nsdbench.errors import DataCorrupt, counted
from nsdbench.sets.foreign import ForeignSet
from nsdbench.sets.formats.base import (
    Asked,
    Format,
    Reading,
    foreign,
    joined,
    numbers,
    rate,
)
from nsdbench.sets.formats.opening import Opened
from nsdbench.sets.meaning import UNSAID, Meaning

_UNWHITENED = "images_zca_"


def _read(files: Sequence[Opened], asked: Asked) -> Reading | None:
    if not all(numbers(file.content) or isinstance(file.content, float) for file in files):
        return None
    rates = [file for file in files if is_rate(file)]
    images = [file for file in files if not is_rate(file) and len(file.content.shape) > 2]
    labels = [file for file in files if file not in rates and file not in images]
    if not images:
        raise DataCorrupt(f"{files[0].path}: holds no images; name the file of images first")
    if len(images) != len(labels):
        if not labels:
            raise DataCorrupt(
                f"{images[0].path}: holds images alone; the file of their labels is needed: name "
                "it behind the images"
            )
        raise DataCorrupt(
            f"{images[0].path}: {counted(len(images), 'file')} of images, "
            f"{counted(len(labels), 'file')} of labels; expected one of labels for each of images"
        )
    lr = rate_of(rates)
    parts = [
        foreign(images_of, images_of.content, labels_of.content, lr=lr)
        for images_of, labels_of in zip(images, labels, strict=True)
    ]
    for part, labels_of in zip(parts, labels, strict=True):
        if len(part.images) != len(part.labels):
            raise DataCorrupt(
                f"{part.origin}: {len(part.images)} images but {labels_of.path} holds "
                f"{len(part.labels)} labels"
            )
    return _taken(joined(parts), images, is_with_rate=bool(rates))


def _taken(joint: ForeignSet, images: Sequence[Opened], *, is_with_rate: bool) -> Reading:
    """Say whose set it is, and what that says of its numbers."""
    are_npy = all(file.kind == "npy" for file in images)
    whose = "in .npy files" if are_npy else "as MTT's code saves them"
    text, notes, meaning = f"images and labels, {whose}", [], UNSAID
    if is_with_rate and joint.labels.dim() == 2 and joint.labels.shape[1] > 1:
        text = "images, soft labels and the learned rate, as DATM's code saves them"
        if not _are_probabilities(joint.labels):
            meaning = Meaning(labels_are="logits")
            notes.append("the labels are taken for logits, as DATM's are")
    elif is_with_rate:
        text = "images, labels and the learned rate"
    if all(file.path.name.startswith(_UNWHITENED) for file in images):
        meaning = Meaning("zca", "unit", meaning.labels_are)
        notes.append(f"{_UNWHITENED}*.pt: pictures from 0 to 1, which are whitened again")
    if len(images) > 1:
        text += f", in {len(images)} parts"
    return Reading(text, (replace(joint, meaning=meaning),), tuple(notes))


def _are_probabilities(labels: Tensor) -> bool:
    return bool((labels >= 0).all() and ((labels.sum(1) - 1).abs() < 1e-3).all())


def is_rate(file: Opened) -> bool:
    """Say whether a file holds a rate: a number by itself, or one in a file called lr_*."""
    if isinstance(file.content, float):
        return True
    if not numbers(file.content):
        return False
    shape = tuple(file.content.shape)
    return shape == () or (shape == (1,) and file.path.name.startswith("lr"))


def rate_of(files: Sequence[Opened]) -> float | None:
    """Return the rate that files hold; None of no file.

    Raises:
        DataCorrupt: two of them hold different ones, or one holds none.
    """
    found = {rate(file, file.content): file.path for file in files}
    if len(found) > 1:
        (first, path), (other, where) = list(found.items())[:2]
        raise DataCorrupt(f"{where}: the learned rate is {other:g}, in {path} {first:g}; which?")
    return next(iter(found), None)


SEPARATE = Format("separate", _read)
