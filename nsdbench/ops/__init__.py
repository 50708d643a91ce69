"""Native operators. Importing this package loads the compiled library.

Each operator is one module here (wrapper with its checks, fake kernel, derivatives), one C++ and
one CUDA implementation under `csrc/`, and one plain-PyTorch twin in `reference.py` (of `dsa` in
`reference_dsa.py`) that the tests compare it with. There is no fallback: without the library,
importing fails with `ExtensionUnavailable`.
"""

from nsdbench.ops import library
from nsdbench.ops.dsa import dsa, dsa_backward, dsa_jvp
from nsdbench.ops.inorm_relu_pool import inorm_relu_pool, inorm_relu_pool_jvp
from nsdbench.ops.reconstruct import reconstruct, reconstruct_jvp
from nsdbench.ops.switch import is_native_enabled

__all__ = [
    "dsa",
    "dsa_backward",
    "dsa_jvp",
    "inorm_relu_pool",
    "inorm_relu_pool_jvp",
    "is_native_enabled",
    "library",
    "reconstruct",
    "reconstruct_jvp",
]
