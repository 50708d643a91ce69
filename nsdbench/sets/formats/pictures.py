"""A folder of pictures, one subfolder a class: DIR/CLASS/*.png.

Classes are called as those of the data set or by their numbers.
"""

import torch

from nsdbench.data.formats.decode import decode_all
from nsdbench.data.readers.class_folders import folders, list_classes
from nsdbench.errors import DataCorrupt
from nsdbench.sets.foreign import ForeignSet
from nsdbench.sets.formats.base import Asked, foreign, single
from nsdbench.sets.formats.opening import Opened
from nsdbench.sets.meaning import Meaning


def _read_one(file: Opened, asked: Asked) -> tuple[str, ForeignSet] | None:
    if file.kind != "folder":
        return None
    spec, found = asked.spec, folders(file.path)
    numbered = [str(label) for label in range(spec.num_classes)]
    schemes = (list(spec.class_folders), numbered)
    known = next((names for names in schemes if {*found} <= {*names}), numbered)
    if not found or not {*found} <= {*known}:
        raise DataCorrupt(
            f"{file.path}: holds folders {', '.join(found) or '(none)'}; expected some of those of "
            f"the classes of {spec.name}: {', '.join(spec.class_folders)}, or of their numbers"
        )
    files, rows = list_classes(file.path, found)
    labels = [known.index(found[row]) for row in rows]
    images = decode_all(files, spec.image_shape, is_resized=False)
    made = foreign(file, images, torch.tensor(labels), meaning=Meaning(pixels="raw"))
    return f"a folder of {len(files)} pictures", made


PICTURES = single("pictures", _read_one)
