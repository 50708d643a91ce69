"""Choose the implementation of a student's step for a network."""

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd

from nsdbench import models
from nsdbench.student.convnet_step import STEPS
from nsdbench.student.step import InnerStep

MODES = ("full", "exact", "first_order")


def select_step(model: nn.Module, mode: str, theta: torch.Tensor | None = None) -> InnerStep:
    """Choose the implementation of a step; refuse models whose steps cannot be replayed.

    Args:
        model: the student.
        mode: "full" needs a graph, so it is always generic.
        theta: parameters it will run with, None for the model's own; device and dtype count.
    """
    if mode not in MODES:
        raise ValueError(f"unknown mode {mode!r}; choose one of {', '.join(MODES)}")
    for name, module in model.named_modules():
        keeps_statistics = isinstance(module, _NormBase) and module.track_running_stats
        if module.training and (keeps_statistics or isinstance(module, _DropoutNd | nn.RReLU)):
            raise ValueError(
                f"module {name!r} ({type(module).__name__}) has training-time state, so a step "
                "could not be replayed; use norm='instance_norm', remove dropout, or call "
                "model.eval() first"
            )
    if mode == "full":
        return InnerStep(model)
    path = models.code_path(model, None if theta is None else (theta,))
    shape = models.native_shape(model)
    if path == "generic" or shape is None:
        return InnerStep(model)
    return STEPS[path](model, shape)
