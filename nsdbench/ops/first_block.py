"""The first block of a ConvNet without its map: convolution, instance norm, ReLU and 2x2 mean pool.

The map that the convolution of the images fills is a network's largest, four times its pooled one,
and costs few multiply-adds an element. On CUDA it never reaches memory: each pass computes it
again. These are the four passes of a student's step and of its adjoint, whose direction lies in
the parameters: the images have no tangent, and nothing here is differentiable by autograd.

Compiled for images of 1 or 3 channels on CUDA; elsewhere the twins serve, which do keep the map.
Formulas, shapes of the operands and the count of work: csrc/kernels/first_block.h.
"""

from collections.abc import Callable
from typing import Any, NoReturn

import torch
from torch import Tensor

from nsdbench.ops.backend import DTYPES, library
from nsdbench.ops.reference import first_block as reference
from nsdbench.ops.registration import plain

IN_CHANNELS = (1, 3)  # of the images that the kernels take; csrc/kernels/first_block.cuh


def _refuse(text: str) -> NoReturn:
    raise ValueError(f"first_block: {text}")


def _check(
    x: Tensor, weight: Tensor, gamma: Tensor, beta: Tensor, padding: int, **others: Tensor
) -> tuple[list[int], list[int]]:
    """Refuse whatever does not fit; return the shapes of the pooled map and of the moments.

    `others` are what the passes take besides: grad and moments, and tangents of both and of the
    parameters, whose names end in _t.
    """
    if x.dim() != 4:
        _refuse(f"x: expected 4 dimensions [N, C, H, W], got {list(x.shape)}")
    if x.dtype not in DTYPES:
        _refuse(f"x: expected dtype float32 or float64, got {x.dtype}")
    if x.shape[1] not in IN_CHANNELS:
        _refuse(f"x: expected 1 or 3 channels, got {list(x.shape)}")
    if padding < 1:
        _refuse(f"padding: expected at least 1, got {padding}")
    if weight.dim() != 4:
        _refuse(f"weight: expected 4 dimensions [C, C_in, 3, 3], got {list(weight.shape)}")
    images, channels = x.shape[0], weight.shape[0]
    height, width = (size + 2 * padding - 2 for size in x.shape[2:])
    if min(height, width) < 2:
        _refuse(f"x: expected a map of at least 2x2, got {list(x.shape)} and padding {padding}")
    shapes = {
        "weight": [channels, x.shape[1], 3, 3],
        "gamma": [channels],
        "beta": [channels],
        "grad": [images, height // 2, width // 2, channels],
        "moments": [2, images, channels],
    }
    operands = {"weight": weight, "gamma": gamma, "beta": beta, **others}
    for name, tensor in operands.items():
        expected = shapes[name.removesuffix("_t")]
        if list(tensor.shape) != expected:
            _refuse(f"{name}: expected shape {expected}, got {list(tensor.shape)}")
        if tensor.dtype != x.dtype:
            _refuse(f"{name}: expected the dtype of x, {x.dtype}, got {tensor.dtype}")
        if tensor.device != x.device:
            _refuse(f"{name}: expected the device of x, {x.device}, got {tensor.device}")
    return shapes["grad"], shapes["moments"]


def _fake_forward(
    x: Tensor, weight: Tensor, gamma: Tensor, beta: Tensor, padding: int, eps: float
) -> tuple[Tensor, Tensor]:
    pooled, moments = _check(x, weight, gamma, beta, padding)
    if not eps > 0:
        _refuse(f"eps: expected a positive number, got {eps}")
    return x.new_empty(pooled), x.new_empty(moments)


def _fake_jvp(
    x: Tensor,
    weight: Tensor,
    gamma: Tensor,
    beta: Tensor,
    padding: int,
    moments: Tensor,
    weight_t: Tensor,
    gamma_t: Tensor,
    beta_t: Tensor,
) -> tuple[Tensor, Tensor]:
    tangents = {"weight_t": weight_t, "gamma_t": gamma_t, "beta_t": beta_t}
    pooled, kept = _check(x, weight, gamma, beta, padding, moments=moments, **tangents)
    return x.new_empty(pooled), x.new_empty(kept)


def _fake_backward(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    gamma: Tensor,
    beta: Tensor,
    padding: int,
    moments: Tensor,
) -> tuple[Tensor, ...]:
    _check(x, weight, gamma, beta, padding, grad=grad, moments=moments)
    return tuple(tensor.new_empty(tensor.shape) for tensor in (weight, gamma, beta))


def _fake_backward_jvp(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    gamma: Tensor,
    beta: Tensor,
    padding: int,
    moments: Tensor,
    grad_t: Tensor,
    weight_t: Tensor,
    gamma_t: Tensor,
    beta_t: Tensor,
    moments_t: Tensor,
    needs_weight: bool,
    needs_x: bool,
) -> tuple[Tensor, ...]:
    tangents = {"weight_t": weight_t, "gamma_t": gamma_t, "beta_t": beta_t}
    cotangents = {"grad": grad, "grad_t": grad_t, "moments": moments, "moments_t": moments_t}
    _check(x, weight, gamma, beta, padding, **cotangents, **tangents)
    return (
        x.new_empty(x.shape if needs_x else [0]),
        weight.new_empty(weight.shape if needs_weight else [0]),
        gamma.new_empty(gamma.shape),
        beta.new_empty(beta.shape),
    )


def _operator(
    name: str, fake: Callable[..., Any], twin: Callable[..., Any], at: int
) -> Callable[..., Any]:
    """Give an operator its fake kernel and, on the CPU, its twin.

    Args:
        name: of the operator.
        fake: takes its arguments, checks them, and returns uninitialised results.
        twin: computes it.
        at: position of the images among the arguments.

    Returns:
        What calls the operator, or the twin where no kernel takes so many channels.
    """
    run = plain(name, fake)

    def on_cpu(*operands: Any) -> Any:
        fake(*operands)
        return twin(*operands)

    library.at_loading(lambda: torch.library.impl(f"nsdbench::{name}", "cpu", on_cpu))

    def call(*operands: Any) -> Any:
        return (run if operands[at].shape[1] in IN_CHANNELS else twin)(*operands)

    return call


forward = _operator("first_block", _fake_forward, reference.first_block, 0)
tangent = _operator("first_block_jvp", _fake_jvp, reference.first_block_jvp, 0)
gradients = _operator("first_block_backward", _fake_backward, reference.first_block_backward, 1)
gradients_tangent = _operator(
    "first_block_backward_jvp", _fake_backward_jvp, reference.first_block_backward_jvp, 1
)
