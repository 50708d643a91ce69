"""Count the cost of a network by running it on one image.

That is on torch's meta device, which computes nothing; a user's own code may not work there, and
runs on the CPU.
"""

from functools import lru_cache

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from nsdbench.models.build import from_id
from nsdbench.models.flat import num_parameters
from nsdbench.models.own import split


@lru_cache(maxsize=256)
def count(arch: str, image_shape: tuple[int, int, int], num_classes: int) -> tuple[int, int, int]:
    """Count flops, activations and parameters of any network that can be built.

    Arguments and errors as for `sizes.network_size`; so are the three numbers.
    """
    channels, height, _ = image_shape
    with torch.device("meta" if split(arch) is None else "cpu"), torch.random.fork_rng(devices=[]):
        model = from_id(arch, in_channels=channels, image_size=height, num_classes=num_classes)
        image = torch.zeros(1, *image_shape)
    outputs: list[int] = []

    def add(module: nn.Module, inputs: object, output: object) -> None:
        if isinstance(output, torch.Tensor) and not list(module.children()):
            outputs.append(output.numel())

    for module in model.modules():
        module.register_forward_hook(add)
    model.eval()  # one image has no statistics
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(image)
    return counter.get_total_flops(), sum(outputs), num_parameters(model)
