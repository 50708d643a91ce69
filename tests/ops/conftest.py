"""The implementations an operator's tests run on: native CPU, CUDA source on the host, CUDA."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from nsdbench import _simt


@dataclass(frozen=True)
class Implementation:
    """One way to compute `reconstruct` and its gradients, on plain tensors without autograd."""

    name: str
    device: torch.device
    forward: Callable[[list[Tensor | None], Tensor | None], Tensor]
    backward: Callable[[Tensor, list[Tensor | None], Tensor | None, int], list[Tensor]]


def _native_forward(operands, index):
    return torch.ops.nsdbench.reconstruct(*operands, index)


def _native_backward(grad_images, operands, index, wanted):
    return list(torch.ops.nsdbench.reconstruct_backward(grad_images, *operands, index, wanted))


def _array(tensor: Tensor | None) -> np.ndarray | None:
    return None if tensor is None else tensor.detach().contiguous().numpy()


def _host_forward(operands, index):
    spectra, *kernels = map(_array, operands)
    run = getattr(_simt, f"reconstruct_{spectra.dtype.name}")
    return torch.from_numpy(run(spectra, kernels, _array(index)))


def _host_backward(grad_images, operands, index, wanted):
    spectra, *kernels = map(_array, operands)
    run = getattr(_simt, f"reconstruct_backward_{spectra.dtype.name}")
    grads = run(_array(grad_images), spectra, kernels, _array(index), wanted)
    return [torch.from_numpy(grad) for grad in grads]


@dataclass(frozen=True)
class Backend:
    """Where an operator runs: cpu, cuda, or host-simt-ORDER (the CUDA source on the host)."""

    name: str

    @property
    def is_host_simt(self) -> bool:
        return self.name.startswith("host-simt")

    @property
    def device(self) -> torch.device:
        return torch.device("cpu" if self.is_host_simt else self.name)


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
    backend = Backend(request.param)
    if backend.is_host_simt:
        _simt.set_order(backend.name.removeprefix("host-simt-"), seed=11)
    return backend


@pytest.fixture
def implementation(backend) -> Implementation:
    """`reconstruct` on every backend."""
    if backend.is_host_simt:
        return Implementation(backend.name, backend.device, _host_forward, _host_backward)
    return Implementation(backend.name, backend.device, _native_forward, _native_backward)
