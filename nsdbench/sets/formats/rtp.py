"""RTP: the state of a compressor, decoded by our `bases` or `tiles`.

Deng and Russakovsky's code saves {"compressor": state} with `basis.weight` [t1, C h w], the bases,
and `imgs.weight` [images, t1], an address an image; images are address times bases, enlarged
bilinearly to the side of the data (centres at half pixels). Without bases `imgs.weight` [images,
C h w] holds the small images themselves. Images lie class by class, as many in each.
"""

from math import isqrt
from typing import Any

import torch
from torch import Tensor

from nsdbench.errors import DataCorrupt
from nsdbench.sets import parameterizations
from nsdbench.sets.budget import Budget
from nsdbench.sets.foreign import ForeignSet
from nsdbench.sets.formats.base import Asked, foreign, single
from nsdbench.sets.formats.opening import Opened
from nsdbench.sets.parameterizations.separable_shape import Kind, SeparableShape, columns

_LEARNED, _FIXED = (True, False, False, False), (False,) * 4


def _read_one(file: Opened, asked: Asked) -> tuple[str, ForeignSet] | None:
    state: Any = file.content
    if isinstance(state, dict) and isinstance(state.get("compressor"), dict):
        state = state["compressor"]
    if not isinstance(state, dict) or "imgs.weight" not in state:
        return None
    bases, addresses = state.get("basis.weight"), state["imgs.weight"]
    tables = (addresses,) if bases is None else (bases, addresses)
    if not all(isinstance(table, Tensor) and table.dim() == 2 for table in tables):
        raise DataCorrupt(f"{file.path}: basis.weight or imgs.weight is no table of numbers")
    shape = _shape(file, asked, bases, addresses)
    module = parameterizations.Separable(shape)
    with torch.no_grad():
        if bases is None:
            module.spectra.copy_(addresses.view_as(module.spectra))
        else:
            module.spectra.copy_(bases.view_as(module.spectra))
            module.kernels["1"].copy_(addresses.T[None])
        images, labels = module.decode()
    text = "small images of RTP" if bases is None else f"{shape.t[0]} bases of RTP and addresses"
    return text, foreign(file, images, labels, stored=module.ledger().entries)


def _shape(file: Opened, asked: Asked, bases: Tensor | None, addresses: Tensor) -> SeparableShape:
    """Find the sizes of a set from those of its tables.

    Raises:
        DataCorrupt: the tables do not fit each other or the data set.
    """
    spec, count = asked.spec, len(addresses)
    channels, height, width = spec.image_shape
    elements = (addresses if bases is None else bases).shape[1]
    side = isqrt(elements // channels)
    fits = bases is None or len(bases) == addresses.shape[1]
    if not fits or channels * side**2 != elements or not 0 < side <= height or height != width:
        tables = [list(table.shape) for table in (bases, addresses) if table is not None]
        raise DataCorrupt(
            f"{file.path}: tables {tables} hold no square images of {channels} channels up to "
            f"{height} pixels, as {spec.name} has"
        )
    if not count or count % spec.num_classes:
        raise DataCorrupt(
            f"{file.path}: {count} images; expected as many in each of the {spec.num_classes} "
            f"classes of {spec.name}"
        )
    budget = Budget(spec.image_shape, spec.num_classes, 1)
    enlarged: tuple[Kind, ...] = ("bilinear", "bilinear")
    if bases is None:
        kernels: tuple[Kind, ...] = ("identity", "identity", *enlarged)
        return columns("tiles", budget, (count, channels, side, side), count, _FIXED, kernels)
    kernels = ("xavier", "identity", *enlarged)
    sizes = (len(bases), channels, side, side)
    return columns("bases", budget, sizes, count, _LEARNED, kernels)


RTP = single("rtp", _read_one)
