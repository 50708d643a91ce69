"""The formats in the order in which they are tried, and the reader of them all."""

import os
from collections.abc import Sequence

from nsdbench.data import DatasetSpec
from nsdbench.errors import DataCorrupt
from nsdbench.sets.formats.arrays import ARRAYS
from nsdbench.sets.formats.base import Asked, Format, Reading
from nsdbench.sets.formats.dc import DC
from nsdbench.sets.formats.haba import HABA
from nsdbench.sets.formats.idc import IDC
from nsdbench.sets.formats.opening import Opened, described, open_path
from nsdbench.sets.formats.ours import OURS
from nsdbench.sets.formats.pictures import PICTURES
from nsdbench.sets.formats.rtp import RTP
from nsdbench.sets.formats.separate import SEPARATE
from nsdbench.sets.formats.ssnl import SSNL
from nsdbench.sets.meaning import UNSAID, Meaning

# IDC's pair is one of arrays, too; no other file is of two formats.
FORMATS: tuple[Format, ...] = (OURS, HABA, RTP, DC, SSNL, IDC, ARRAYS, PICTURES, SEPARATE)


def read_set(*paths: str | os.PathLike[str], spec: DatasetSpec, said: Meaning = UNSAID) -> Reading:
    """Read a set from its files, whoever wrote them; nothing in them is executed.

    Args:
        paths: one file or folder, or the files that make up one set: of images and of labels, of
            its parts, of its experiments.
        spec: the data set that it stands for.
        said: what its owner says of it.

    Raises:
        FileNotFoundError: no such file.
        DataCorrupt: a file is damaged, asks for code, or is of no known format.
        ValueError: what is said of the set has no effect, or is needed and not said.
    """
    files = [open_path(path) for path in paths]
    asked = Asked(spec, said)
    for form in FORMATS:
        reading = form.read(files, asked)
        if reading is None:
            continue
        if said.factor is not None and form is not IDC:
            raise ValueError(
                f"{files[0].path}: --factor (factor=) has no effect on {reading.taken_for}; leave "
                "it out"
            )
        return reading
    _check_labels(files, asked)
    held = "; ".join(f"{file.path}: holds {described(file)}" for file in files[:3])
    raise DataCorrupt(
        f"{held}: no known format. (images, labels) of torch.save, arrays of these names in .npz "
        "or .safetensors, and a file of images before one of labels are read"
    )


def _check_labels(files: Sequence[Opened], asked: Asked) -> None:
    """Raise ValueError for a file of images and labels beside another of labels or images."""
    whole = [file for file in files if OURS.read([file], asked) or ARRAYS.read([file], asked)]
    if whole and len(whole) < len(files):
        other = next(file for file in files if file not in whole)
        raise ValueError(
            f"{whole[0].path} holds labels, and {other.path} beside it holds {described(other)}: "
            "which of the two? Leave one out"
        )
