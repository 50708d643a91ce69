"""Channels and map sizes of the networks, shared by their classes and by `sizes`.

Nothing here imports torch.
"""

ALEXNET_CHANNELS = (128, 192, 256, 192, 192)
VGG11_STAGES = ((64,), (128,), (256, 256), (512, 512), (512, 512))  # a pool after each
RESNET18_STAGES = ((64, 1), (128, 2), (256, 2), (512, 2))  # channels, stride


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


def vgg11_map(in_channels: int, image_size: int) -> int:
    """Return the side of VGG11's last map.

    Raises:
        ValueError: the images are too small.
    """
    added = 2 * (first_padding(in_channels) - 1)
    if image_size + added < 32:
        raise too_small("VGG11", image_size, 32 - added, "it halves them 5 times")
    return (image_size + added) // 32


def resnet18_map(image_size: int, pools: bool) -> int:
    """Return the side of the map after the last stage of ResNet18, or of ResNet18_AP (`pools`).

    Raises:
        ValueError: the images are too small; an instance norm over one position is constant.
    """
    map_size = image_size // 8 if pools else -(-image_size // 8)
    if map_size < 2:
        name, smallest = ("ResNet18_AP", 16) if pools else ("ResNet18", 9)
        raise too_small(name, image_size, smallest, "its last norm needs a map of 2x2")
    return map_size


def resnet18_pool(map_size: int) -> int:
    """Side of ResNet18's final mean pool: 4, or all of a map that is smaller (below 32 px)."""
    return min(4, map_size)


def too_small(name: str, image_size: int, smallest: int, advice: str) -> ValueError:
    """Make the error for images that a network would shrink to nothing."""
    return ValueError(
        f"{name} needs images of at least {smallest} px, got {image_size} px: {advice}"
    )
