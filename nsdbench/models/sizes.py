"""The cost of a network in closed form: arithmetic, activations, parameters.

Nothing here imports torch, so that plans are made without it. A network that has no formula in
`_WALKS` (a new one, or one that is not ours) is built on torch's meta device and counted there.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from nsdbench.models import shapes
from nsdbench.models.ids import NETWORKS, parse_id


@dataclass(frozen=True)
class NetworkSize:
    """Per image: forward flops and floats of activations; and the number of parameters.

    Flops are two for every multiplication of a convolution or linear layer; all else is left out.
    Activations are the outputs of all layers, norms, ReLU modules, pools and identities included.
    """

    flops: int
    activations: int
    parameters: int


def network_size(arch: str, image_shape: tuple[int, int, int], num_classes: int) -> NetworkSize:
    """Count a network's flops, activations and parameters without computing anything.

    Args:
        arch: architecture id, for example "convnet3-w128".
        image_shape: channels, height, width.
        num_classes: number of logits.

    Raises:
        ValueError: an unknown id, an image that is too small or not square, a width that does not
            scale to whole channels.
    """
    name, depth, width, norm = parse_id(arch)
    channels, height, image_width = image_shape
    if height != image_width:
        raise ValueError(f"networks take square images, got {height} x {image_width} px")
    if name not in _WALKS:
        from nsdbench.models.counting import count

        return NetworkSize(*count(arch, image_shape, num_classes))
    walk = _Walk(channels, height, has_norm=norm != "none")
    _WALKS[name](walk, NETWORKS[name].width if width is None else width, depth or 0)
    walk.linear(num_classes)
    return NetworkSize(walk.flops, walk.activations, walk.parameters)


@dataclass
class _Walk:
    """Follow one image through the layers of a network and add up what they cost.

    Attributes:
        channels, side: of the map that has been reached.
        has_norm: whether norms are more than identities.
        flops, activations, parameters: of the layers passed so far.
    """

    channels: int
    side: int
    has_norm: bool
    flops: int = 0
    activations: int = 0
    parameters: int = 0

    def conv(
        self,
        channels: int,
        kernel_size: int,
        *,
        padding: int | None = None,
        stride: int = 1,
        has_bias: bool = True,
    ) -> None:
        """Pass a convolution; the padding is that which keeps the map, unless it is given."""
        padding = kernel_size // 2 if padding is None else padding
        weights = self.channels * channels * kernel_size**2
        self.side = (self.side + 2 * padding - kernel_size) // stride + 1
        self.channels = channels
        self.flops += 2 * weights * self.side**2
        self.parameters += weights + (channels if has_bias else 0)
        self.keep()

    def norm(self) -> None:
        """Pass a norm with scale and shift, or what stands in its place."""
        self.parameters += 2 * self.channels if self.has_norm else 0
        self.keep()

    def pool(self, size: int) -> None:
        """Pass a pool of `size` x `size`; 1 is an identity."""
        self.side //= size
        self.keep()

    def keep(self) -> None:
        """Pass a layer whose output has the shape of the map: a ReLU, or an identity."""
        self.activations += self.channels * self.side**2

    def linear(self, num_classes: int) -> None:
        """Pass the classifier."""
        features = self.channels * self.side**2
        self.flops += 2 * features * num_classes
        self.parameters += features * num_classes + num_classes
        self.activations += num_classes


def _convnet(walk: _Walk, width: int, depth: int) -> None:
    shapes.convnet_map(walk.channels, walk.side, depth)
    padding = shapes.first_padding(walk.channels)
    for _ in range(depth):
        walk.conv(width, 3, padding=padding)
        walk.norm()
        walk.keep()
        walk.pool(2)
        padding = 1


def _convnet_frepo(walk: _Walk, width: int, depth: int) -> None:
    shapes.convnet_map(walk.channels, walk.side, depth)
    padding = shapes.first_padding(walk.channels)
    for block in range(depth):
        if block:
            walk.norm()
        walk.conv(width * 2**block, 3, padding=padding)
        walk.keep()
        walk.pool(2)
        padding = 1


def _convnet_plain(walk: _Walk, width: int, depth: int) -> None:
    shapes.plain_convnet_map(walk.side, depth)
    for _ in range(depth):
        walk.conv(width, 3)
        walk.keep()
        walk.pool(2)


def _alexnet(walk: _Walk, width: int, depth: int, has_norm: bool = False) -> None:
    shapes.alexnet_map(walk.channels, walk.side)
    padding, stride = shapes.first_padding(walk.channels, 5), shapes.alexnet_stride(walk.side)
    for layer, published in enumerate(shapes.ALEXNET_CHANNELS):
        channels = shapes.scaled_channels(published, width, NETWORKS["alexnet"].width)
        walk.conv(channels, 5 if layer < 2 else 3, padding=padding, stride=stride)
        if has_norm:
            walk.norm()
        walk.keep()
        if layer in (0, 1, 4):
            walk.pool(2)
        padding, stride = 2 if layer == 0 else 1, 1


def _vgg11(walk: _Walk, width: int, depth: int) -> None:
    shapes.vgg11_map(walk.channels, walk.side)
    padding = shapes.first_padding(walk.channels)
    for stage in shapes.VGG11_STAGES:
        for published in stage:
            channels = shapes.scaled_channels(published, width, NETWORKS["vgg11"].width)
            walk.conv(channels, 3, padding=padding)
            walk.norm()
            walk.keep()
            padding = 1
        walk.pool(2)


def _resnet18(walk: _Walk, width: int, depth: int) -> None:
    map_size = shapes.resnet18_map(walk.side, pools=False)
    _residual_stages(walk, width, pools=False)
    walk.pool(shapes.resnet18_pool(map_size))


def _resnet18_ap(walk: _Walk, width: int, depth: int) -> None:
    shapes.resnet18_map(walk.side, pools=True)
    _residual_stages(walk, width, pools=True)


def _residual_stages(walk: _Walk, width: int, pools: bool) -> None:
    """Pass the stem and the four stages of two blocks; ReLUs within blocks are no modules."""
    published_width = NETWORKS["resnet18"].width
    walk.conv(width, 3, has_bias=False)
    walk.norm()
    walk.keep()
    for published, stride in shapes.RESNET18_STAGES:
        channels = shapes.scaled_channels(published, width, published_width)
        _residual_block(walk, channels, stride, pools)
        _residual_block(walk, channels, 1, pools)


def _residual_block(walk: _Walk, channels: int, stride: int, pools: bool) -> None:
    conv_stride, pool = (1, stride) if pools else (stride, 1)
    start = walk.channels, walk.side
    walk.conv(channels, 3, stride=conv_stride, has_bias=False)
    walk.norm()
    walk.pool(pool)
    walk.conv(channels, 3, has_bias=False)
    walk.norm()
    if start == (walk.channels, walk.side):
        walk.keep()
        return
    walk.channels, walk.side = start  # the shortcut ends where the branch does
    walk.conv(channels, 1, stride=conv_stride, has_bias=False)
    walk.pool(pool)
    walk.norm()


_WALKS: dict[str, Callable[[_Walk, int, int], None]] = {
    "convnet": _convnet,
    "convnet_frepo": _convnet_frepo,
    "convnet_plain": _convnet_plain,
    "resnet18": _resnet18,
    "resnet18_ap": _resnet18_ap,
    "vgg11": _vgg11,
    "alexnet": _alexnet,
    "alexnet_ap": partial(_alexnet, has_norm=True),
}
