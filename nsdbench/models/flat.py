"""One vector theta for all parameters of a network, in the order of parameters().

Trajectories, matching losses and the unrolled student all see networks as one flat vector [P].
"""

import torch
from torch import nn
from torch.func import functional_call

from nsdbench.models.nets.convnet import ConvNet


def num_parameters(model: nn.Module) -> int:
    """Count the scalar parameters P of a network."""
    return sum(parameter.numel() for parameter in model.parameters())


def flatten(model: nn.Module) -> torch.Tensor:
    """Copy all parameters into one detached vector theta [P], in the order of parameters()."""
    return torch.cat([parameter.detach().reshape(-1) for parameter in model.parameters()])


def unflatten(model: nn.Module, theta: torch.Tensor) -> dict[str, torch.Tensor]:
    """View theta [P] as the network's named parameters; differentiable in theta.

    Raises:
        ValueError: theta is not a vector of the network's length.
    """
    named = list(model.named_parameters())
    sizes = [parameter.numel() for _, parameter in named]
    if theta.dim() != 1 or theta.numel() != sum(sizes):
        raise ValueError(
            f"theta has shape {list(theta.shape)}; the network has {sum(sizes)} parameters, so "
            f"theta must be a vector [{sum(sizes)}]"
        )
    # One split instead of many slices: its backward is a single concatenation.
    pieces = theta.split(sizes)
    return {
        name: piece.view(parameter.shape)
        for (name, parameter), piece in zip(named, pieces, strict=True)
    }


def functional(
    model: nn.Module, theta: torch.Tensor, x: torch.Tensor, *, path: str | None = None
) -> torch.Tensor:
    """Compute the logits [B, K] of images x [B, C, H, W] with theta [P] as parameters.

    Differentiable in theta and x; the network's own parameters are neither read nor written.
    `path` is the code path of a ConvNet, None for the one that `models.code_path` names.

    Raises:
        ValueError: theta is not a vector of the network's length.
    """
    options = {"path": path} if path is not None and type(model) is ConvNet else {}
    return functional_call(model, unflatten(model, theta), (x,), options)


def load_flat(model: nn.Module, theta: torch.Tensor) -> None:
    """Copy theta [P] into the network's parameters.

    Raises:
        ValueError: theta is not a vector of the network's length.
    """
    pieces = unflatten(model, theta.detach())
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(pieces[name])
