"""The augmentation by which FRePo judges its sets.

A batch gets one of five operations, of six where images have colours, all equally likely, with
parameters for every image. Those that move pixels repeat the border and interpolate bilinearly;
with y, x the coordinates about an image's centre, s its side and z, c, f log-uniform:

    color      brightness + U(-.25, .25), then contrast c about the image's mean, then saturation f
               about the mean of a pixel's channels, both in [e^-.25, e^.25]
    crop       (y, x) -> ((y, x) + d) / z, z in [.8, 1.25], d in [-s |z - 1| / 2, s |z - 1| / 2]
    rotate     by U(-15, 15) degrees
    translate  by U(-s/8, s/8) in each direction
    cutout     a square of side s // 4, wholly inside, becomes 0
    flip       left to right, with probability 1/2; images with colours only

Source: lib/dataset/augmax of the authors' code.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

COLOR = 0.25
ZOOM = (0.8, 1.25)
DEGREES = 15.0
SHIFT = 0.125
OPERATIONS = ("color", "crop", "rotate", "translate", "cutout")


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Apply one operation to a batch [n, C, H, W]; the generator, a CPU one, decides all of it."""
    names = (*OPERATIONS, "flip") if images.shape[1] > 1 else OPERATIONS
    name = names[int(torch.randint(len(names), (), generator=generator))]
    return _APPLY[name](images, generator)


def resample(images: Tensor, matrix: Tensor, offset: Tensor) -> Tensor:
    """Move pixels: the one at p = (y, x) comes from matrix p + offset of the same image.

    Args:
        images: [n, C, H, W].
        matrix: [n, 2, 2]. Coordinates are pixels, y downwards, about the centre of the image.
        offset: [n, 2].

    Returns:
        [n, C, H, W], bilinear; beyond the border its pixels go on.
    """
    height, width = images.shape[2:]
    rows, columns = torch.arange(height) - (height - 1) / 2, torch.arange(width) - (width - 1) / 2
    points = torch.stack(torch.meshgrid(rows, columns, indexing="ij"), -1).view(1, -1, 2)
    sources = points @ matrix.mT + offset[:, None]
    # grid_sample counts x first, in half widths from the centre
    grid = sources.flip(-1) * 2 / torch.tensor([width, height])
    grid = grid.view(len(images), height, width, 2).to(images)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def _uniform(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Draw from U(-1, 1)."""
    return 2 * torch.rand(shape, generator=generator) - 1


def _color(images: Tensor, generator: torch.Generator) -> Tensor:
    drawn = COLOR * _uniform((3, len(images), 1, 1, 1), generator).to(images)
    x = images + drawn[0]
    mean = x.mean((1, 2, 3), keepdim=True)
    x = (x - mean) * drawn[1].exp() + mean
    grey = x.mean(1, keepdim=True)
    return (x - grey) * drawn[2].exp() + grey


def _crop(images: Tensor, generator: torch.Generator) -> Tensor:
    lowest, highest = map(math.log, ZOOM)
    middle, reach = (highest + lowest) / 2, (highest - lowest) / 2
    zoom = (middle + reach * _uniform((len(images), 1), generator)).exp()
    limits = (zoom - 1).abs() / 2 * torch.tensor(images.shape[2:])
    centre = limits * _uniform((len(images), 2), generator)
    return resample(images, torch.eye(2) / zoom[:, :, None], centre / zoom)


def _rotate(images: Tensor, generator: torch.Generator) -> Tensor:
    angle = math.radians(DEGREES) * _uniform((len(images),), generator)
    rows = (angle.cos(), angle.sin()), (-angle.sin(), angle.cos())
    matrix = torch.stack([torch.stack(row, -1) for row in rows], -2)
    return resample(images, matrix, torch.zeros(len(images), 2))


def _translate(images: Tensor, generator: torch.Generator) -> Tensor:
    shift = SHIFT * torch.tensor(images.shape[2:]) * _uniform((len(images), 2), generator)
    return resample(images, torch.eye(2).expand(len(images), 2, 2), -shift)


def _cutout(images: Tensor, generator: torch.Generator) -> Tensor:
    is_cut = torch.ones(len(images), 1, 1, dtype=torch.bool)
    for axis, size in enumerate(images.shape[2:]):
        side = size // 4
        first = torch.randint(size - side + 1, (len(images), 1), generator=generator)
        places = torch.arange(size)
        inside = (places >= first) & (places < first + side)
        is_cut = is_cut & inside.unsqueeze(2 - axis)
    return images.masked_fill(is_cut[:, None].to(images.device), 0.0)


def _flip(images: Tensor, generator: torch.Generator) -> Tensor:
    is_flipped = torch.rand(len(images), generator=generator) < 0.5
    return torch.where(is_flipped.view(-1, 1, 1, 1).to(images.device), images.flip(-1), images)


_APPLY: dict[str, Callable[[Tensor, torch.Generator], Tensor]] = {
    "color": _color,
    "crop": _crop,
    "rotate": _rotate,
    "translate": _translate,
    "cutout": _cutout,
    "flip": _flip,
}
