"""Every public operator as a function of its floating-point operands, for tests of all of them."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from nsdbench import ops
from nsdbench.ops import convnet, convnet_blocks
from nsdbench.ops.convnet import ConvNetShape

SHAPE = ConvNetShape(depth=1, width=2, padding=1)
NUM_CLASSES = 3
CLASSES = torch.tensor([0, 2])


def drawn(*shape: int, seed: int = 0) -> Tensor:
    """Draw float64 numbers."""
    generator = torch.Generator().manual_seed(seed + sum(shape))
    return torch.randn(shape, generator=generator, dtype=torch.float64)


X = drawn(2, 2, 4, 4)
SPECTRA = drawn(2, 1, 2, 2, 2)
KERNELS = [drawn(2, size, size + 1) for size in SPECTRA.shape[1:]]
THETA = drawn(SHAPE.num_parameters(X))
THETA_WITH_CLASSIFIER = drawn(SHAPE.num_parameters(X, NUM_CLASSES))
PROBABILITIES = drawn(2, NUM_CLASSES).softmax(1)
CHANNELS = drawn(2)
ANGLES = torch.tensor([[0.2], [-0.1]], dtype=torch.float64)
COLORS = torch.tensor([[0.1, 1.5, 0.7]], dtype=torch.float64)
NOTHING = [None] * 4


@dataclass(frozen=True)
class Call:
    """A function of one operand, and the operand.

    Attributes:
        is_constant: its results are constants: not for torch.func.
        derivatives: of the compiled operator.
    """

    run: Callable[[Tensor], Tensor]
    operand: Tensor
    is_constant: bool = False
    derivatives: int = 3


def _step(theta: Tensor, x: Tensor, y: Tensor) -> Tensor:
    return convnet.convnet_step(theta, x, y, 0.1, SHAPE)[0]


def _adjoint(theta: Tensor, direction: Tensor) -> Tensor:
    return convnet.convnet_step_adjoint(theta, X, CLASSES, direction, SHAPE)[1]


CALLS = {
    "reconstruct of spectra": Call(
        lambda t: ops.reconstruct(t, KERNELS, torch.tensor([5, 0, 5])), SPECTRA
    ),
    "reconstruct of a kernel": Call(
        lambda t: ops.reconstruct(SPECTRA, [None, t, None, KERNELS[3]]), KERNELS[1]
    ),
    "reconstruct_jvp": Call(
        lambda t: ops.reconstruct_jvp(t, KERNELS, None, [KERNELS[0], None, None, None]), SPECTRA
    ),
    "dsa: color": Call(lambda t: ops.dsa(t, "color", COLORS), X),
    "dsa: rotate": Call(lambda t: ops.dsa(t, "rotate", ANGLES), X),
    "dsa_jvp": Call(lambda t: ops.dsa_jvp(t, "rotate", ANGLES), X),
    "dsa_backward": Call(lambda t: ops.dsa_backward(t, "rotate", ANGLES), X),
    "inorm_relu_pool": Call(lambda t: ops.inorm_relu_pool(t, CHANNELS, CHANNELS), X, derivatives=2),
    "inorm_relu_pool_jvp": Call(
        lambda t: ops.inorm_relu_pool_jvp(t, CHANNELS, CHANNELS, X, None, CHANNELS),
        X,
        derivatives=0,
    ),
    "inorm_relu_pool_nhwc": Call(
        lambda t: ops.inorm_relu_pool_nhwc(t.movedim(1, 3), CHANNELS, CHANNELS), X, derivatives=2
    ),
    "convnet_features of theta": Call(
        lambda t: convnet.convnet_features(t, X, SHAPE), THETA, derivatives=2
    ),
    "convnet_features of x": Call(
        lambda t: convnet.convnet_features(THETA, t, SHAPE), X, derivatives=2
    ),
    "features of the blocks": Call(
        lambda t: convnet_blocks.convnet_features(t, X, SHAPE), THETA, derivatives=2
    ),
    "convnet_step of theta": Call(
        lambda t: _step(t, X, CLASSES), THETA_WITH_CLASSIFIER, is_constant=True
    ),
    "convnet_step of y": Call(
        lambda t: _step(THETA_WITH_CLASSIFIER, X, t), PROBABILITIES, is_constant=True
    ),
    "convnet_step of velocity": Call(
        lambda t: convnet.convnet_step(
            THETA_WITH_CLASSIFIER, X, CLASSES, 0.1, SHAPE, velocity=t, momentum=0.5
        )[1],
        THETA_WITH_CLASSIFIER,
        is_constant=True,
    ),
    "convnet_step_adjoint": Call(
        lambda t: _adjoint(t, THETA_WITH_CLASSIFIER), THETA_WITH_CLASSIFIER, is_constant=True
    ),
    "convnet_gradient": Call(
        lambda t: convnet_blocks.convnet_gradient(t, X, CLASSES, SHAPE),
        THETA_WITH_CLASSIFIER,
        is_constant=True,
    ),
    "convnet_adjoint": Call(
        lambda t: convnet_blocks.convnet_adjoint(THETA_WITH_CLASSIFIER, X, CLASSES, t, SHAPE)[0],
        THETA_WITH_CLASSIFIER,
        is_constant=True,
    ),
}
