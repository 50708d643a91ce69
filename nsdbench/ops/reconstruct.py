"""Separable reconstruction of images from spectrum tensors and kernel matrices (Eq. 1, Eq. 2).

The operation is linear in each of its five operands, which gives every derivative from two native
operators, `reconstruct` and `reconstruct_backward`:

    tangent of R     = sum over the operands of R with that operand's tangent in its place
    <v, gradients>   = <grad_images, tangent of R along v>

so differentiating the gradients again needs the same two operators with operands replaced.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

MODES = ("sample", "channel", "height", "width")
Operands = tuple[Tensor, Tensor | None, Tensor | None, Tensor | None, Tensor | None]


def reconstruct(
    spectra: Tensor, kernels: Sequence[Tensor | None], index: Tensor | None = None
) -> Tensor:
    """Map every spectrum tensor by every kernel set, one matrix per mode.

    x[i, j] = T_i  x1 K1_j  x2 K2_j  x3 K3_j  x4 K4_j        (Eq. 1, Eq. 2)

    Args:
        spectra: [N_T, t1, t2, t3, t4] learned coefficients, float32 or float64.
        kernels: four tensors [N_K, t_n, u_n] for the modes sample, channel, height, width, of the
            spectra's dtype and device; None is the identity (u_n = t_n). N_K is 1 if all are None.
        index: [n] int64, the images wanted, in any order, repeats allowed; None for all.

    Returns:
        [N_T * N_K * u1, u2, u3, u4] images in the order (i * N_K + j) * u1 + r (spectrum i, kernel
        set j, column r of K1), or [n, u2, u3, u4]. On CUDA an index out of range gives an image of
        NaN: to raise an error, the host would have to wait for the device.

    Raises:
        ValueError: a shape, dtype or device does not fit, or (on the CPU) an index is out of range;
            the message names the mode, what was expected and what came.

    Cost: contracts in the cheapest order for the sizes given; saves only its inputs. Images asked
    for by `index` may differ in the last bits from the same images of a full call, because the
    cheapest order may differ; equal calls give equal bits, whatever the number of threads.
    Differentiable any number of times, in reverse and forward mode.
    """
    _check(spectra, kernels, index)
    return _Reconstruct.apply(spectra, *kernels, index)


def reconstruct_jvp(
    spectra: Tensor,
    kernels: Sequence[Tensor | None],
    spectra_t: Tensor | None,
    kernels_t: Sequence[Tensor | None],
    index: Tensor | None = None,
) -> Tensor:
    """Compute the directional derivative of `reconstruct` along a tangent of its operands.

    Args:
        spectra, kernels, index: as for `reconstruct`.
        spectra_t: tangent of the spectra, None for zero.
        kernels_t: four tangents of the kernels, None for zero.

    Returns:
        Tangent of the images, shaped like the result of `reconstruct`.

    Raises:
        ValueError: as `reconstruct`, or a tangent has not the shape of its operand.
    """
    _check(spectra, kernels, index)
    operands = (spectra, *kernels)
    tangents = (spectra_t, *kernels_t)
    if len(tangents) != 5:
        raise ValueError(f"kernels_t: expected four tangents or None, got {len(tangents) - 1}")
    for n, (operand, tangent) in enumerate(zip(operands, tangents, strict=True)):
        got = None if tangent is None else list(tangent.shape)
        expected = None if operand is None else list(operand.shape)
        if got is not None and got != expected:
            label = "spectra_t" if n == 0 else f"kernels_t of {_mode(n - 1)}"
            raise ValueError(f"reconstruct_jvp: {label}: expected shape {expected}, got {got}")
    return _tangent(operands, tangents, index)


def _mode(mode: int) -> str:
    return f"mode {mode + 1} ({MODES[mode]})"


def _check(spectra: Tensor, kernels: Sequence[Tensor | None], index: Tensor | None) -> None:
    """Refuse what the native code would refuse (csrc/ops/checks.h), in the same words."""

    def refuse(text: str) -> None:
        raise ValueError(f"reconstruct: {text}")

    if len(kernels) != 4:
        refuse(f"kernels: expected four tensors or None, one per mode, got {len(kernels)}")
    if spectra.dim() != 5:
        refuse(f"spectra: expected 5 dimensions [N_T, t1, t2, t3, t4], got {list(spectra.shape)}")
    if spectra.dtype not in (torch.float32, torch.float64):
        refuse(f"spectra: expected dtype float32 or float64, got {spectra.dtype}")
    if spectra.shape[0] < 1:
        refuse(f"spectra: expected at least one spectrum tensor, got {list(spectra.shape)}")
    num_kernel_sets = None
    for mode, kernel in enumerate(kernels):
        t = spectra.shape[mode + 1]
        if t < 1:
            refuse(
                f"spectra: {_mode(mode)}: expected a size of at least 1, got {list(spectra.shape)}"
            )
        if kernel is None:
            continue
        name, n = f"kernel of {_mode(mode)}", mode + 1
        shape = list(kernel.shape)
        if kernel.dim() != 3:
            refuse(f"{name}: expected 3 dimensions [N_K, t{n}, u{n}], got {shape}")
        if kernel.dtype != spectra.dtype:
            refuse(f"{name}: expected the dtype of the spectra {spectra.dtype}, got {kernel.dtype}")
        if kernel.device != spectra.device:
            refuse(
                f"{name}: expected the device of the spectra {spectra.device}, got {kernel.device}"
            )
        if shape[1] != t:
            refuse(
                f"{name}: expected t{n} = {t} rows as in the spectra, got {shape[1]} "
                f"(shape {shape})"
            )
        if shape[0] < 1 or shape[2] < 1:
            refuse(f"{name}: expected sizes of at least 1, got {shape}")
        if num_kernel_sets is not None and shape[0] != num_kernel_sets:
            refuse(
                f"{name}: expected N_K = {num_kernel_sets} kernel sets as in the modes before, "
                f"got {shape[0]}"
            )
        num_kernel_sets = shape[0]
    if index is not None:
        if index.dim() != 1:
            refuse(f"index: expected 1 dimension, got {list(index.shape)}")
        if index.dtype != torch.int64:
            refuse(f"index: expected dtype int64, got {index.dtype}")
        if index.device != spectra.device:
            refuse(
                f"index: expected the device of the spectra {spectra.device}, got {index.device}"
            )


def _tangent(
    operands: Operands, tangents: Sequence[Tensor | None], index: Tensor | None
) -> Tensor | None:
    total = None
    for n, tangent in enumerate(tangents):
        if tangent is None:
            continue
        replaced = (*operands[:n], tangent, *operands[n + 1 :])
        term = torch.ops.nsdbench.reconstruct(*replaced, index)
        total = term if total is None else total + term
    if total is None:
        total = torch.zeros_like(torch.ops.nsdbench.reconstruct(*operands, index))
    return total


def _wanted(needs_grad: Sequence[bool]) -> int:
    return sum(1 << n for n, is_needed in enumerate(needs_grad) if is_needed)


def _save_forward(ctx, inputs, output) -> None:
    ctx.save_for_backward(*inputs)
    ctx.save_for_forward(*inputs)


def _backward(ctx, grad_images):
    *operands, index = ctx.saved_tensors
    needs = ctx.needs_input_grad[:5]
    grads = torch.ops.nsdbench.reconstruct_backward(grad_images, *operands, index, _wanted(needs))
    wanted = (grad if needed else None for grad, needed in zip(grads, needs, strict=True))
    return *wanted, None


class _Reconstruct(torch.autograd.Function):
    """The operator with all its derivatives; registration alone gives no forward-mode rule."""

    @staticmethod
    def forward(spectra, kernel1, kernel2, kernel3, kernel4, index):
        return torch.ops.nsdbench.reconstruct(spectra, kernel1, kernel2, kernel3, kernel4, index)

    @staticmethod
    def setup_context(ctx, inputs, output):
        _save_forward(ctx, inputs, output)

    @staticmethod
    def backward(ctx, grad_images):
        return _backward(ctx, grad_images)

    @staticmethod
    def jvp(ctx, *tangents):
        *operands, index = ctx.saved_tensors
        return _tangent(operands, tangents[:5], index)


def _save_backward(ctx, inputs, output) -> None:
    *tensors, _ = inputs  # the last is `wanted`
    ctx.save_for_backward(*tensors)
    ctx.set_materialize_grads(False)


def _backward_of_backward(ctx, *directions):
    """Differentiate <directions, gradients> = <grad_images, tangent of R along directions>."""
    grad_images, *operands, index = ctx.saved_tensors
    needs_images, *needs = ctx.needs_input_grad[:6]
    directions = [
        direction if operand is not None and direction is not None and direction.numel() else None
        for operand, direction in zip(operands, directions, strict=True)
    ]
    for_images = _tangent(operands, directions, index) if needs_images else None
    totals = [None] * 5
    for n, direction in enumerate(directions):
        if direction is None:
            continue
        others = [is_needed and m != n for m, is_needed in enumerate(needs)]
        if not any(others):
            continue
        replaced = (*operands[:n], direction, *operands[n + 1 :])
        terms = torch.ops.nsdbench.reconstruct_backward(
            grad_images, *replaced, index, _wanted(others)
        )
        for m, is_other in enumerate(others):
            if is_other:
                totals[m] = terms[m] if totals[m] is None else totals[m] + terms[m]
    return for_images, *totals, None, None


def _image_shape(spectra: Tensor, kernels: Sequence[Tensor | None], index) -> list[int]:
    sizes = [
        spectra.shape[n + 1] if kernel is None else kernel.shape[2]
        for n, kernel in enumerate(kernels)
    ]
    num_kernel_sets = next((kernel.shape[0] for kernel in kernels if kernel is not None), 1)
    count = spectra.shape[0] * num_kernel_sets * sizes[0] if index is None else index.shape[0]
    return [count, *sizes[1:]]


@torch.library.register_fake("nsdbench::reconstruct")
def _fake_reconstruct(spectra, kernel1, kernel2, kernel3, kernel4, index):
    kernels = (kernel1, kernel2, kernel3, kernel4)
    _check(spectra, kernels, index)
    return spectra.new_empty(_image_shape(spectra, kernels, index))


@torch.library.register_fake("nsdbench::reconstruct_backward")
def _fake_reconstruct_backward(
    grad_images, spectra, kernel1, kernel2, kernel3, kernel4, index, wanted
):
    operands = (spectra, kernel1, kernel2, kernel3, kernel4)
    _check(spectra, operands[1:], index)
    return tuple(
        operand.new_empty(operand.shape) if wanted >> n & 1 else spectra.new_empty([0])
        for n, operand in enumerate(operands)
    )


torch.library.register_autograd("nsdbench::reconstruct", _backward, setup_context=_save_forward)
torch.library.register_autograd(
    "nsdbench::reconstruct_backward", _backward_of_backward, setup_context=_save_backward
)
