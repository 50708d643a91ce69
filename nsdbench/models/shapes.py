"""Channels and map sizes of the networks, shared by their classes and by `sizes`.

Nothing here imports torch.
"""

ALEXNET_CHANNELS = (128, 192, 256, 192, 192)
LENET_LAYERS = (6, 16, 120, 84)  # two convolutions, two linear layers
VGG11_STAGES = ((64,), (128,), (256, 256), (512, 512), (512, 512))  # a pool after each
VGG16_STAGES = ((64, 64), (128, 128), (256,) * 3, (512,) * 3, (512,) * 3)
RESNET_STAGES = ((64, 1), (128, 2), (256, 2), (512, 2))  # channels, stride
RESNET10_BLOCKS = (1, 1, 1, 1)  # of each stage
RESNET18_BLOCKS = (2, 2, 2, 2)
RESNET34_BLOCKS = (3, 4, 6, 3)
VIT_TINY_BLOCKS, VIT_TINY_HEADS, VIT_TINY_EXPANSION = 12, 3, 4
_PATCH_SIDES = (16, 8, 4, 2, 1)
_FEWEST_PATCHES = 7  # along a side


def scaled_channels(channels: int, width: int, published_width: int) -> int:
    """Scale a published channel count to a narrow (or wide) variant of the network.

    Raises:
        ValueError: the scaled count is not a whole number.
    """
    scaled, rest = divmod(channels * width, published_width)
    if rest or scaled < 1:
        raise ValueError(
            f"width {width} would turn {channels} channels into "
            f"{channels * width / published_width}; choose a width that keeps every layer whole "
            f"(the published width is {published_width})"
        )
    return scaled


def first_padding(in_channels: int, kernel_size: int = 3) -> int:
    """Padding of the first convolution: 2 more for grey images, so that 28 px make 32 px maps.

    Reference networks: all but the ResNets.
    """
    return kernel_size // 2 + (2 if in_channels == 1 else 0)


def convnet_map(in_channels: int, image_size: int, depth: int) -> int:
    """Return the side of a ConvNet's last map.

    Raises:
        ValueError: the images are too small.
    """
    added = 2 * (first_padding(in_channels) - 1)
    if image_size + added < 2**depth:
        raise too_small(
            f"a ConvNet of depth {depth}",
            image_size,
            max(1, 2**depth - added),
            "every block halves the image; choose a smaller depth or larger images",
        )
    return (image_size + added) // 2**depth


def plain_convnet_map(image_size: int, depth: int) -> int:
    """Return the side of the last map of a ConvNet whose convolutions all pad 1.

    Raises:
        ValueError: the images are too small.
    """
    if image_size < 2**depth:
        raise too_small(
            f"a ConvNet of depth {depth}",
            image_size,
            2**depth,
            "every block halves the image; choose a smaller depth or larger images",
        )
    return image_size // 2**depth


def alexnet_stride(image_size: int) -> int:
    """Stride of AlexNet's first convolution: 2 from 64 px on (DATM's and DD-Ranking's variant)."""
    return 2 if image_size >= 64 else 1


def alexnet_map(in_channels: int, image_size: int) -> int:
    """Return the side of AlexNet's last map.

    Raises:
        ValueError: the images are too small.
    """
    added = 2 * (first_padding(in_channels, 5) - 2)
    if image_size + added < 8:
        raise too_small("AlexNet", image_size, 8 - added, "it halves them 3 times")
    return ((image_size + added - 1) // alexnet_stride(image_size) + 1) // 8


def vgg_map(name: str, in_channels: int, image_size: int) -> int:
    """Return the side of the last map of VGG11 or VGG16, which is the `name` in messages.

    Raises:
        ValueError: the images are too small.
    """
    added = 2 * (first_padding(in_channels) - 1)
    if image_size + added < 32:
        raise too_small(name, image_size, 32 - added, "it halves them 5 times")
    return (image_size + added) // 32


def resnet_map(name: str, image_size: int, pools: bool) -> int:
    """Return the side of the map after the last stage of a ResNet, or of one that `pools`.

    Raises:
        ValueError: the images are too small; an instance norm over one position is constant.
    """
    map_size = image_size // 8 if pools else -(-image_size // 8)
    if map_size < 2:
        raise too_small(name, image_size, 16 if pools else 9, "its last norm needs a map of 2x2")
    return map_size


def resnet_pool(map_size: int) -> int:
    """Side of the final mean pool of a ResNet: 4, or all of a smaller map (below 32 px)."""
    return min(4, map_size)


def lenet_padding(in_channels: int) -> int:
    """Padding of LeNet's first convolution: 28 px grey images make 28 px maps, as 32 px do."""
    return 2 if in_channels == 1 else 0


def lenet_map(in_channels: int, image_size: int) -> int:
    """Return the side of LeNet's last map.

    Raises:
        ValueError: the images are too small.
    """
    added = 2 * lenet_padding(in_channels)
    map_size = ((image_size + added - 4) // 2 - 4) // 2
    if map_size < 1:
        raise too_small("LeNet", image_size, 16 - added, "it crops and halves them twice")
    return map_size


def vit_patch(image_size: int) -> int:
    """Return the side of the patches that ViT-tiny cuts images into.

    The largest of 16, 8, 4, 2 and 1 px that divides the side of the image at least seven times: 16
    at 224 px, as published; for smaller images, for which nothing is published, our choice.

    Raises:
        ValueError: the images are too small.
    """
    for side in _PATCH_SIDES:
        if image_size % side == 0 and image_size // side >= _FEWEST_PATCHES:
            return side
    raise too_small("ViT-tiny", image_size, _FEWEST_PATCHES, "it cuts them into 7x7 patches")


def vit_head_channels(width: int) -> int:
    """Return the channels of each of ViT-tiny's three heads.

    Raises:
        ValueError: the width is no multiple of three.
    """
    channels, rest = divmod(width, VIT_TINY_HEADS)
    if rest:
        raise ValueError(
            f"width {width} does not divide among the {VIT_TINY_HEADS} heads of ViT-tiny; choose a "
            "multiple (the published width is 192)"
        )
    return channels


def too_small(name: str, image_size: int, smallest: int, advice: str) -> ValueError:
    """Make the error for images that a network would shrink to nothing."""
    return ValueError(
        f"{name} needs images of at least {smallest} px, got {image_size} px: {advice}"
    )
