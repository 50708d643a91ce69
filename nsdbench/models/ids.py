"""The networks by name, and architecture ids: how cells, records and expert buffers name them.

The id of a network whose depth can be chosen always carries depth and width ("convnet3-w128"); the
others carry a width only when it is not the published one ("alexnet", "alexnet-w16"). At the end
stands a norm that is not the literature's instance norm: "convnet3-w128-bn" has batch norm, with
running statistics, in its place, "convnet3-w128-nonorm" nothing.

A user's own networks have ids of another form, see `own`.

A new network is one module in `nets` and one line of `NETWORKS`.
"""

import re
from dataclasses import dataclass
from typing import Protocol

from nsdbench.errors import nearest
from nsdbench.models import own
from nsdbench.models.own import NORMS as NORMS
from nsdbench.models.own import SUFFIXES, Parts
from nsdbench.registry import plugin


@dataclass(frozen=True)
class Network:
    """Say where a network is and what can be chosen of it.

    Attributes:
        path: "module:class", or a function, to call with in_channels, image_size, num_classes and
            width; with depth where it can be chosen, and with norm where there is a norm layer.
        width: published channels of the first convolution; of the hidden layers of an MLP, of the
            tokens of a ViT.
        depth: published number of blocks; None where the depth is fixed.
        norms: those of `NORMS` that it can have; none where it has no norm layer, or one of its
            own that cannot be chosen (the layer norm of a ViT).
    """

    path: str
    width: int
    depth: int | None = None
    norms: tuple[str, ...] = NORMS


NETWORKS = {
    "convnet": Network("nsdbench.models.nets.convnet:ConvNet", 128, depth=3),
    "resnet10": Network("nsdbench.models.nets.resnet:ResNet10", 64),
    "resnet18": Network("nsdbench.models.nets.resnet:ResNet18", 64),
    "resnet18_ap": Network("nsdbench.models.nets.resnet:ResNet18AP", 64),
    "resnet34": Network("nsdbench.models.nets.resnet:ResNet34", 64),
    "vgg11": Network("nsdbench.models.nets.vgg:VGG11", 64),
    "vgg16": Network("nsdbench.models.nets.vgg:VGG16", 64),
    "alexnet": Network("nsdbench.models.nets.alexnet:AlexNet", 128, norms=()),
    "alexnet_ap": Network("nsdbench.models.nets.alexnet:AlexNetAP", 128),
    "convnet_frepo": Network("nsdbench.models.nets.convnet_frepo:ConvNetFrepo", 128, depth=3),
    "convnet_plain": Network(
        "nsdbench.models.nets.plain_convnet:PlainConvNet", 1024, depth=3, norms=()
    ),
    "lenet": Network("nsdbench.models.nets.lenet:LeNet", 6, norms=()),
    "mlp": Network("nsdbench.models.nets.mlp:MLP", 128, norms=()),
    "vit_tiny": Network("nsdbench.models.nets.vit:ViTTiny", 192, norms=()),
}
NAMES = tuple(NETWORKS)
PUBLISHED_WIDTHS = {name: network.width for name, network in NETWORKS.items()}

_ID = re.compile(rf"({'|'.join(NAMES)})([1-9]\d*)?(?:-w([1-9]\d*))?({'|'.join(SUFFIXES.values())})")


class HasDefaultDepth(Protocol):
    """The part of a dataset's specification that decides the ConvNet's depth."""

    @property
    def default_depth(self) -> int:
        """Number of blocks."""


def parse_id(identifier: str) -> Parts:
    """Split an architecture id into (name, depth, width, norm).

    Returns:
        Depth and width are None where the id leaves the published value unsaid; the norm is one of
        `NORMS`. The name of a user's network holds the digest of its source if the id does.

    Raises:
        ValueError: not the id of a known architecture.
    """
    parts = _match(identifier)
    if parts is None and (users := own.split(identifier)) is not None:
        return users
    if parts is None or (_has_free_depth(parts[0]) and None in parts):
        free = [name for name in NAMES if _has_free_depth(name)]
        fixed = [name for name in NAMES if not _has_free_depth(name)]
        raise ValueError(
            f"unknown architecture id {identifier!r}; write "
            f"{', '.join(f'{name}<depth>-w<width>' for name in free)}, for example "
            f"{arch_id(free[0])}, or one of {', '.join(fixed)}, with -w<width> for a narrow "
            "variant; at the end -bn (batch norm) or -nonorm where the network has a norm layer; "
            f"or path/to/file.py:Factory of your own{nearest(identifier, NAMES)}"
        )
    return parts


