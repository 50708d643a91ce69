"""Draw a network's parameters from a generator, with the distributions of its framework's defaults.

kaiming_uniform: PyTorch's. Weights of convolutions and linear layers are Kaiming uniform with
a = sqrt 5, which is U(-b, b) with b = 1/sqrt(fan_in); so are their biases. Most reference networks
use exactly these, but from the global generator, which no run can replay.
lecun_normal: Flax's. Weights have mean 0 and variance 1/fan_in, from a normal distribution that is
cut off at two of its standard deviations; biases are 0.
wide_normal: that of kernel methods. Weights are N(0, 2/fan_in), biases N(0, 0.01), so that the
network's wide limit is a kernel with W_std = sqrt 2 and b_std = 0.1 (KIP; RFAD reference code).
transformer: that of vision transformers. Weights of linear layers and embeddings are N(0, 0.02^2),
cut off at +-2, biases 0; convolutions as kaiming_uniform (DeiT and timm, vision_transformer.py).

Norms have scale 1 and shift 0.
"""

from collections.abc import Callable

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from nsdbench.models.nets.own import OwnNetwork

WEIGHT_VARIANCE = 2.0  # of wide_normal, times fan_in
BIAS_VARIANCE = 0.01  # of wide_normal
TRANSFORMER_STD = 0.02


def initialize(model: nn.Module, generator: torch.Generator) -> None:
    """Re-draw every parameter of a network, in the order of modules().

    Draws are made on the CPU in float32 and then copied, so a seed gives the same network on every
    device and, up to rounding, in every dtype.

    Args:
        model: convolutions, linear layers, group, batch and layer norms, embeddings of a
            transformer, and modules without parameters;
            its attribute `initialization` names one of `DISTRIBUTIONS`, the first if it has none.
            A user's own network (`OwnNetwork`) draws its parameters as its code says.
        generator: a CPU generator; it is advanced.

    Raises:
        ValueError: some module holds parameters whose default distribution is not known here.
    """
    if isinstance(model, OwnNetwork):
        model.redraw(generator)
        return
    draw = DISTRIBUTIONS[getattr(model, "initialization", "kaiming_uniform")]
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            draw(module, generator)
        elif isinstance(module, nn.Embedding):
            _small_normal(module, generator)
        elif isinstance(module, nn.GroupNorm | _BatchNorm | nn.LayerNorm):
            if module.weight is not None:
                nn.init.ones_(module.weight)
                nn.init.zeros_(module.bias)
            if isinstance(module, _BatchNorm):
                module.reset_running_stats()
        elif any(True for _ in module.parameters(recurse=False)):
            raise ValueError(
                f"module {name!r} is a {type(module).__name__}: only convolutions, linear layers, "
                "embeddings, group, batch and layer norms can be initialised from a generator"
            )


def _kaiming_uniform(module: nn.Conv2d | nn.Linear, generator: torch.Generator) -> None:
    bound = module.weight[0].numel() ** -0.5
    for parameter in (module.weight, module.bias):
        if parameter is not None:
            draw = torch.rand(parameter.shape, generator=generator, dtype=torch.float32)
            with torch.no_grad():
                parameter.copy_(draw.mul_(2 * bound).sub_(bound))


def _lecun_normal(module: nn.Conv2d | nn.Linear, generator: torch.Generator) -> None:
    draw = torch.empty(module.weight.shape)
    nn.init.trunc_normal_(draw, std=1.0, a=-2.0, b=2.0, generator=generator)
    with torch.no_grad():
        module.weight.copy_(draw.mul_(module.weight[0].numel() ** -0.5 / _STD_WITHIN_TWO))
    if module.bias is not None:
        nn.init.zeros_(module.bias)


def _wide_normal(module: nn.Conv2d | nn.Linear, generator: torch.Generator) -> None:
    scales = (WEIGHT_VARIANCE / module.weight[0].numel()) ** 0.5, BIAS_VARIANCE**0.5
    for parameter, scale in zip((module.weight, module.bias), scales, strict=True):
        if parameter is not None:
            draw = torch.randn(parameter.shape, generator=generator, dtype=torch.float32)
            with torch.no_grad():
                parameter.copy_(draw.mul_(scale))


def _transformer(module: nn.Conv2d | nn.Linear, generator: torch.Generator) -> None:
    if isinstance(module, nn.Conv2d):
        _kaiming_uniform(module, generator)
        return
    _small_normal(module, generator)
    if module.bias is not None:
        nn.init.zeros_(module.bias)


def _small_normal(module: nn.Linear | nn.Embedding, generator: torch.Generator) -> None:
    draw = torch.empty(module.weight.shape)
    nn.init.trunc_normal_(draw, std=TRANSFORMER_STD, a=-2.0, b=2.0, generator=generator)
    with torch.no_grad():
        module.weight.copy_(draw)


# standard deviation of a standard normal variable that is cut off at +-2
_STD_WITHIN_TWO = 0.87962566103423978
DISTRIBUTIONS: dict[str, Callable[[nn.Conv2d | nn.Linear, torch.Generator], None]] = {
    "kaiming_uniform": _kaiming_uniform,
    "lecun_normal": _lecun_normal,
    "wide_normal": _wide_normal,
    "transformer": _transformer,
}
