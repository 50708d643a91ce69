"""Separable reconstruction of images from spectrum tensors and kernel matrices (Eq. 1, Eq. 2).

The operation is linear in each of its five operands, which gives every derivative from two native
operators, `reconstruct` and `reconstruct_backward`:

    tangent of R     = sum over the operands of R with that operand's tangent in its place
    <v, gradients>   = <grad_images, tangent of R along v>

so differentiating the gradients again needs the same two operators with operands replaced.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from nsdbench.ops import reference
from nsdbench.ops.backend import CPU, DTYPES, is_native
from nsdbench.ops.registration import differentiable, guard

MODES = ("sample", "channel", "height", "width")
Operands = Sequence[Tensor | None]  # the spectra and four kernels, or tangents of them
_refuse_batched = guard("reconstruct: index", vmap="batch the operands, or call it once for each")


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
    if not is_native(spectra.device):
        _check_range(spectra, kernels, index)
        return reference.reconstruct(spectra, kernels, index)
    return _forward(spectra, *kernels, index)


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
        ValueError: as `reconstruct`, or a tangent has not the shape, dtype and device of its
            operand.
    """
    _check(spectra, kernels, index)
    operands = (spectra, *kernels)
    tangents = (spectra_t, *kernels_t)
    if len(tangents) != 5:
        raise ValueError(f"kernels_t: expected four tangents or None, got {len(tangents) - 1}")
    for n, (operand, tangent) in enumerate(zip(operands, tangents, strict=True)):
        if tangent is None:
            continue
        expected, got = _described(operand), _described(tangent)
        if got != expected:
            label = "spectra_t" if n == 0 else f"kernels_t of {_mode(n - 1)}"
            raise ValueError(f"reconstruct_jvp: {label}: expected {expected}, got {got}")
    if not is_native(spectra.device):
        _check_range(spectra, kernels, index)
        return reference.reconstruct_jvp(spectra, kernels, spectra_t, kernels_t, index)
    return _tangent(operands, tangents, index)


def _described(tensor: Tensor | None) -> str:
    if tensor is None:
        return "None"
    return f"shape {list(tensor.shape)} {tensor.dtype} on {tensor.device}"


def _mode(mode: int) -> str:
    return f"mode {mode + 1} ({MODES[mode]})"


def _check(spectra: Tensor, kernels: Sequence[Tensor | None], index: Tensor | None) -> None:
    """Refuse whatever does not fit, before the native code or the twin sees it."""

    def refuse(text: str) -> None:
        raise ValueError(f"reconstruct: {text}")

    if len(kernels) != 4:
        refuse(f"kernels: expected four tensors or None, one per mode, got {len(kernels)}")
    if spectra.dim() != 5:
        refuse(f"spectra: expected 5 dimensions [N_T, t1, t2, t3, t4], got {list(spectra.shape)}")
    if spectra.dtype not in DTYPES:
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


def _check_range(spectra: Tensor, kernels: Operands, index: Tensor | None) -> None:
    """Check on the CPU what the compiled operator checks itself, and there alone."""
    if index is None or index.device != CPU:
        return
    _refuse_batched(index)
    num_images = _image_shape(spectra, kernels, None)[0]
    for position in ((index < 0) | (index >= num_images)).nonzero().flatten().tolist():
        raise ValueError(
            f"reconstruct: index: expected entries in [0, {num_images}), "
            f"got {index[position].item()} at position {position}"
        )


def _image_shape(spectra: Tensor, kernels: Operands, index: Tensor | None) -> list[int]:
    sizes = [
        spectra.shape[n + 1] if kernel is None else kernel.shape[2]
        for n, kernel in enumerate(kernels)
    ]
    num_kernel_sets = next((kernel.shape[0] for kernel in kernels if kernel is not None), 1)
    count = spectra.shape[0] * num_kernel_sets * sizes[0] if index is None else index.shape[0]
    return [count, *sizes[1:]]


def _tangent(operands: Operands, tangents: Operands, index: Tensor | None) -> Tensor:
    """Differentiate the images along tangents of the operands."""
    total = None
    for n, tangent in enumerate(tangents):
        if tangent is not None:
            term = _forward(*_replaced(operands, n, tangent), index)
            total = term if total is None else total + term
    return torch.zeros_like(_forward(*operands, index)) if total is None else total


