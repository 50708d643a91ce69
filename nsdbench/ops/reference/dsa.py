"""The twin of `ops.dsa`."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F


def dsa(images: Tensor, operation: str, parameters: Tensor, align_corners: bool = True) -> Tensor:
    """Augment every image; arguments and meaning as for `nsdbench.ops.dsa`, in any float dtype."""
    if operation == "identity":
        return images
    columns = [column.view(-1, 1, 1, 1) for column in parameters.to(images.dtype).unbind(dim=1)]
    if operation in ("scale", "rotate"):
        return _APPLY[operation](images, *columns, align_corners=align_corners)
    return _APPLY[operation](images, *columns)


def dsa_jvp(
    images_t: Tensor, operation: str, parameters: Tensor, align_corners: bool = True
) -> Tensor:
    """Apply the operation without the offset of color: all operations are linear but for it."""
    if operation == "color":
        parameters = parameters * parameters.new_tensor([0.0, 1.0, 1.0])
    return dsa(images_t, operation, parameters, align_corners)


def dsa_backward(
    grad: Tensor, operation: str, parameters: Tensor, align_corners: bool = True
) -> Tensor:
    """Apply the transpose."""

    def run(images: Tensor) -> Tensor:
        return dsa(images, operation, parameters, align_corners)

    return torch.func.vjp(run, torch.zeros_like(grad))[1](grad)[0]


def _color(x: Tensor, offset: Tensor, saturation: Tensor, contrast: Tensor) -> Tensor:
    """Brightness, then saturation, then contrast, always in this order."""
    x = x + offset
    grey = x.mean(dim=1, keepdim=True)
    x = (x - grey) * saturation + grey
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    return (x - mean) * contrast + mean


def _crop(x: Tensor, down: Tensor, right: Tensor) -> Tensor:
    """out[h, w] = x[h + down, w + right], zero outside."""
    n, channels, height, width = x.shape
    rows = torch.arange(height, device=x.device) + down.view(-1, 1).long()
    columns = torch.arange(width, device=x.device) + right.view(-1, 1).long()
    is_row, is_column = (rows >= 0) & (rows < height), (columns >= 0) & (columns < width)
    source = rows.clamp(0, height - 1)[:, :, None] * width + columns.clamp(0, width - 1)[:, None, :]
    index = source.flatten(1)[:, None].expand(n, channels, -1)
    inside = is_row[:, None, :, None] & is_column[:, None, None, :]
    return torch.where(inside, x.flatten(2).gather(2, index).view_as(x), x.new_zeros(()))


def _cutout(x: Tensor, top: Tensor, left: Tensor, bottom: Tensor, right: Tensor) -> Tensor:
    """Zero the part of a rectangle that lies inside the image."""
    rows = torch.arange(x.shape[2], device=x.device)[:, None]
    columns = torch.arange(x.shape[3], device=x.device)
    is_covered = (rows >= top) & (rows < bottom) & (columns >= left) & (columns < right)
    return x.masked_fill(is_covered, 0)


def _flip(x: Tensor, is_flipped: Tensor) -> Tensor:
    return torch.where(is_flipped != 0, x.flip(3), x)


def _scale(x: Tensor, across: Tensor, down: Tensor, align_corners: bool) -> Tensor:
    zero = torch.zeros_like(across)
    return _resample(x, (across, zero, zero, down), align_corners)


def _rotate(x: Tensor, angle: Tensor, align_corners: bool) -> Tensor:
    cosine, sine = torch.cos(angle), torch.sin(angle)
    return _resample(x, (cosine, -sine, sine, cosine), align_corners)


def _resample(x: Tensor, matrix: tuple[Tensor, ...], align_corners: bool) -> Tensor:
    """Sample bilinearly at M (column, row) in [-1, 1] coordinates, zero outside."""
    xx, xy, yx, yy = (entry.flatten() for entry in matrix)
    zero = torch.zeros_like(xx)
    rows = [torch.stack((xx, xy, zero), dim=1), torch.stack((yx, yy, zero), dim=1)]
    theta = torch.stack(rows, dim=1).expand(len(x), 2, 3)
    grid = F.affine_grid(theta, list(x.shape), align_corners=align_corners)
    return F.grid_sample(
        x, grid, mode="bilinear", padding_mode="zeros", align_corners=align_corners
    )


_APPLY: dict[str, Callable[..., Tensor]] = {
    "color": _color,
    "crop": _crop,
    "cutout": _cutout,
    "flip": _flip,
    "scale": _scale,
    "rotate": _rotate,
}
