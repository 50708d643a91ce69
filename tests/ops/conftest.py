"""The implementations an operator's tests run on: native CPU, CUDA source on the host, CUDA."""

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor

from nsdbench.ops.backend import operators

NATIVE = operators()


@dataclass(frozen=True)
class Implementation:
    """One way to compute `reconstruct` and its gradients, on plain tensors without autograd."""

    name: str
    device: torch.device
    forward: Callable[[list[Tensor | None], Tensor | None], Tensor]
    backward: Callable[[Tensor, list[Tensor | None], Tensor | None, int], list[Tensor]]


def _native_forward(operands, index):
    return NATIVE.reconstruct(*operands, index)


def _native_backward(grad_images, operands, index, wanted):
    return list(NATIVE.reconstruct_backward(grad_images, *operands, index, wanted))


def _array(tensor: Tensor | None) -> np.ndarray | None:
    return None if tensor is None else tensor.detach().contiguous().numpy()


def _on_host(simt: ModuleType, name: str, device: torch.device) -> Implementation:
    """Make an implementation of the CUDA kernels compiled for the host."""

    def forward(operands, index):
        spectra, *kernels = map(_array, operands)
        run = getattr(simt, f"reconstruct_{spectra.dtype.name}")
        return torch.from_numpy(run(spectra, kernels, _array(index)))

    def backward(grad_images, operands, index, wanted):
        spectra, *kernels = map(_array, operands)
        run = getattr(simt, f"reconstruct_backward_{spectra.dtype.name}")
        grads = run(_array(grad_images), spectra, kernels, _array(index), wanted)
        return [torch.from_numpy(grad) for grad in grads]

    return Implementation(name, device, forward, backward)


@dataclass(frozen=True)
class Backend:
    """Where an operator runs: cpu, cuda, or host-simt-ORDER (the CUDA source on the host).

    Attributes:
        simt: the kernels compiled for the host, None where they do not run.
    """

    name: str
    simt: ModuleType | None

    @property
    def device(self) -> torch.device:
        return torch.device(self.name if self.simt is None else "cpu")


@pytest.fixture(
    params=[
        "cpu",
        "host-simt-natural",
        "host-simt-reversed",
        "host-simt-shuffled",
        pytest.param(
            "cuda",
            marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
        ),
    ]
)
def backend(request) -> Backend:
    """The same test body for every implementation; the host run in three thread orders."""
    name = request.param
    if not name.startswith("host-simt-"):
        return Backend(name, None)
    simt = request.getfixturevalue("simt")
    simt.set_order(name.removeprefix("host-simt-"), seed=11)
    return Backend(name, simt)


@pytest.fixture
def implementation(backend) -> Implementation:
    """`reconstruct` on every backend."""
    if backend.simt is not None:
        return _on_host(backend.simt, backend.name, backend.device)
    return Implementation(backend.name, backend.device, _native_forward, _native_backward)
