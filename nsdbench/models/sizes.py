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

    def linear(self, outputs: int) -> None:
        """Pass a linear layer, such as the classifier; a map is taken as one vector."""
        features = self.channels * self.side**2
        self.flops += 2 * features * outputs
        self.parameters += features * outputs + outputs
        self.activations += outputs
        self.channels, self.side = outputs, 1


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


def _vgg(
    walk: _Walk, width: int, depth: int, name: str, stages: tuple[tuple[int, ...], ...]
) -> None:
    shapes.vgg_map(name, walk.channels, walk.side)
    padding = shapes.first_padding(walk.channels)
    for stage in stages:
        for published in stage:
            channels = shapes.scaled_channels(published, width, NETWORKS["vgg11"].width)
            walk.conv(channels, 3, padding=padding)
            walk.norm()
            walk.keep()
            padding = 1
        walk.pool(2)


def _resnet(
    walk: _Walk, width: int, depth: int, name: str, blocks: tuple[int, ...], pools: bool = False
) -> None:
    """Pass the stem and the four stages of blocks; ReLUs within blocks are no modules."""
    map_size = shapes.resnet_map(name, walk.side, pools)
    published_width = NETWORKS["resnet18"].width
    walk.conv(width, 3, has_bias=False)
    walk.norm()
    walk.keep()
    for (published, stride), count in zip(shapes.RESNET_STAGES, blocks, strict=True):
        channels = shapes.scaled_channels(published, width, published_width)
        for block_stride in (stride, *[1] * (count - 1)):
            _residual_block(walk, channels, block_stride, pools)
    if not pools:
        walk.pool(shapes.resnet_pool(map_size))


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


def _lenet(walk: _Walk, width: int, depth: int) -> None:
    shapes.lenet_map(walk.channels, walk.side)
    channels = [
        shapes.scaled_channels(published, width, NETWORKS["lenet"].width)
        for published in shapes.LENET_LAYERS
    ]
    padding = shapes.lenet_padding(walk.channels)
    for count in channels[:2]:
        walk.conv(count, 5, padding=padding)
        walk.keep()
        walk.pool(2)
        padding = 0
    walk.keep()  # flattened
    for count in channels[2:]:
        walk.linear(count)
        walk.keep()


def _mlp(walk: _Walk, width: int, depth: int) -> None:
    walk.keep()  # flattened
    for _ in range(2):
        walk.linear(width)
        walk.keep()


def _vit_tiny(walk: _Walk, width: int, depth: int) -> None:
    """Pass patches, the tokens that are learned, and the blocks; products of tokens count too."""
    head = shapes.vit_head_channels(width)
    patch = shapes.vit_patch(walk.side)
    walk.conv(width, patch, padding=0, stride=patch)
    patches = walk.side**2
    tokens = patches + 1
    walk.parameters += width + tokens * width  # the class token and the positions
    hidden = shapes.VIT_TINY_EXPANSION * width
    for _ in range(shapes.VIT_TINY_BLOCKS):
        for inputs, outputs in ((width, 3 * width), (width, width), (width, hidden),
                                (hidden, width)):  # fmt: skip
            walk.flops += 2 * tokens * inputs * outputs
            walk.parameters += inputs * outputs + outputs
            walk.activations += tokens * outputs
        walk.flops += 2 * 2 * shapes.VIT_TINY_HEADS * tokens**2 * head
        walk.parameters += 2 * 2 * width  # two layer norms
        walk.activations += 2 * tokens * width + tokens * hidden
    walk.parameters += 2 * width
    walk.activations += tokens * width
    walk.channels, walk.side = width, 1


_WALKS: dict[str, Callable[[_Walk, int, int], None]] = {
    "convnet": _convnet,
    "convnet_frepo": _convnet_frepo,
    "convnet_plain": _convnet_plain,
    "resnet10": partial(_resnet, name="ResNet10", blocks=shapes.RESNET10_BLOCKS),
    "resnet18": partial(_resnet, name="ResNet18", blocks=shapes.RESNET18_BLOCKS),
    "resnet18_ap": partial(_resnet, name="ResNet18_AP", blocks=shapes.RESNET18_BLOCKS, pools=True),
    "resnet34": partial(_resnet, name="ResNet34", blocks=shapes.RESNET34_BLOCKS),
    "vgg11": partial(_vgg, name="VGG11", stages=shapes.VGG11_STAGES),
    "vgg16": partial(_vgg, name="VGG16", stages=shapes.VGG16_STAGES),
    "alexnet": _alexnet,
    "alexnet_ap": partial(_alexnet, has_norm=True),
    "lenet": _lenet,
    "mlp": _mlp,
    "vit_tiny": _vit_tiny,
}
