"""Kernel ridge regression from decoded images to real ones, and the losses of what it predicts.

    f = K_ts (K_ss + lambda I)^-1 y_s,    lambda = ridge * trace(K_ss) / N

s: the N decoded images, t: real ones; labels y are one-hot less 1/C, or learned. Systems are solved
in double whatever kernels are in. Nguyen et al., Dataset Meta-Learning from Kernel
Ridge-Regression, ICLR 2021; Platt loss: Loo et al., Efficient Dataset Distillation Using Random
Feature Approximation, NeurIPS 2022.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from nsdbench.sets.parameterizations import Parameterization


def centred_labels(classes: Tensor, num_classes: int) -> Tensor:
    """Return one-hot less 1/C: [n] classes to [n, C] float64, rows of sum 0."""
    return F.one_hot(classes, num_classes).double() - 1 / num_classes


def decode_support(
    parameterization: Parameterization,
    num_classes: int,
    batch_syn: int,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Decode the images that a step regresses from.

    Args:
        parameterization: the set.
        num_classes: C.
        batch_syn: images, drawn without replacement; all, in order, if there are no more.
        generator: draws, and decodes.

    Returns:
        images [N, c, H, W], and labels [N, C] that are learned, or else one-hot less 1/C.
    """
    index = None
    if batch_syn < parameterization.num_images:
        index = torch.randperm(parameterization.num_images, generator=generator)[:batch_syn]
        index = index.to(parameterization.labels.device)
    images, classes = parameterization.decode(index, generator)
    learned = parameterization.soft_labels
    if learned is None:
        return images, centred_labels(classes, num_classes)
    return images, learned if index is None else learned[index]


def predict(k_ss: Tensor, k_ts: Tensor, y_s: Tensor, ridge: float) -> Tensor:
    """Predict real labels by the module's formula.

    Args:
        k_ss: [N, N] kernel of the decoded images.
        k_ts: [n, N] kernel of real and decoded ones.
        y_s: [N, C] labels of the decoded ones.
        ridge: in units of the mean diagonal of K_ss.

    Returns:
        [n, C] float64, differentiable in all three.
    """
    k_ss = k_ss.double()
    added = ridge * k_ss.diagonal().mean()
    system = k_ss + added * torch.eye(len(k_ss), dtype=torch.float64, device=k_ss.device)
    return k_ts.double() @ torch.linalg.solve(system, y_s.double())


def squared_loss(predictions: Tensor, classes: Tensor) -> Tensor:
    """Return half the mean over images and classes of (f - y_t)^2 (KIP)."""
    wanted = centred_labels(classes, predictions.shape[1])
    return 0.5 * (predictions - wanted).square().mean()


def platt_loss(predictions: Tensor, classes: Tensor, log_scale: Tensor) -> Tensor:
    """Return the cross-entropy of exp(k) f, k learned (RFAD)."""
    return F.cross_entropy(log_scale.exp() * predictions, classes)
