"""Architecture ids: how cells, records and expert buffers name a network.

A ConvNet's id always carries depth and width ("convnet3-w128"); the other networks carry a width
only when it is not the published one ("alexnet", "alexnet-w16").
"""

import re
from typing import Protocol

from nsdbench.errors import nearest

PUBLISHED_DEPTH = 3  # of the ConvNet
PUBLISHED_WIDTHS = {
    "convnet": 128,
    "resnet18": 64,
    "resnet18_ap": 64,
    "vgg11": 64,
    "alexnet": 128,
}
NAMES = tuple(PUBLISHED_WIDTHS)

_CONVNET = re.compile(r"convnet([1-9]\d*)?(?:-w([1-9]\d*))?")
_OTHER = re.compile(r"(resnet18_ap|resnet18|vgg11|alexnet)(?:-w([1-9]\d*))?")


class HasDefaultDepth(Protocol):
    """The part of a dataset's specification that decides the ConvNet's depth."""

    default_depth: int


def parse_id(identifier: str) -> tuple[str, int | None, int | None]:
    """Split an architecture id into (name, depth, width).

    Returns:
        Depth and width are None where the id leaves the published value unsaid.

    Raises:
        ValueError: not the id of a known architecture.
    """
    match = _CONVNET.fullmatch(identifier)
    if match and match[1] and match[2]:
        return "convnet", int(match[1]), int(match[2])
    match = _OTHER.fullmatch(identifier)
    if match:
        width = int(match[2]) if match[2] else None
        return match[1], None, width
    raise ValueError(
        f"unknown architecture id {identifier!r}; write convnet<depth>-w<width>, for example "
        f"convnet3-w128, or one of {', '.join(NAMES[1:])}, with -w<width> for a narrow variant"
        f"{nearest(identifier, NAMES)}"
    )


def arch_id(name: str, depth: int | None = None, width: int | None = None) -> str:
    """Write the id of a network; None means the published depth or width.

    Raises:
        ValueError: unknown name, or a depth for a network whose depth is fixed.
    """
    check_name(name, depth)
    width = PUBLISHED_WIDTHS[name] if width is None else width
    if name == "convnet":
        return f"convnet{PUBLISHED_DEPTH if depth is None else depth}-w{width}"
    return name if width == PUBLISHED_WIDTHS[name] else f"{name}-w{width}"


def resolve_id(identifier: str, spec: HasDefaultDepth) -> str:
    """Complete an id with a dataset's default ConvNet depth and the published width.

    "convnet" becomes "convnet3-w128" where `spec.default_depth` is 3, "convnet-w32" becomes
    "convnet3-w32", "convnet4" becomes "convnet4-w128"; complete ids are returned as they are.
    """
    match = _CONVNET.fullmatch(identifier)
    if match:
        depth = int(match[1]) if match[1] else spec.default_depth
        return arch_id("convnet", depth, int(match[2]) if match[2] else None)
    return arch_id(*parse_id(identifier))


def check_name(name: str, depth: int | None) -> None:
    """Raise ValueError for an unknown network, or a depth where none can be chosen."""
    if name not in NAMES:
        raise ValueError(
            f"unknown network {name!r}; choose one of {', '.join(NAMES)}{nearest(name, NAMES)}"
        )
    if depth is not None and name != "convnet":
        raise ValueError(f"{name} has a fixed depth; only convnet takes depth (got {depth})")
