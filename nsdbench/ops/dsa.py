"""One operation of differentiable Siamese augmentation on a batch of images (csrc/kernels/dsa.h).

Every operation is linear in the images, but for the brightness that `color` adds. So its tangent is
the operation without that offset, its gradient is the transpose, and both are differentiated
again by each other.
"""

from typing import Any

import torch
from torch import Tensor

from nsdbench.ops import reference
from nsdbench.ops.backend import CPU, DTYPES, is_native
from nsdbench.ops.registration import differentiable, guard

# Numbered as in csrc/kernels/dsa.h.
OPERATIONS = ("color", "crop", "cutout", "flip", "scale", "rotate")
IDENTITY = "identity"
PARAMETERS = {
    "color": ("offset", "saturation", "contrast"),
    "crop": ("down", "right"),
    "cutout": ("top", "left", "bottom", "right"),
    "flip": ("is_flipped",),
    "scale": ("across", "down"),
    "rotate": ("angle",),
    IDENTITY: (),
}
_TWIN = "the plain PyTorch twin of dsa"
_refuse_batched_parameters = guard(_TWIN, vmap="give the images one row of parameters each instead")
_refuse_forward_mode = guard(  # grid_sample has none
    f"{_TWIN} for scale and rotate",
    forward_mode="use dsa_jvp, or the compiled operator (NSDBENCH_NATIVE=1, float32 or float64)",
)


def dsa(images: Tensor, operation: str, parameters: Tensor, align_corners: bool = True) -> Tensor:
    """Augment every image with its own parameters, or all of them with the same.

    color   z = g + saturation (x - g), then m + contrast (z - m) + offset, with g the mean over
            the channels of a pixel and m the mean over the image
    crop    out[h, w] = x[h + down, w + right], zero outside
    cutout  zero for top <= h < bottom, left <= w < right
    flip    mirror left and right where is_flipped is not 0
    scale   sample at (down h, across w) about the centre: above 1 shrinks the image
    rotate  sample at the position rotated by `angle` radians about the centre, in coordinates that
            run from -1 to 1 along either side

    Sampling is bilinear with zeros outside, as torch.nn.functional.grid_sample does it.

    Args:
        images: [B, C, H, W] floating point; the compiled operator takes float32 and float64, its
            twin serves the rest.
        operation: one of OPERATIONS, or "identity" (the images are returned as they are).
        parameters: [B, n] float64 on the images' device, columns as in PARAMETERS; [1, n] for all
            images alike. Drawn, not learned: no gradient reaches them. On the CPU they must be
            finite; elsewhere nobody looks.
        align_corners: of rotate: -1 and 1 are the centres of the border pixels, not their edges.

    Returns:
        [B, C, H, W], same dtype and device.

    Raises:
        ValueError: a shape, dtype or device does not fit, or a parameter is not finite; the message
            says what was expected and what came.

    Differentiable any number of times, in reverse and forward mode. Equal calls give equal bits,
    whatever the number of threads.
    """
    _check("images", images, operation, parameters)
    if operation == IDENTITY:
        return images
    if not _is_native(images, operation, parameters):
        return reference.dsa(images, operation, parameters, align_corners)
    return _forward(images, OPERATIONS.index(operation), parameters, align_corners, False)


def dsa_jvp(
    images_t: Tensor, operation: str, parameters: Tensor, align_corners: bool = True
) -> Tensor:
    """Compute the directional derivative of `dsa` along a tangent of the images, shaped like them.

    It is the operation without the offset of color. Errors are those of `dsa`.
    """
    _check("images_t", images_t, operation, parameters)
    if operation == IDENTITY:
        return images_t
    if not _is_native(images_t, operation, parameters):
        return reference.dsa_jvp(images_t, operation, parameters, align_corners)
    return _forward(images_t, OPERATIONS.index(operation), parameters, align_corners, True)


def dsa_backward(
    grad: Tensor, operation: str, parameters: Tensor, align_corners: bool = True
) -> Tensor:
    """Apply the exact transpose: the gradient of sum(grad * dsa(images)) in the images.

    Args:
        grad: [B, C, H, W], the rest as for `dsa`, with its errors.
    """
    _check("grad", grad, operation, parameters)
    if operation == IDENTITY:
        return grad
    if not _is_native(grad, operation, parameters):
        return reference.dsa_backward(grad, operation, parameters, align_corners)
    return _backward(grad, OPERATIONS.index(operation), parameters, align_corners)


