"""What the ConvNet operators require of their arguments, and the errors that say so."""

from dataclasses import dataclass
from typing import NoReturn

import torch
from torch import Tensor

from nsdbench.ops.backend import DTYPES

MAX_DEPTH = 8
MAX_IN_CHANNELS = 4


@dataclass(frozen=True)
class ConvNetShape:
    """What the operators need to know about a ConvNet besides theta and the images.

    Attributes:
        depth: blocks of convolution, instance norm, ReLU and pool, 1 to MAX_DEPTH.
        width: channels of every block, at least 1.
        padding: of the first convolution, at least 1.

    Raises:
        ValueError: a number is out of its range.
    """

    depth: int
    width: int
    padding: int

    def __post_init__(self) -> None:
        for name in ("depth", "width", "padding"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                _refuse(f"{name}: expected a whole number of at least 1, got {value}")
        if self.depth > MAX_DEPTH:
            _refuse(f"depth: expected 1 to {MAX_DEPTH}, got {self.depth}")

    def map_sizes(self, x: Tensor) -> list[tuple[int, int]]:
        """List the sizes of the maps that the blocks normalise, then that of the features."""
        grown = 2 * self.padding - 2
        height, width = x.shape[2] + grown, x.shape[3] + grown
        return [(height >> layer, width >> layer) for layer in range(self.depth + 1)]

    def num_features(self, x: Tensor) -> int:
        height, width = self.map_sizes(x)[-1]
        return self.width * height * width

    def num_parameters(self, x: Tensor, num_classes: int = 0) -> int:
        first = self.width * (9 * x.shape[1] + 3)
        rest = (self.depth - 1) * self.width * (9 * self.width + 3)
        return first + rest + num_classes * (self.num_features(x) + 1)


def _refuse(text: str) -> NoReturn:
    raise ValueError(f"convnet: {text}")


def check(
    theta: Tensor,
    x: Tensor,
    shape: ConvNetShape,
    **others: tuple[Tensor | None, list[int]],
) -> None:
    """Refuse whatever does not fit, before the native code or the twin sees it.

    `others` maps names to (tensor or None, expected shape).
    """
    check_images(x, shape)
    _check_operands(x, theta=(theta, [shape.num_parameters(x)]), **others)


def check_images(x: Tensor, shape: ConvNetShape) -> None:
    """Refuse images that a network of this shape cannot take."""
    if x.dim() != 4:
        _refuse(f"x: expected 4 dimensions [N, C, H, W], got {list(x.shape)}")
    if x.dtype not in DTYPES:
        _refuse(f"x: expected dtype float32 or float64, got {x.dtype}")
    if not 1 <= x.shape[1] <= MAX_IN_CHANNELS:
        _refuse(f"x: expected 1 to {MAX_IN_CHANNELS} channels, got {list(x.shape)}")
    if min(*x.shape[2:], *shape.map_sizes(x)[-1]) < 1:
        _refuse(f"x: {shape.depth} blocks halve {list(x.shape)} to nothing")


def _check_operands(x: Tensor, **operands: tuple[Tensor | None, list[int]]) -> None:
    for name, (tensor, expected) in operands.items():
        if tensor is None:
            continue
        if list(tensor.shape) != expected:
            _refuse(f"{name}: expected shape {expected}, got {list(tensor.shape)}")
        if tensor.dtype != x.dtype:
            _refuse(f"{name}: expected the dtype of x, {x.dtype}, got {tensor.dtype}")
        if tensor.device != x.device:
            _refuse(f"{name}: expected the device of x, {x.device}, got {tensor.device}")


def check_classifier(
    theta: Tensor, x: Tensor, y: Tensor, shape: ConvNetShape, **others: Tensor | None
) -> None:
    """Refuse what does not fit where there is a classifier; `others` are shaped like theta."""
    check_images(x, shape)
    is_hard = y.dim() == 1 and y.dtype == torch.int64
    if not is_hard and not (y.dim() == 2 and y.dtype == x.dtype):
        _refuse(
            "y: expected classes [N] int64 or probabilities [N, K] with the dtype of x, "
            f"got {list(y.shape)} {y.dtype}"
        )
    if y.device != x.device:
        _refuse(f"y: expected the device of x, {x.device}, got {y.device}")
    if len(y) != len(x):
        _refuse(f"y: expected {len(x)} rows, one an image, got {len(y)}")
    if len(y) < 1:
        _refuse("x: expected at least one image, got none")
    # Of hard labels only theta can tell K.
    num_classes = max(1, num_classes_of(theta, x, shape) if is_hard else y.shape[1])
    expected = [shape.num_parameters(x, num_classes)]
    operands = {"theta": theta, **others}
    _check_operands(x, **{name: (tensor, expected) for name, tensor in operands.items()})
    if y.shape[-1] < 1:
        _refuse(f"y: expected at least one class, got {list(y.shape)}")


def num_classes_of(theta: Tensor, x: Tensor, shape: ConvNetShape) -> int:
    """Return K of the classifier at theta's end."""
    return (theta.numel() - shape.num_parameters(x)) // (shape.num_features(x) + 1)


def check_classes(theta: Tensor, x: Tensor, y: Tensor, shape: ConvNetShape) -> None:
    """Check on the CPU what the compiled operator checks itself: that every class exists."""
    if y.dim() != 1 or y.device.type != "cpu":
        return
    num_classes = num_classes_of(theta, x, shape)
    for position in ((y < 0) | (y >= num_classes)).nonzero().flatten().tolist():
        _refuse(
            f"y: expected classes in [0, {num_classes}), got {y[position].item()} "
            f"at position {position}"
        )
