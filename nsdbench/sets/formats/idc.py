"""IDC: [images, labels] in data.pt; every image holds factor x factor smaller ones.

Its code decodes an image of side H so: it is padded by grey 0.5, right and below, to a multiple of
the factor, cut into factor x factor tiles, and every tile is enlarged bilinearly to H x H (centres
at half pixels). Pixels lie in 0 to 1. The factor is not in the file; args.txt beside it has it.
"""

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from nsdbench.sets.foreign import ForeignSet
from nsdbench.sets.formats.base import Asked, foreign, numbers, single
from nsdbench.sets.formats.opening import Opened
from nsdbench.sets.meaning import Meaning

_GREY = 0.5  # of the padding


def _read_one(file: Opened, asked: Asked) -> tuple[str, ForeignSet] | None:
    content, factor = file.content, asked.said.factor
    if file.kind != "torch" or not isinstance(content, list | tuple) or len(content) != 2:
        return None
    if not all(map(numbers, content)):
        return None
    if factor is None and not (isinstance(content, list) and file.path.name == "data.pt"):
        return None
    if factor is None:
        raise ValueError(
            f"{file.path}: looks like a set of IDC, whose images hold factor x factor smaller "
            "ones: give --factor (factor=), as in its args.txt, or 1 if its images are whole"
        )
    stored = foreign(file, *content, meaning=Meaning(pixels="unit"))
    side = min(stored.images.shape[2:], default=0) if stored.images.dim() == 4 else 0
    if not 0 < factor <= side:
        raise ValueError(
            f"{file.path}: images are {list(stored.images.shape)}, --factor (factor=) is {factor}; "
            "expected at most the side of an image"
        )
    decoded = replace(
        stored,
        images=decode(stored.images.float(), factor),
        labels=stored.labels.repeat_interleave(factor**2, dim=0),
        stored=stored.entries,
    )
    return f"a set of IDC, {factor} x {factor} images in one", decoded


def decode(images: Tensor, factor: int) -> Tensor:
    """Cut images [n, C, H, W] into tiles, enlarged: [n factor^2, C, H, W], image by image."""
    height, width = images.shape[2:]
    below, right = -height % factor, -width % factor
    padded = F.pad(images, (0, right, 0, below), value=_GREY)
    rows = padded.tensor_split(factor, dim=2)
    tiles = [tile for row in rows for tile in row.tensor_split(factor, dim=3)]
    cut = torch.stack(tiles, dim=1).flatten(0, 1)
    return F.interpolate(cut, (height, width), mode="bilinear", align_corners=False)


IDC = single("idc", _read_one)