def _check(name: str, images: Tensor, operation: str, parameters: Tensor) -> None:
    """Refuse whatever does not fit, before the native code or the twin sees it."""

    def refuse(text: str) -> None:
        raise ValueError(f"dsa: {text}")

    if operation not in PARAMETERS:
        refuse(f"operation: expected one of {', '.join(PARAMETERS)}, got {operation!r}")
    if images.dim() != 4:
        refuse(f"{name}: expected 4 dimensions [B, C, H, W], got {list(images.shape)}")
    if not images.is_floating_point():
        refuse(f"{name}: expected a floating-point dtype, got {images.dtype}")
    columns, count = len(PARAMETERS[operation]), len(images)
    if tuple(parameters.shape) not in ((count, columns), (1, columns)):
        refuse(
            f"parameters: expected shape [{count} or 1, {columns}] for {operation}, "
            f"got {list(parameters.shape)}"
        )
    if parameters.dtype != torch.float64:
        refuse(f"parameters: expected dtype float64, got {parameters.dtype}")
    if parameters.device != images.device:
        refuse(
            f"parameters: expected the device of the images {images.device}, "
            f"got {parameters.device}"
        )
    if parameters.requires_grad:
        refuse("parameters: expected drawn numbers, got a tensor that requires a gradient")


def _is_native(images: Tensor, operation: str, parameters: Tensor) -> bool:
    """Choose the compiled operator; where the twin serves, refuse what it cannot take."""
    if images.dtype in DTYPES and is_native(images.device):
        return True
    _refuse_batched_parameters(parameters)
    if operation in ("scale", "rotate"):
        _refuse_forward_mode(images)
    if images.device == CPU and not parameters.isfinite().all():
        row, column = (~parameters.isfinite()).nonzero()[0].tolist()
        value = parameters[row, column].item()
        raise ValueError(f"dsa: parameters: expected finite numbers, got {value} for image {row}")
    return False


def _save(ctx: Any, inputs: Any, output: Any) -> None:
    _, operation, parameters, align_corners, *_ = inputs
    ctx.save_for_backward(parameters)
    ctx.save_for_forward(parameters)
    ctx.how = operation, align_corners


def _forward_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    (parameters,), (operation, align_corners) = ctx.saved_tensors, ctx.how
    return _backward(grad, operation, parameters, align_corners), None, None, None, None


def _forward_jvp(ctx: Any, images_t: Tensor, *_: Any) -> Tensor:
    (parameters,), (operation, align_corners) = ctx.saved_tensors, ctx.how
    return _forward(images_t, operation, parameters, align_corners, True)


def _backward_backward(ctx: Any, direction: Tensor) -> tuple[Tensor | None, ...]:
    return _forward_jvp(ctx, direction), None, None, None


def _backward_jvp(ctx: Any, grad_t: Tensor, *_: Any) -> Tensor | None:
    return _forward_backward(ctx, grad_t)[0]


def _fake(name: str, images: Tensor, operation: int, parameters: Tensor) -> Tensor:
    _check(name, images, OPERATIONS[operation], parameters)
    if images.dtype not in DTYPES:
        raise ValueError(f"dsa: {name}: expected dtype float32 or float64, got {images.dtype}")
    return images.new_empty(images.shape)


def _fake_forward(
    images: Tensor, operation: int, parameters: Tensor, align_corners: bool, is_linear: bool
) -> Tensor:
    return _fake("images", images, operation, parameters)


def _fake_backward(grad: Tensor, operation: int, parameters: Tensor, align_corners: bool) -> Tensor:
    return _fake("grad", grad, operation, parameters)


_forward = differentiable(
    "dsa", _fake_forward, save=_save, backward=_forward_backward, jvp=_forward_jvp
)
_backward = differentiable(
    "dsa_backward", _fake_backward, save=_save, backward=_backward_backward, jvp=_backward_jvp
)
