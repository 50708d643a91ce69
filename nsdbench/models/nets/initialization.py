"""Draw a network's parameters from a generator, with PyTorch's default distributions.

Convolution and linear weights: Kaiming uniform with a = sqrt 5, which is U(-b, b) with
b = 1/sqrt(fan_in); their biases: the same bound; norms: scale 1, shift 0. The reference networks
use exactly these defaults, but from the global generator, which no run can replay.
"""

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def initialize(model: nn.Module, generator: torch.Generator) -> None:
    """Re-draw every parameter of a network, in the order of modules().

    Draws are made on the CPU in float32 and then copied, so a seed gives the same network on every
    device and, up to rounding, in every dtype.

    Args:
        model: convolutions, linear layers, group and batch norms, and modules without parameters.
        generator: a CPU generator; it is advanced.

    Raises:
        ValueError: some module holds parameters whose default distribution is not known here.
    """
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            bound = module.weight[0].numel() ** -0.5
            _uniform(module.weight, bound, generator)
            if module.bias is not None:
                _uniform(module.bias, bound, generator)
        elif isinstance(module, nn.GroupNorm | _BatchNorm):
            if module.affine:
                nn.init.ones_(module.weight)
                nn.init.zeros_(module.bias)
            if isinstance(module, _BatchNorm):
                module.reset_running_stats()
        elif any(True for _ in module.parameters(recurse=False)):
            raise ValueError(
                f"module {name!r} is a {type(module).__name__}: only convolutions, linear layers, "
                "group and batch norms can be initialised from a generator"
            )


def _uniform(parameter: torch.Tensor, bound: float, generator: torch.Generator) -> None:
    draw = torch.rand(parameter.shape, generator=generator, dtype=torch.float32)
    with torch.no_grad():
        parameter.copy_(draw.mul_(2 * bound).sub_(bound))
