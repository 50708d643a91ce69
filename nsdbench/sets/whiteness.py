"""Whether network inputs look whitened: a preprocessing that contradicts them is noticed.

Two numbers of a set tell: the share of its energy that is left in means over a 4 x 4 grid, since
whitening takes from coarse structure and gives to fine, and its standard deviation, since the
ridge of a whitening keeps it below 1. Real images of the training data give the place of every
preprocessing in the plane of both logarithms. Sets of one real image a class (200 draws from
each of FashionMNIST, CIFAR10 as JPEG and digits of 16 and 32 pixels, under every preprocessing) all
lay at least twice as near to their own as to the other kind; that factor is asked for before
anything is said. Noise has its place near whitened images, and nothing is said of what is as fine.
"""

from math import hypot, log

import torch
import torch.nn.functional as F
from torch import Tensor

from nsdbench.data import Dataset, Preprocessing
from nsdbench.data.preprocess.fitting import ABSOLUTE_RIDGE, RELATIVE_RIDGE
from nsdbench.data.preprocess.standardise import Standardise

_GRID = 4  # cells along an axis
_SAMPLE = 500  # real images, drawn once
_TIMES_NEARER = 2.0
_TIMES_NOISE = 2.0  # as coarse as white noise, at least, what is taken for an image
_MOST_ELEMENTS = 12_288  # of an image, as of `fitting`
_WHITENED = ("zca", "zca_relative")

Place = tuple[float, float]


def contradiction(images: Tensor, data: Dataset, transform: Preprocessing) -> str:
    """Say that a set looks whitened and its preprocessing is not, or the other way round.

    Args:
        images: network inputs [n, C, H, W] of the set.
        data: its training images are looked at.
        transform: how test images are preprocessed.

    Returns:
        A sentence, empty if nothing contradicts or images are too large or too small to tell.
    """
    channels, height, width = data.image_shape
    if channels * height * width > _MOST_ELEMENTS or min(height, width) <= _GRID:
        return ""
    here = _place(images)
    noise = _GRID**2 / (height * width)
    if here is None or here[0] < _TIMES_NOISE * noise:
        return ""
    distances = {kind: _distance(here, place) for kind, place in _places(data).items()}
    is_whitened = not isinstance(transform, Standardise)
    own = {kind: far for kind, far in distances.items() if (kind in _WHITENED) == is_whitened}
    others = {kind: far for kind, far in distances.items() if kind not in own}
    nearest = min(others, key=others.__getitem__)
    if _TIMES_NEARER * others[nearest] > min(own.values()):
        return ""
    looks = "are not whitened" if is_whitened else "are whitened"
    return (
        f"the images look as if they {looks} ({here[0]:.0%} of their energy is coarse, their "
        f"standard deviation {here[1]:.2g}), but {transform.kind} is assumed: if they are, give "
        f"--preprocessing {nearest} (preprocessing_kind={nearest!r}) or one like it"
    )


def _place(images: Tensor) -> Place | None:
    """Return the coarse share of the energy and the standard deviation about 0; None of zeros."""
    x = images.double()
    energy = x.square().mean().item()
    coarse = F.adaptive_avg_pool2d(x, _GRID).square().mean().item()
    return (coarse / energy, energy**0.5) if energy > 0 and coarse > 0 else None


def _distance(one: Place, other: Place) -> float:
    return hypot(log(one[0] / other[0]), log(one[1] / other[1]))


def _places(data: Dataset) -> dict[str, Place]:
    """Return the place of a sample of real images under every preprocessing.

    Whitening is fitted to the sample itself, in the basis of its singular vectors; the ridge makes
    that good enough here, and a fit to all of the data takes a hundred times as long.
    """
    generator = torch.Generator().manual_seed(0)
    rows = torch.randperm(len(data.train.labels), generator=generator)[:_SAMPLE]
    pictures = data.train.images[rows].double() / 255
    mean, std = (torch.tensor(x)[:, None, None] for x in (data.spec.mean, data.spec.std))
    found = {"standardise": _place((pictures - mean) / std)}
    flat = pictures.flatten(1)
    left, singular, right = torch.linalg.svd(flat - flat.mean(0), full_matrices=False)
    eigenvalues = singular.square() / (len(flat) - 1)
    relative = RELATIVE_RIDGE * eigenvalues.sum() / flat.shape[1]
    for kind, ridge in zip(_WHITENED, (ABSOLUTE_RIDGE, relative), strict=True):
        scaled = left * (singular / (eigenvalues + ridge).sqrt())
        found[kind] = _place((scaled @ right).view_as(pictures))
    return {kind: place for kind, place in found.items() if place is not None}
