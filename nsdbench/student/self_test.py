"""Compare the native code of this installation with its plain-PyTorch twins, in float64."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from nsdbench import models, ops
from nsdbench.ops import reference
from nsdbench.ops.dsa import OPERATIONS, PARAMETERS
from nsdbench.seeding import generator
from nsdbench.student.selection import select_step
from nsdbench.student.step import InnerStep

TOLERANCE = 1e-10  # relative, style rule 25


def run(device: str) -> list[dict]:
    """Test every native operator on a device.

    Returns:
        For each operator: its name, the device, the largest relative error over its values and
        gradients, the tolerance, and whether it holds. Nothing where the operators are switched
        off.
    """
    if not ops.is_native(torch.device(device)):
        return []
    tests = {
        "reconstruct": _reconstruct,
        "dsa": _dsa,
        "inorm_relu_pool": _inorm_relu_pool,
        "convnet": _convnet_step,
    }
    results = []
    for operator, errors in tests.items():
        error = max(errors(device))
        results.append(
            {
                "operator": operator,
                "device": device,
                "error": error,
                "tolerance": TOLERANCE,
                "passed": error <= TOLERANCE,
            }
        )
    return results


def _errors(ours: Sequence[Tensor], twins: Sequence[Tensor]) -> list[float]:
    return [
        ((our - twin).abs().max() / twin.abs().max()).item()
        for our, twin in zip(ours, twins, strict=True)
    ]


def _with_gradients(run: Callable[..., Tensor], operands: list[Tensor]) -> list[Tensor]:
    value = run(*operands)
    return [value.detach(), *torch.autograd.grad(value.square().sum(), operands)]


def _draw(device: str, *shapes: tuple[int, ...]) -> list[Tensor]:
    stream = generator(0, "self test")
    return [
        torch.randn(shape, generator=stream, dtype=torch.float64).to(device).requires_grad_()
        for shape in shapes
    ]


def _reconstruct(device: str) -> list[float]:
    """At the sizes of CIFAR10 with one image per class."""
    operands = _draw(device, (2, 3, 3, 16, 16), (2, 3, 8), (2, 3, 3), (2, 16, 32), (2, 16, 32))
    return _errors(
        _with_gradients(lambda t, *k: ops.reconstruct(t, k), operands),
        _with_gradients(lambda t, *k: reference.reconstruct(t, k), operands),
    )


def _dsa(device: str) -> list[float]:
    errors = []
    for operation in OPERATIONS:
        (images,) = _draw(device, (4, 3, 9, 9))
        stream = generator(0, operation)
        parameters = torch.rand(4, len(PARAMETERS[operation]), generator=stream).double()
        parameters = parameters.to(device) + 0.5
        if operation in ("crop", "cutout", "flip"):
            parameters = parameters.round()
        operands = [images]
        ours, twins = (
            _with_gradients(lambda x, f=f, o=operation, p=parameters: f(x, o, p), operands)
            for f in (ops.dsa, reference.dsa)
        )
        errors += _errors(ours, twins)
    return errors


def _inorm_relu_pool(device: str) -> list[float]:
    operands = _draw(device, (3, 4, 7, 9), (4,), (4,))
    return _errors(
        _with_gradients(ops.inorm_relu_pool, operands),
        _with_gradients(reference.inorm_relu_pool, operands),
    )


def student() -> models.AnyNetwork:
    """Build a small ConvNet in float64, with parameters of its own."""
    model = models.build(
        "convnet", in_channels=3, image_size=16, num_classes=5, width=8, depth=2
    ).double()
    models.initialize(model, generator(0, "self test"))
    return model


def _convnet_step(device: str) -> list[float]:
    """A student's step and its adjoint, as `unrolled_sgd` takes them, beside autograd's."""
    model = student().to(device)
    theta, (images, ends) = models.flatten(model), _draw(device, (6, 3, 16, 16), (2,))
    slope, offset = ends.detach()
    direction = slope * torch.linspace(-1, 1, len(theta), dtype=torch.float64).to(device) + offset
    batch = (images.detach(), torch.arange(6, device=device) % 5)
    values = []
    for step in (select_step(model, "exact", theta), InnerStep(model)):
        along, along_gradient = step.adjoint(theta, *batch, direction, (True, True, False))
        asked = [tensor for tensor in along_gradient if tensor is not None]
        values.append([along, *asked, step.gradient(theta, *batch)])
    return _errors(*values)
