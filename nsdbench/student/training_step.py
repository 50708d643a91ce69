"""One step of an optimiser on a batch: the plain training of experts, judged networks and pools.

In general it is forward pass, `backward` and `optimiser.step` as they stand. On the CPU one
operator has the gradient of a ConvNet's cross-entropy, and keeps no maps (`vector_of`). On CUDA
loss and gradients are captured once a shape and replayed (graph.py). The optimiser's step follows
as it stands, so that its state, its schedule and its rounding are torch.optim's. On CUDA it is a
handful of launches, made while the replay runs.
"""

import weakref
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from nsdbench import models
from nsdbench.ops import convnet as native
from nsdbench.student import capture
from nsdbench.student.step import has_training_state, repeatable

if TYPE_CHECKING:
    from nsdbench.student.graph import Engine

Loss = Callable[[Tensor, Tensor], Sequence[Tensor]]


def vector_of(model: nn.Module) -> nn.Parameter | None:
    """Make the parameters of a ConvNet on the CPU views of one vector theta [P], and return that.

    A `TrainingStep` can then have loss and gradient from one operator, and its optimiser updates
    one tensor. None where there is no such operator; the network is left as it was.
    """
    if models.code_path(model) != "native":
        return None
    theta = models.flatten(model)
    pieces = models.unflatten(model, theta).values()
    for parameter, piece in zip(model.parameters(), pieces, strict=True):
        parameter.data = piece
    return nn.Parameter(theta)


class TrainingStep:
    """Takes steps of an optimiser on the loss of batches.

    On CUDA cuDNN's algorithms are those that repeat bit for bit. What is not captured there is done
    as everywhere: where a device has no engine (`capture`), where a module has training-time state
    (batch norm, dropout), which a capture would change, in a network of a user's own, whose code
    may decide or draw anew in every step, and after captures that failed.

    Args:
        model: its parameters are trained; they may be overwritten between steps.
        optimiser: of these parameters.
        loss: called as loss(x, y); returns the scalar loss and whatever else is wanted of the
            forward pass. It draws nothing, and reads nothing back from a GPU.
        redirect: called as redirect(x, y) when the gradients are there, to replace them.
        theta: of `vector_of(model)`, and what the optimiser updates: the loss is then the mean
            cross-entropy and nothing else, and `loss` is not called. None: autograd differentiates.

    Attributes:
        optimiser: may be exchanged.
        code_path: of the last step: "graph", or what `models.code_path` names.
    """

    def __init__(
        self,
        model: nn.Module,
        optimiser: torch.optim.Optimizer,
        loss: Loss,
        redirect: Callable[[Tensor, Tensor], None] | None = None,
        theta: nn.Parameter | None = None,
    ) -> None:
        self.optimiser = optimiser
        self.code_path = self._eager_path = models.code_path(model)
        self._parameters = list(model.parameters())
        self._is_replayable = not any(
            has_training_state(module) or isinstance(module, models.OwnNetwork)
            for module in model.modules()
        )
        self._loss = loss
        self._redirect = redirect
        self._theta = theta
        self._shape = None if theta is None else models.native_shape(model)
        self._family = object()  # of its graphs
        self._engines: list[Engine] = []

    def __call__(self, x: Tensor, y: Tensor) -> Sequence[Tensor]:
        """Take a step on images and labels; both are on the model's device.

        Returns:
            What the loss returned, at the parameters before the step; valid until the next call.
        """
        device = self._parameters[0].device
        engine = capture.engine_for(device) if self._is_replayable else None
        found = None if engine is None else self._replay(engine, x, y)
        self.code_path = self._eager_path if found is None else "graph"
        if found is None:
            with repeatable() if device.type == "cuda" else nullcontext():
                found = self._differentiate(x, y)
        self.optimiser.step()
        return found

    def _differentiate(self, x: Tensor, y: Tensor) -> Sequence[Tensor]:
        """Leave the gradients in the parameters, and return what the loss returned."""
        if self._theta is not None and self._shape is not None:
            _, self._theta.grad, loss = native.convnet_step(self._theta, x, y, 0.0, self._shape)
            return (loss,)
        found = self._loss(x, y)
        self.optimiser.zero_grad(set_to_none=True)
        found[0].backward()
        if self._redirect is not None:
            self._redirect(x, y)
        return found

    def _replay(self, engine: "Engine", x: Tensor, y: Tensor) -> Sequence[Tensor] | None:
        """Do the same through an engine; None where it is not captured."""
        if engine not in self._engines:
            self._engines.append(engine)
            weakref.finalize(self, engine.forget, self._family).atexit = False
        # A graph reads the parameters where they were: elsewhere they need another.
        places = tuple(parameter.data_ptr() for parameter in self._parameters)
        results = engine.run(self._family, places, self._to_capture, (x, y))
        if results is None:
            return None
        count = len(results) - len(self._parameters)
        for parameter, gradient in zip(self._parameters, results[count:], strict=True):
            parameter.grad = gradient
        return [result for result in results[:count] if result is not None]

    def _to_capture(self, x: Tensor, y: Tensor) -> list[Tensor | None]:
        with torch.enable_grad(), repeatable():
            found = self._differentiate(x, y)
        gradients = [parameter.grad for parameter in self._parameters]
        for parameter in self._parameters:
            parameter.grad = None
        return [*(tensor.detach() for tensor in found), *gradients]
