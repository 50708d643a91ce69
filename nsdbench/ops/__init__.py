"""Operators, compiled where it pays. Importing this package loads no compiled library.

Each operator is one module here (wrapper with its checks, fake kernel, derivatives), one C++ and
one CUDA implementation under `csrc/`, and one plain-PyTorch twin in `reference`. The library is
loaded at the first call (backend.py); `ExtensionUnavailable` says why it cannot be. With
NSDBENCH_NATIVE=0 the twins serve, and the library is not needed.
"""

from nsdbench.ops import backend
from nsdbench.ops.backend import is_native
from nsdbench.ops.dsa import dsa, dsa_backward, dsa_jvp
from nsdbench.ops.inorm_relu_pool import (
    inorm_relu_pool,
    inorm_relu_pool_jvp,
    inorm_relu_pool_nhwc,
)
from nsdbench.ops.reconstruct import reconstruct, reconstruct_jvp

__all__ = [
    "backend",
    "dsa",
    "dsa_backward",
    "dsa_jvp",
    "inorm_relu_pool",
    "inorm_relu_pool_jvp",
    "inorm_relu_pool_nhwc",
    "is_native",
    "reconstruct",
    "reconstruct_jvp",
]
