"""ConvNet: the network on which dataset distillation is measured.

depth x [conv 3x3 -> norm -> ReLU -> 2x2 mean pool] -> flatten -> linear. The first convolution
pads 3 instead of 1 when images have one channel, so that 28 px grey images become 32 px maps.
Reference: networks.py of the dataset condensation and MTT codes.

Wherever they compute the same function, operators take the modules' place: `code_path` says which.
Parameters, state dicts and derivatives are those of the modules.
"""

from collections.abc import Sequence

import torch
from torch import nn

from nsdbench.models.nets.classifier import ImageClassifier, norm_layer
from nsdbench.models.shapes import convnet_map, first_padding
from nsdbench.ops import convnet as native
from nsdbench.ops import convnet_blocks as fused
from nsdbench.ops.inorm_relu_pool import EPS


class ConvNet(ImageClassifier):
    """Build a ConvNet of any depth and width.

    Attributes:
        depth, width, norm: as given, so that a specialised implementation can recognise it.

    Parameter order: per block conv.weight, conv.bias, norm.weight, norm.bias; classifier last.
    """

    features: nn.Sequential

    def __init__(
        self,
        in_channels: int,
        image_size: int,
        num_classes: int,
        *,
        width: int,
        depth: int,
        norm: str = "instance_norm",
    ) -> None:
        map_size = convnet_map(in_channels, image_size, depth)
        layers: list[nn.Module] = []
        channels, padding = in_channels, first_padding(in_channels)
        for _ in range(depth):
            layers += [
                nn.Conv2d(channels, width, kernel_size=3, padding=padding),
                norm_layer(norm, width),
                nn.ReLU(),
                nn.AvgPool2d(kernel_size=2, stride=2),
            ]
            channels, padding = width, 1
        super().__init__(
            nn.Sequential(*layers),
            width * map_size * map_size,
            num_classes,
            (in_channels, image_size, image_size),
        )
        self.depth = depth
        self.width = width
        self.norm = norm

    def forward(self, x: torch.Tensor, path: str | None = None) -> torch.Tensor:
        """Map images [B, C, H, W] to logits [B, num_classes]; `path` is as for `embed`."""
        return self.classifier(self.embed(x, path))

    def embed(self, x: torch.Tensor, path: str | None = None) -> torch.Tensor:
        """Map images [B, C, H, W] to the flat features [B, F] the classifier sees.

        Args:
            x: images.
            path: one of those that `code_path` names; None lets it choose. "generic" is
                differentiable any number of times, the others twice.
        """
        self.check_images(x)
        parameters = list(self.features.parameters())
        path = "generic" if len(x) == 0 else path or code_path(self, (x, *parameters))
        if path == "generic" or (shape := native_shape(self)) is None:
            return self.features(x).flatten(1)
        theta = torch.cat([parameter.reshape(-1) for parameter in parameters])
        features = {"native": native.convnet_features, "fused": fused.convnet_features}[path]
        return features(theta, x, shape)


def code_path(model: nn.Module, tensors: Sequence[torch.Tensor] | None = None) -> str:
    """Choose the implementation of a model's forward and backward pass; records keep its name.

    Args:
        model: any network.
        tensors: what it is to run with, None for its own parameters; devices and dtypes count.

    Returns:
        "native": the whole ConvNet is one operator, on the CPU. "fused": the library convolves and
        one operator is the rest of a block, on CUDA. "generic": the modules as they stand, wherever
        the operators do not compute their function, under autocast or torch.compile, and with
        NSDBENCH_NATIVE=0.
    """
    tensors = list(model.parameters()) if tensors is None else tensors
    kinds = {(tensor.device, tensor.dtype) for tensor in tensors}
    if native_shape(model) is None or len(kinds) != 1:
        return "generic"
    device, dtype = kinds.pop()
    if dtype not in (torch.float32, torch.float64) or torch.compiler.is_compiling():
        return "generic"
    path = native.path_on(device)
    is_automatic = path != "generic" and torch.is_autocast_enabled(device.type)
    return "generic" if is_automatic else path


def native_shape(model: nn.Module) -> native.ConvNetShape | None:
    """Describe a model to the ConvNet operators; None where they do not compute its function.

    They do for an unchanged ConvNet with instance norm and at most 4 channels in, without hooks
    on its modules.
    """
    if type(model) is not ConvNet or model.norm != "instance_norm":
        return None
    in_channels = model.image_shape[0]
    if in_channels > native.MAX_IN_CHANNELS or model.depth > native.MAX_DEPTH:
        return None
    blocks = list(model.features)
    if [type(module) for module in blocks] != [*_BLOCK] * model.depth:
        return None
    for module in (model.features, *blocks):
        if module._forward_hooks or module._forward_pre_hooks or module._backward_hooks:
            return None
        if module._backward_pre_hooks:
            return None
    if any(norm.eps != EPS or not norm.affine for norm in blocks[1 :: len(_BLOCK)]):
        return None
    return native.ConvNetShape(model.depth, model.width, first_padding(in_channels))


_BLOCK = (nn.Conv2d, nn.GroupNorm, nn.ReLU, nn.AvgPool2d)
