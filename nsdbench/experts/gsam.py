"""GSAM, surrogate-gap minimisation with adaptive sharpness: the experts of FTD.

With g the gradient of the loss at w (Zhuang et al., ICLR 2022; adaptive: Kwon et al., ICML 2021;
eps and the constant rho as in FTD's recording of experts, Du et al., CVPR 2023):

    e  = rho * w^2 g / (| |w| g |_2 + eps)          all products by element
    g' = gradient of the same loss at w + e
    v  = g - <g, g'> / (|g'|^2 + eps) * g'          the part of g that is orthogonal to g'
    direction = g' - alpha * v

Norms and products run over all parameters together.
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

_EPS = 1e-12  # GSAM reference code


def redirect_gradients(
    parameters: Iterable[nn.Parameter], loss: Callable[[], Tensor], rho: float, alpha: float
) -> None:
    """Replace the gradients of parameters by GSAM's direction; the parameters stay as they are.

    Args:
        parameters: with the gradient of the loss in `.grad`.
        loss: computes the scalar loss at the parameters' present values, on the same batch.
        rho: radius of the perturbation.
        alpha: weight of the orthogonal part.
    """
    parameters = list(parameters)
    start = [parameter.detach().clone() for parameter in parameters]
    gradients = [p.grad for p in parameters if p.grad is not None]
    with torch.no_grad():
        scale = rho / (_norm([w.abs() * g for w, g in zip(start, gradients, strict=True)]) + _EPS)
        for parameter, w, g in zip(parameters, start, gradients, strict=True):
            parameter.add_(scale * w.square() * g)
    perturbed = torch.autograd.grad(loss(), parameters)
    with torch.no_grad():
        inner = sum((g * p).sum() for g, p in zip(gradients, perturbed, strict=True))
        share = inner / (_norm(perturbed).square() + _EPS)
        for parameter, w, g, p in zip(parameters, start, gradients, perturbed, strict=True):
            parameter.copy_(w)
            parameter.grad = p - alpha * (g - share * p)


def _norm(tensors: Iterable[Tensor]) -> Tensor:
    """Return the L2 norm of all tensors together."""
    return torch.stack([tensor.norm() for tensor in tensors]).norm()
