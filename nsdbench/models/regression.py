"""Regression of a network's outputs on labels that are centred about 0."""

import torch.nn.functional as F
from torch import Tensor


def squared_error(predicted: Tensor, targets: Tensor) -> Tensor:
    """Half of the squared error, summed over classes [n, K] and averaged over rows."""
    return (predicted - targets).square().sum(1).mean() / 2


def scaled_error(predicted: Tensor, targets: Tensor, scale: float) -> Tensor:
    """Mean over rows and classes [n, K] of (prediction - s target)^2 / s^2, s the scale (RFAD)."""
    return (predicted - scale * targets).square().mean() / scale**2


def centred(labels: Tensor, num_classes: int) -> Tensor:
    """Return float32 labels [n, K] less 1/K: classes [n] as one-hot, or probabilities [n, K]."""
    soft = F.one_hot(labels, num_classes) if labels.dim() == 1 else labels
    return soft.float() - 1 / num_classes
