"""Differentiable Siamese augmentation (DSA): parameters drawn once, applied any number of times.

Drawing and applying are two functions, because the unrolled student replays an inner step with the
very same augmentation, and because a checkpoint must be able to store it. All formulas act in the
network's input space (after standardisation or whitening). Mode "S" of the reference code: every
call draws one operation of the strategy, uniformly, and then its parameters for every image.

Source of the formulas and constants: DiffAugment in utils.py of the MTT reference code.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from nsdbench import ops
from nsdbench.ops.dsa import IDENTITY, OPERATIONS
from nsdbench.ops.transfer import to_device
from nsdbench.student.strategy import parse_strategy

RATIO_BRIGHTNESS = 1.0
RATIO_SATURATION = 2.0
RATIO_CONTRAST = 0.5
RATIO_CROP_PAD = 0.125
RATIO_CUTOUT = 0.5
PROB_FLIP = 0.5
RATIO_SCALE = 1.2
RATIO_ROTATE_DEGREES = 15.0


@dataclass(frozen=True)
class DsaParams:
    """One operation and its drawn parameters for a batch.

    Attributes:
        op: one of OPERATIONS, or "identity".
        values: what was drawn, by name; every tensor has first dimension `batch_size`, or 1
            when `siamese`.
            color: brightness, saturation, contrast [n], u ~ U[0, 1) each.
            crop: shift [n, 2] int64, rows and columns.
            cutout: centre [n, 2] int64, row and column.
            flip: flipped [n] bool.
            scale: factor [n, 2], width then height (as in the affine matrix diag(sx, sy)).
            rotate: angle [n] in radians.
        batch_size: number of images the parameters were drawn for.
        image_shape: (C, H, W) of those images.
        siamese: one draw is shared by all images, so a batch of any size is accepted.
        align_corners: whether +-1 in the grid of scale and rotate means the centre or the edge
            of the border pixels (True in MTT and its successors, False in the dataset condensation
            code). Both maps are linear about the centre, so it only tells when images that are not
            square are rotated.
    """

    op: str
    values: Mapping[str, torch.Tensor]
    batch_size: int
    image_shape: tuple[int, int, int]
    siamese: bool
    align_corners: bool

    def to(self, device: torch.device | str) -> "DsaParams":
        """Copy the drawn tensors to a device."""
        values = {name: value.to(device) for name, value in self.values.items()}
        return replace(self, values=values)

    def state(self) -> dict[str, Any]:
        """Describe the parameters by integers and CPU tensors, for a checkpoint."""
        channels, height, width = self.image_shape
        return {
            "op": -1 if self.op == IDENTITY else OPERATIONS.index(self.op),
            "batch_size": self.batch_size,
            "channels": channels,
            "height": height,
            "width": width,
            "siamese": int(self.siamese),
            "align_corners": int(self.align_corners),
            **{name: value.cpu() for name, value in self.values.items()},
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> "DsaParams":
        """Rebuild parameters from what `state` returned."""
        return cls(
            op=IDENTITY if state["op"] < 0 else OPERATIONS[state["op"]],
            values={k: v for k, v in state.items() if isinstance(v, torch.Tensor)},
            batch_size=int(state["batch_size"]),
            image_shape=(int(state["channels"]), int(state["height"]), int(state["width"])),
            siamese=bool(state["siamese"]),
            align_corners=bool(state["align_corners"]),
        )


def sample(
    strategy: str | None,
    batch_size: int,
    image_shape: tuple[int, int, int],
    generator: torch.Generator,
    *,
    siamese: bool = False,
    align_corners: bool = True,
) -> DsaParams:
    """Draw one operation of a strategy and its parameters.

    Args:
        strategy: names of operations joined by "_", as "color_crop_cutout_flip_scale_rotate";
            None, "" or "none" for no augmentation (then nothing is drawn).
        batch_size: number of images, at least 1.
        image_shape: (C, H, W).
        generator: a CPU generator; it is advanced.
        siamese: draw once and share the draw among all images, as the gradient and distribution
            matching objectives do for the real and the synthetic images of a class.
        align_corners: recorded for scale and rotate.

    Raises:
        ValueError: the strategy has an unknown word, or a size is not positive.
    """
    channels, height, width = (int(size) for size in image_shape)
    if batch_size < 1 or min(channels, height, width) < 1:
        raise ValueError(
            f"batch_size and image_shape (C, H, W) must be positive, got {batch_size} and "
            f"{tuple(image_shape)}"
        )
    names = parse_strategy(strategy)
    op = IDENTITY
    values: Values = {}
    if names:
        op = names[int(torch.randint(len(names), (), generator=generator))]
        draws = 1 if siamese else batch_size
        values = _DRAW[op](draws, height, width, generator)
    return DsaParams(op, values, batch_size, (channels, height, width), siamese, align_corners)


def apply(images: torch.Tensor, params: DsaParams) -> torch.Tensor:
    """Augment images with drawn parameters; pure, and differentiable in the images.

    Args:
        images: [B, C, H, W] float; B is free when the parameters are siamese.
        params: from `sample`, on any device.

    Returns:
        [B, C, H, W] augmented images, same dtype and device.

    Raises:
        ValueError: the images are not those the parameters were drawn for.
    """
    _check(images, params)
    if params.op == IDENTITY:
        return images
    parameters = to_device(native_parameters(params), images.device)
    return ops.dsa(images, params.op, parameters, params.align_corners)


def place(
    draws: Sequence[DsaParams], device: torch.device
) -> list[Callable[[torch.Tensor], torch.Tensor]]:
    """Bring the parameters of several draws to a device, in one copy that nobody waits for.

    Returns:
        For every draw, `apply` as a function of images on that device.
    """
    parameters = [native_parameters(params) for params in draws]
    is_drawn_here = all(numbers.device.type == "cpu" for numbers in parameters)
    home = torch.device("cpu") if is_drawn_here else device
    together = torch.cat([numbers.flatten().to(home) for numbers in parameters])
    pieces = to_device(together, device).split([numbers.numel() for numbers in parameters])
    return [
        partial(_apply_placed, params=params, parameters=piece.view(numbers.shape))
        for params, piece, numbers in zip(draws, pieces, parameters, strict=True)
    ]


def _apply_placed(
    images: torch.Tensor, params: DsaParams, parameters: torch.Tensor
) -> torch.Tensor:
    _check(images, params)
    return ops.dsa(images, params.op, parameters, params.align_corners)


def _check(images: torch.Tensor, params: DsaParams) -> None:
    """Refuse images that parameters were not drawn for."""
    expected = ("B" if params.siamese else params.batch_size, *params.image_shape)
    fits = images.dim() == 4 and tuple(images.shape[1:]) == params.image_shape
    if not fits or not (params.siamese or len(images) == params.batch_size):
        raise ValueError(
            f"images have shape {list(images.shape)}, the augmentation was drawn for "
            f"[{', '.join(map(str, expected))}]: draw parameters for these images with sample()"
        )
    if not images.is_floating_point():
        raise ValueError(f"images must be floating point, got {images.dtype}: preprocess first")


def native_parameters(params: DsaParams) -> torch.Tensor:
    """Turn what was drawn into the parameters of `nsdbench.ops.dsa`.

    Returns:
        [n, columns] float64 on the device of the draws, columns as in `ops.dsa.PARAMETERS`.
    """
    if params.op == IDENTITY:
        return torch.zeros(1, 0, dtype=torch.float64)
    return _PARAMETERS[params.op](params.values, *params.image_shape[1:])


Values = Mapping[str, torch.Tensor]


def _draw_color(n: int, height: int, width: int, generator: torch.Generator) -> Values:
    names = ("brightness", "saturation", "contrast")
    return {name: torch.rand(n, generator=generator) for name in names}


def _draw_crop(n: int, height: int, width: int, generator: torch.Generator) -> Values:
    reach = [int(RATIO_CROP_PAD * size + 0.5) for size in (height, width)]
    shifts = [torch.randint(-s, s + 1, (n,), generator=generator) for s in reach]
    return {"shift": torch.stack(shifts, dim=1)}


def _draw_cutout(n: int, height: int, width: int, generator: torch.Generator) -> Values:
    # An even square has no middle pixel: its centre lies on one of size + 1 grid lines.
    highest = [size + 1 - _cutout_side(size) % 2 for size in (height, width)]
    centres = [torch.randint(0, high, (n,), generator=generator) for high in highest]
    return {"centre": torch.stack(centres, dim=1)}


def _draw_flip(n: int, height: int, width: int, generator: torch.Generator) -> Values:
    return {"flipped": torch.rand(n, generator=generator) < PROB_FLIP}


def _draw_scale(n: int, height: int, width: int, generator: torch.Generator) -> Values:
    lowest = 1 / RATIO_SCALE
    return {"factor": torch.rand(n, 2, generator=generator) * (RATIO_SCALE - lowest) + lowest}


def _draw_rotate(n: int, height: int, width: int, generator: torch.Generator) -> Values:
    highest = math.radians(RATIO_ROTATE_DEGREES)
    return {"angle": (torch.rand(n, generator=generator) - 0.5) * 2 * highest}


# What native_parameters returns, by operation.


def _color_parameters(values: Values, height: int, width: int) -> torch.Tensor:
    offset = RATIO_BRIGHTNESS * (values["brightness"].double() - 0.5)
    saturation = RATIO_SATURATION * values["saturation"].double()
    contrast = values["contrast"].double() + RATIO_CONTRAST
    return torch.stack((offset, saturation, contrast), dim=1)


def _crop_parameters(values: Values, height: int, width: int) -> torch.Tensor:
    return values["shift"].double()


def _cutout_parameters(values: Values, height: int, width: int) -> torch.Tensor:
    centre = values["centre"].double()
    sides = torch.tensor([_cutout_side(height), _cutout_side(width)], device=centre.device)
    first = centre - sides // 2
    return torch.cat((first, first + sides), dim=1)


def _flip_parameters(values: Values, height: int, width: int) -> torch.Tensor:
    return values["flipped"].double()[:, None]


def _scale_parameters(values: Values, height: int, width: int) -> torch.Tensor:
    return values["factor"].double()


def _rotate_parameters(values: Values, height: int, width: int) -> torch.Tensor:
    return values["angle"].double()[:, None]


def _cutout_side(size: int) -> int:
    return int(RATIO_CUTOUT * size + 0.5)


_DRAW: dict[str, Callable[[int, int, int, torch.Generator], Values]] = {
    "color": _draw_color,
    "crop": _draw_crop,
    "cutout": _draw_cutout,
    "flip": _draw_flip,
    "scale": _draw_scale,
    "rotate": _draw_rotate,
}
_PARAMETERS: dict[str, Callable[[Values, int, int], torch.Tensor]] = {
    "color": _color_parameters,
    "crop": _crop_parameters,
    "cutout": _cutout_parameters,
    "flip": _flip_parameters,
    "scale": _scale_parameters,
    "rotate": _rotate_parameters,
}
