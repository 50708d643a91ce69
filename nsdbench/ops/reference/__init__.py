"""The operators in plain PyTorch, written to be read: what the compiled code must agree with.

They serve where the compiled code is switched off (NSDBENCH_NATIVE=0) and check no arguments: the
public operators do that.
"""

from nsdbench.ops.reference.convnet import (
    convnet_features,
    convnet_loss,
    convnet_step,
    convnet_step_adjoint,
)
from nsdbench.ops.reference.dsa import dsa, dsa_backward, dsa_jvp
from nsdbench.ops.reference.inorm_relu_pool import inorm_relu_pool, inorm_relu_pool_jvp
from nsdbench.ops.reference.reconstruct import mode_product, reconstruct, reconstruct_jvp

__all__ = [
    "convnet_features",
    "convnet_loss",
    "convnet_step",
    "convnet_step_adjoint",
    "dsa",
    "dsa_backward",
    "dsa_jvp",
    "inorm_relu_pool",
    "inorm_relu_pool_jvp",
    "mode_product",
    "reconstruct",
    "reconstruct_jvp",
]