def arch_id(
    name: str, depth: int | None = None, width: int | None = None, norm: str = NORMS[0]
) -> str:
    """Write the id of a network; None means the published depth or width.

    Raises:
        ValueError: unknown name, a depth for a network whose depth is fixed, a norm that the
            network does not have, or a user's network without the digest of its source.
    """
    if name not in NETWORKS and "~" in name and own.is_own(name):
        return own.join(name, depth, width, norm)
    network = look_up(name, depth)
    check_norm(name, norm)
    width = network.width if width is None else width
    if network.depth is not None:
        return f"{name}{network.depth if depth is None else depth}-w{width}{SUFFIXES[norm]}"
    return f"{name if width == network.width else f'{name}-w{width}'}{SUFFIXES[norm]}"


def resolve_id(identifier: str, spec: HasDefaultDepth) -> str:
    """Complete an id with a dataset's default depth and the published width.

    "convnet" becomes "convnet3-w128" where `spec.default_depth` is 3, "convnet-w32" becomes
    "convnet3-w32", "convnet4" becomes "convnet4-w128"; complete ids are returned as they are. A
    user's network gets the digest of its source.

    Raises:
        ValueError: as `parse_id`, and `own.with_digest`.
    """
    name, depth, width, norm = _match(identifier) or parse_id(identifier)
    if name not in NETWORKS:
        return own.join(own.with_digest(name), depth, width, norm)
    if _has_free_depth(name) and depth is None:
        depth = spec.default_depth
    return arch_id(name, depth, width, norm)


def look_up(name: str, depth: int | None) -> Network:
    """Look a network up; ValueError if it is unknown, or for a depth where none can be chosen."""
    plugin("network", own.GROUP, name, NETWORKS)  # refuses one of our names
    if name not in NETWORKS:
        if own.is_own(name):
            raise ValueError(
                f"{name} is a user's network: name it with the digest of its source, "
                f"{own.with_digest(name)}, so that its versions are kept apart"
            )
        raise ValueError(
            f"unknown network {name!r}; choose one of {', '.join(NAMES)}{nearest(name, NAMES)}"
        )
    if depth is not None and not _has_free_depth(name):
        free = ", ".join(filter(_has_free_depth, NAMES))
        raise ValueError(f"{name} has a fixed depth; only {free} takes depth (got {depth})")
    return NETWORKS[name]


def check_norm(name: str, norm: str) -> None:
    """Refuse, by a ValueError, a norm that there is not, or that a known network does not have."""
    if norm not in NORMS:
        raise ValueError(f"unknown norm {norm!r}; choose one of {', '.join(NORMS)}")
    norms = NETWORKS[name].norms
    if norm not in (norms or NORMS[:1]):
        has = f"takes {', '.join(norms)}" if norms else "has no norm layer to choose"
        raise ValueError(f"{name} {has}, so norm={norm!r} is not available; leave it out")


def _has_free_depth(name: str) -> bool:
    return NETWORKS[name].depth is not None


def _match(identifier: str) -> Parts | None:
    """Split an id into its parts, as far as it says them; None if it is no id."""
    match = _ID.fullmatch(identifier)
    if match is None or (match[2] and not _has_free_depth(match[1])):
        return None
    norm = next(norm for norm, suffix in SUFFIXES.items() if suffix == match[4])
    if match[4] and norm not in NETWORKS[match[1]].norms:
        return None
    depth, width = (int(digits) if digits else None for digits in match.group(2, 3))
    return match[1], depth, width, norm
