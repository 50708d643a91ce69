"""One step of a ConvNet student without a graph.

The adjoint is one tangent pass through forward and backward of the network. The forward part of
that pass repeats the step's own forward pass bit for bit.
"""

import torch
from torch import nn

from nsdbench.ops import convnet as native
from nsdbench.ops import convnet_blocks as fused
from nsdbench.ops.convnet import ConvNetShape
from nsdbench.student.step import InnerStep, repeatable


class ConvNetStep(InnerStep):
    """The step of a ConvNet of one shape."""

    def __init__(self, model: nn.Module, shape: ConvNetShape) -> None:
        super().__init__(model)
        self.shape = shape


class NativeStep(ConvNetStep):
    """The step of a ConvNet as one operator, on the CPU (ops/convnet.py)."""

    name = "native"

    def gradient(self, theta: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Compute g = grad_theta L(theta; x, y)."""
        return native.convnet_step(theta, x, y, 0.0, self.shape)[1]

    def advance(
        self,
        theta: torch.Tensor,
        velocity: torch.Tensor | None,
        x: torch.Tensor,
        y: torch.Tensor,
        lr: torch.Tensor,
        momentum: float,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Take the step; return theta_{k+1} and m_{k+1}."""
        theta, velocity, _ = native.convnet_step(
            theta,
            x,
            y,
            lr.item(),
            self.shape,
            velocity=velocity if momentum else None,
            momentum=momentum,
        )
        return theta, velocity

    def adjoint(
        self,
        theta: torch.Tensor,
        x: torch.Tensor,
        y: torch.Tensor,
        direction: torch.Tensor,
        needs: tuple[bool, bool, bool],
    ) -> tuple[torch.Tensor, list[torch.Tensor | None]]:
        """Compute <g, p> and the derivatives of the gradients along p, as InnerStep.adjoint."""
        _, along, gradients = native.convnet_step_adjoint(theta, x, y, direction, self.shape, needs)
        return along, gradients


class FusedStep(ConvNetStep):
    """The step of a ConvNet with the library's convolutions, on CUDA (ops/convnet_blocks.py)."""

    name = "fused"

    def gradient(self, theta: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Compute g = grad_theta L(theta; x, y)."""
        with repeatable():
            return fused.convnet_gradient(theta, x, y, self.shape)

    def adjoint(
        self,
        theta: torch.Tensor,
        x: torch.Tensor,
        y: torch.Tensor,
        direction: torch.Tensor,
        needs: tuple[bool, bool, bool],
    ) -> tuple[torch.Tensor, list[torch.Tensor | None]]:
        """Compute <g, p> and the derivatives of the gradients along p, as InnerStep.adjoint."""
        with repeatable():
            return fused.convnet_adjoint(theta, x, y, direction, self.shape, needs)


STEPS = {step.name: step for step in (NativeStep, FusedStep)}
