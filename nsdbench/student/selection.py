"""Choose the implementation of a student's step for a network."""

import torch
from torch import nn

from nsdbench import models
from nsdbench.student import capture
from nsdbench.student.convnet_step import STEPS, ConvNetStep, FusedStep
from nsdbench.student.step import InnerStep, has_training_state

MODES = ("full", "exact", "first_order")


def select_step(model: nn.Module, mode: str, theta: torch.Tensor | None = None) -> InnerStep:
    """Choose the implementation of a step; refuse models whose steps cannot be replayed.

    Steps out of the library's convolutions ("fused") are captured once and replayed ("graph")
    where the device has an engine (`capture`) that has not given this network up.

    Args:
        model: the student.
        mode: "full" needs a graph, so it is always generic.
        theta: parameters it will run with, None for the model's own; device and dtype count.
    """
    if mode not in MODES:
        raise ValueError(f"unknown mode {mode!r}; choose one of {', '.join(MODES)}")
    for name, module in model.named_modules():
        if module.training and has_training_state(module):
            raise ValueError(
                f"module {name!r} ({type(module).__name__}) has training-time state, so a step "
                "could not be replayed; use norm='instance_norm', remove dropout, or call "
                "model.eval() first"
            )
    if isinstance(model, models.OwnNetwork) and model.is_random(is_training=model.training):
        way_out = "" if model.is_random(is_training=False) else ", or call model.eval() first"
        raise ValueError(
            f"{model.name} draws at random, so a step could not be replayed; have it draw "
            f"nothing{way_out}"
        )
    if mode == "full":
        return InnerStep(model)
    path = models.code_path(model, None if theta is None else (theta,))
    shape = models.native_shape(model)
    if path == "generic" or shape is None:
        return InnerStep(model)
    step = STEPS[path](model, shape)
    device = next(model.parameters()).device if theta is None else theta.device
    return _captured(step, device) if isinstance(step, FusedStep) else step


def _captured(step: ConvNetStep, device: torch.device) -> InnerStep:
    """Have a device's engine take a step, if it has one and can."""
    engine = capture.engine_for(device)
    if engine is None:
        return step
    from nsdbench.student.graph import GraphStep, family_of

    return step if engine.refuses(family_of(step)) else GraphStep(step, engine)