def _gradients_tangent(
    grad_images: Tensor,
    operands: Operands,
    tangents: Operands,
    index: Tensor | None,
    needs: Sequence[bool],
) -> list[Tensor | None]:
    """Differentiate the gradients that are needed along tangents of the operands."""
    totals: list[Tensor | None] = [None] * 5
    for n, tangent in enumerate(tangents):
        others = [is_needed and m != n for m, is_needed in enumerate(needs)]
        if tangent is None or not any(others):
            continue
        terms = _backward(grad_images, *_replaced(operands, n, tangent), index, _wanted(others))
        for m, is_other in enumerate(others):
            if is_other:
                total = totals[m]
                totals[m] = terms[m] if total is None else total + terms[m]
    return totals


def _replaced(operands: Operands, n: int, tangent: Tensor) -> list[Tensor | None]:
    return [*operands[:n], tangent, *operands[n + 1 :]]


def _wanted(needs_grad: Sequence[bool]) -> int:
    return sum(1 << n for n, is_needed in enumerate(needs_grad) if is_needed)


def _save(ctx: Any, inputs: Any, output: Any) -> None:
    ctx.save_for_backward(*inputs)
    ctx.save_for_forward(*inputs)


def _forward_backward(ctx: Any, grad_images: Tensor) -> tuple[Tensor | None, ...]:
    *operands, index = ctx.saved_tensors
    needs = ctx.needs_input_grad[:5]
    grads = _backward(grad_images, *operands, index, _wanted(needs))
    return *(grad if needed else None for grad, needed in zip(grads, needs, strict=True)), None


def _forward_jvp(ctx: Any, *tangents: Tensor | None) -> Tensor:
    *operands, index = ctx.saved_tensors
    return _tangent(operands, tangents[:5], index)


def _save_backward(ctx: Any, inputs: Any, output: Any) -> None:
    *tensors, ctx.wanted = inputs
    _save(ctx, tensors, output)
    ctx.set_materialize_grads(False)


def _backward_backward(ctx: Any, *directions: Tensor | None) -> tuple[Tensor | None, ...]:
    """Differentiate <directions, gradients> = <grad_images, tangent of R along directions>."""
    grad_images, *operands, index = ctx.saved_tensors
    needs_images, *needs = ctx.needs_input_grad[:6]
    along = [
        direction if direction is not None and direction.numel() and operand is not None else None
        for operand, direction in zip(operands, directions, strict=True)
    ]
    for_images = _tangent(operands, along, index) if needs_images else None
    return for_images, *_gradients_tangent(grad_images, operands, along, index, needs), None, None


def _backward_jvp(ctx: Any, grad_t: Tensor | None, *tangents: Any) -> tuple[Tensor | None, ...]:
    grad_images, *operands, index = ctx.saved_tensors
    needs = [bool(ctx.wanted >> n & 1) for n in range(5)]
    found = _gradients_tangent(grad_images, operands, tangents[:5], index, needs)
    direct = () if grad_t is None else _backward(grad_t, *operands, index, ctx.wanted)
    for n, gradient in enumerate(direct):
        total = found[n]
        found[n] = gradient if total is None else total + gradient
    return tuple(
        grad_images.new_zeros(operand.shape if need else [0]) if gradient is None else gradient
        for gradient, operand, need in zip(found, operands, needs, strict=True)
    )


def _fake_forward(
    spectra: Tensor,
    kernel1: Tensor | None,
    kernel2: Tensor | None,
    kernel3: Tensor | None,
    kernel4: Tensor | None,
    index: Tensor | None,
) -> Tensor:
    kernels = (kernel1, kernel2, kernel3, kernel4)
    _check(spectra, kernels, index)
    return spectra.new_empty(_image_shape(spectra, kernels, index))


def _fake_backward(
    grad_images: Tensor,
    spectra: Tensor,
    kernel1: Tensor | None,
    kernel2: Tensor | None,
    kernel3: Tensor | None,
    kernel4: Tensor | None,
    index: Tensor | None,
    wanted: int,
) -> tuple[Tensor, ...]:
    operands = (spectra, kernel1, kernel2, kernel3, kernel4)
    _check(spectra, operands[1:], index)
    return tuple(
        spectra.new_empty(operand.shape if operand is not None and wanted >> n & 1 else [0])
        for n, operand in enumerate(operands)
    )


_forward = differentiable(
    "reconstruct", _fake_forward, save=_save, backward=_forward_backward, jvp=_forward_jvp
)
_backward = differentiable(
    "reconstruct_backward",
    _fake_backward,
    save=_save_backward,
    backward=_backward_backward,
    jvp=_backward_jvp,
)
