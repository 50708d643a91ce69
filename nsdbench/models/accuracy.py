"""Test accuracy, the number that networks are compared by."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

_BATCH = 512


@torch.no_grad()
def accuracy(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    transform: Callable[[Tensor], Tensor],
    device: torch.device | str = "cpu",
    batch_size: int = _BATCH,
) -> float:
    """Return the per cent of images that a network classifies correctly.

    Args:
        model: it is left in evaluation mode.
        images: [n, C, H, W] as they are stored.
        labels: [n] int64.
        transform: maps a batch of images to network inputs.
        device: where the network is.
        batch_size: images that are transformed at a time.
    """
    model.eval()
    correct = 0
    for batch, expected in zip(images.split(batch_size), labels.split(batch_size), strict=True):
        predicted = model(transform(batch).to(device)).argmax(dim=1)
        correct += int((predicted == expected.to(device)).sum())
    return 100 * correct / len(labels)
