"""Build a network by name and sizes, by architecture id, or for a data set."""

from pkgutil import resolve_name
from typing import Protocol

from nsdbench.models import own
from nsdbench.models.ids import NETWORKS, check_norm, look_up, parse_id
from nsdbench.models.nets.classifier import ImageClassifier
from nsdbench.models.nets.own import OwnNetwork, build_own

AnyNetwork = ImageClassifier | OwnNetwork


class HasImages(Protocol):
    """What a network has to know of a data set."""

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""

    @property
    def num_classes(self) -> int:
        """Number of logits."""


def build(
    name: str,
    *,
    in_channels: int,
    image_size: int,
    num_classes: int,
    width: int | None = None,
    depth: int | None = None,
    norm: str = "instance_norm",
) -> AnyNetwork:
    """Build a network exactly as the dataset distillation literature defines it.

    Like every PyTorch module it is born with parameters from the global generator; call
    `initialize(model, generator)` for parameters a seed decides.

    Args:
        name: "convnet", "resnet10", "resnet18", "resnet18_ap", "resnet34", "vgg11", "vgg16",
            "alexnet", "alexnet_ap", "convnet_frepo", "convnet_plain", "lenet", "mlp" or "vit_tiny",
            or a factory of the user's own, "path/to/file.py:Factory" (see `own`).
        in_channels: channels of the images; with 1, the first convolution of ConvNet, LeNet and
            all VGGs and AlexNets pads by 2 more (28 px images are as 32 px ones).
        image_size: height and width of the images in pixels.
        num_classes: number of logits.
        width: channels of the first convolution; all other layers scale with it, so that
            width 16 of "alexnet" is a network with an eighth of the published channels.
            None: what `NETWORKS` says, such as 128 for the ConvNets and AlexNets.
        depth: blocks of the ConvNets, None: 3. The other networks have a fixed depth.
        norm: "instance_norm" (the literature's default: group norm with a group per channel),
            "batch_norm" or "none". AlexNet, convnet_plain, LeNet, the MLP and ViT-tiny have no norm
            layer to choose and take only the default.

    Returns:
        The network; parameters() follow the order of the reference networks, `embed(x)` gives
        the flat features before the classifier.

    Raises:
        ValueError: an unknown name or norm, an image too small for the network, a width that does
            not scale to whole channels, a depth or norm the network does not have; of a user's
            network as `build_own` says.
    """
    if name not in NETWORKS and own.is_own(name):
        return build_own(
            name,
            in_channels=in_channels,
            image_size=image_size,
            num_classes=num_classes,
            width=width,
            depth=depth,
            norm=norm,
        )
    network = look_up(name, depth)
    check_norm(name, norm)
    sizes = {
        "in_channels": in_channels,
        "image_size": image_size,
        "num_classes": num_classes,
        "width": network.width if width is None else width,
    }
    if network.depth is not None:
        sizes["depth"] = network.depth if depth is None else depth
    for argument, size in sizes.items():
        if size < 1:
            raise ValueError(f"{argument} must be at least 1, got {size}")
    if network.norms:
        return resolve_name(network.path)(**sizes, norm=norm)
    return resolve_name(network.path)(**sizes)


def from_id(identifier: str, *, in_channels: int, image_size: int, num_classes: int) -> AnyNetwork:
    """Build the network an architecture id names, such as "convnet3-w128-bn" or "alexnet-w16".

    Raises:
        ValueError: as `parse_id` and `build`.
    """
    name, depth, width, norm = parse_id(identifier)
    return build(
        name,
        in_channels=in_channels,
        image_size=image_size,
        num_classes=num_classes,
        width=width,
        depth=depth,
        norm=norm,
    )


def for_dataset(identifier: str, dataset: HasImages) -> AnyNetwork:
    """Build the network of an architecture id for the images and classes of a data set.

    Args:
        identifier: for example "convnet3-w128".
        dataset: a data set or its specification.

    Raises:
        ValueError: as `from_id`.
    """
    channels, image_size, _ = dataset.image_shape
    return from_id(
        identifier,
        in_channels=channels,
        image_size=image_size,
        num_classes=dataset.num_classes,
    )
