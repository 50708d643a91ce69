"""One operation of differentiable Siamese augmentation on a batch of images (csrc/kernels/dsa.h).

Every operation is linear in the images, but for the brightness that `color` adds. So its tangent is
the operation without that offset, its gradient is the transpose, and both are differentiated
again by each other.
"""

import torch
from torch import Tensor
from torch.autograd import forward_ad

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


# A private name of torch; should it go, every call is made as if a transform were active.
_are_transforms_active = getattr(torch._C, "_are_functorch_transforms_active", lambda: True)


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
        images: [B, C, H, W] float32 or float64.
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
    return _run(images, OPERATIONS.index(operation), parameters, align_corners, False, False)


def dsa_jvp(
    images_t: Tensor, operation: str, parameters: Tensor, align_corners: bool = True
) -> Tensor:
    """Compute the directional derivative of `dsa` along a tangent of the images, shaped like them.

    It is the operation without the offset of color. Errors are those of `dsa`.
    """
    _check("images_t", images_t, operation, parameters)
    if operation == IDENTITY:
        return images_t
    return _run(images_t, OPERATIONS.index(operation), parameters, align_corners, True, False)


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
    return _run(grad, OPERATIONS.index(operation), parameters, align_corners, True, True)


def _check(name: str, images: Tensor, operation: str, parameters: Tensor) -> None:
    """Refuse what the native code would refuse (csrc/ops/dsa_checks.h), in the same words."""

    def refuse(text: str) -> None:
        raise ValueError(f"dsa: {text}")

    if operation not in PARAMETERS:
        refuse(f"operation: expected one of {', '.join(PARAMETERS)}, got {operation!r}")
    if images.dim() != 4:
        refuse(f"{name}: expected 4 dimensions [B, C, H, W], got {list(images.shape)}")
    if images.dtype not in (torch.float32, torch.float64):
        refuse(f"{name}: expected dtype float32 or float64, got {images.dtype}")
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


def _run(images, operation, parameters, align_corners, is_linear, is_transposed) -> Tensor:
    """Apply the operation (by number) or its transpose, differentiably."""
    function = _ApplyUnderTransforms if _are_transforms_active() else _Apply
    return function.apply(images, operation, parameters, align_corners, is_linear, is_transposed)


def _run_natively(images, operation, parameters, align_corners, is_linear, is_transposed) -> Tensor:
    if is_transposed:
        return torch.ops.nsdbench.dsa_backward(images, operation, parameters, align_corners)
    return torch.ops.nsdbench.dsa(images, operation, parameters, align_corners, is_linear)


class _Derivatives(torch.autograd.Function):
    """Gradient and tangent; registering them with the operator alone gives no forward-mode rule."""

    @staticmethod
    def backward(ctx, grad):
        (parameters,), (operation, align_corners, is_transposed) = ctx.saved_tensors, ctx.how
        is_differentiated_again = torch.is_grad_enabled() or forward_ad._current_level >= 0
        run = _run if is_differentiated_again else _run_natively
        grad = run(grad, operation, parameters, align_corners, True, not is_transposed)
        return grad, None, None, None, None, None

    @staticmethod
    def jvp(ctx, images_t, *rest):
        (parameters,), (operation, align_corners, is_transposed) = ctx.saved_tensors, ctx.how
        return _run(images_t, operation, parameters, align_corners, True, is_transposed)


class _Apply(_Derivatives):
    """The quick form: what autograd spends on calling it is as long as augmenting a small batch."""

    @staticmethod
    def forward(ctx, images, operation, parameters, align_corners, is_linear, is_transposed):
        ctx.save_for_backward(parameters)
        ctx.save_for_forward(parameters)
        ctx.how = operation, align_corners, is_transposed
        return _run_natively(images, operation, parameters, align_corners, is_linear, is_transposed)


class _ApplyUnderTransforms(_Derivatives):
    """The form that torch.func.grad and torch.func.jvp ask for."""

    @staticmethod
    def forward(images, operation, parameters, align_corners, is_linear, is_transposed):
        return _run_natively(images, operation, parameters, align_corners, is_linear, is_transposed)

    @staticmethod
    def setup_context(ctx, inputs, output):
        _, operation, parameters, align_corners, _, is_transposed = inputs
        ctx.save_for_backward(parameters)
        ctx.save_for_forward(parameters)
        ctx.how = operation, align_corners, is_transposed


def _save(ctx, inputs, output) -> None:
    _, operation, parameters, align_corners, *_ = inputs
    ctx.save_for_backward(parameters)
    ctx.how = operation, align_corners


def _backward(ctx, grad):
    (parameters,), (operation, align_corners) = ctx.saved_tensors, ctx.how
    grad = torch.ops.nsdbench.dsa_backward(grad, operation, parameters, align_corners)
    return grad, None, None, None, None


def _backward_of_backward(ctx, direction):
    (parameters,), (operation, align_corners) = ctx.saved_tensors, ctx.how
    grad = torch.ops.nsdbench.dsa(direction, operation, parameters, align_corners, True)
    return grad, None, None, None


@torch.library.register_fake("nsdbench::dsa")
def _fake_dsa(images, operation, parameters, align_corners, is_linear):
    _check("images", images, OPERATIONS[operation], parameters)
    return images.new_empty(images.shape)


@torch.library.register_fake("nsdbench::dsa_backward")
def _fake_dsa_backward(grad, operation, parameters, align_corners):
    _check("grad", grad, OPERATIONS[operation], parameters)
    return grad.new_empty(grad.shape)


torch.library.register_autograd("nsdbench::dsa", _backward, setup_context=_save)
torch.library.register_autograd(
    "nsdbench::dsa_backward", _backward_of_backward, setup_context=_save
)
