"""ConvNet: the network on which dataset distillation is measured.

depth x [conv 3x3 -> norm -> ReLU -> 2x2 mean pool] -> flatten -> linear. The first convolution
pads 3 instead of 1 when images have one channel, so that 28 px grey images become 32 px maps.
Reference: networks.py of the dataset condensation and MTT codes.

On the CPU the blocks run as one native operator (ops/convnet.py) wherever that computes the same
function; parameters, state dicts and derivatives are those of the modules.
"""

import torch
from torch import nn

from nsdbench.models.classifier import ImageClassifier, norm_layer, too_small
from nsdbench.ops import convnet as native

PUBLISHED_WIDTH = 128
PUBLISHED_DEPTH = 3


class ConvNet(ImageClassifier):
    """Build a ConvNet of any depth and width.

    Attributes:
        depth, width, norm: as given, so that a specialised implementation can recognise it.

    Parameter order: per block conv.weight, conv.bias, norm.weight, norm.bias; classifier last.
    """

    def __init__(
        self,
        in_channels: int,
        image_size: int,
        num_classes: int,
        *,
        width: int = PUBLISHED_WIDTH,
        depth: int = PUBLISHED_DEPTH,
        norm: str = "instance_norm",
    ) -> None:
        padding = first_padding(in_channels)
        map_size = image_size + 2 * (padding - 1)
        if map_size < 2**depth:
            raise too_small(
                f"a ConvNet of depth {depth}",
                image_size,
                max(1, 2**depth - 2 * (padding - 1)),
                "every block halves the image; choose a smaller depth or larger images",
            )
        layers: list[nn.Module] = []
        channels = in_channels
        for block in range(depth):
            layers += [
                nn.Conv2d(channels, width, kernel_size=3, padding=padding if block == 0 else 1),
                norm_layer(norm, width),
                nn.ReLU(),
                nn.AvgPool2d(kernel_size=2, stride=2),
            ]
            channels = width
            map_size //= 2
        super().__init__(
            nn.Sequential(*layers),
            width * map_size * map_size,
            num_classes,
            (in_channels, image_size, image_size),
        )
        self.depth = depth
        self.width = width
        self.norm = norm

    def embed(self, x: torch.Tensor) -> torch.Tensor:
        """Map images [B, C, H, W] to the flat features [B, F] the classifier sees."""
        self.check_images(x)
        shape = native_shape(self)
        tensors = (x, *self.features.parameters())
        if shape is None or len(x) == 0 or not _can_run_natively(tensors):
            return self.features(x).flatten(1)
        theta = torch.cat([parameter.reshape(-1) for parameter in tensors[1:]])
        return native.convnet_features(theta, x, shape)


def native_shape(model: nn.Module) -> native.ConvNetShape | None:
    """Describe a model to the native operators; None where they do not compute its function.

    They do for an unchanged ConvNet with instance norm and at most 4 channels in, without hooks
    on its modules, unless NSDBENCH_NATIVE=0.
    """
    if type(model) is not ConvNet or model.norm != "instance_norm" or not native.is_enabled():
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
    if any(norm.eps != native.NORM_EPS or not norm.affine for norm in blocks[1 :: len(_BLOCK)]):
        return None
    return native.ConvNetShape(model.depth, model.width, first_padding(in_channels))


_BLOCK = (nn.Conv2d, nn.GroupNorm, nn.ReLU, nn.AvgPool2d)


def is_native_tensor(tensor: torch.Tensor) -> bool:
    """Say whether the native operators take tensors of this device and dtype."""
    return tensor.device.type == "cpu" and tensor.dtype in (torch.float32, torch.float64)


def code_path(model: nn.Module) -> str:
    """Name the implementation of a model's forward and backward pass; records keep it.

    Returns:
        "native" or "generic".
    """
    is_native = native_shape(model) is not None and all(map(is_native_tensor, model.parameters()))
    return "native" if is_native else "generic"


def _can_run_natively(tensors: tuple[torch.Tensor, ...]) -> bool:
    return (
        all(map(is_native_tensor, tensors))
        and len({tensor.dtype for tensor in tensors}) == 1
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
    )


def first_padding(in_channels: int) -> int:
    """Padding of the first 3x3 convolution: 3 for grey images, else 1 (reference networks)."""
    return 3 if in_channels == 1 else 1
