"""Networks less what they were at their start, and how far they have come (KIP, RFAD).

    f(x) - f_0(x),    |theta - theta_0|^2

The wide limit of such a network, trained on the squared error, is kernel regression with its
tangent kernel from a prediction of 0. Reference code of RFAD, training.py.
"""

import copy

import torch
from torch import Tensor, nn


class CentredNetwork(nn.Module):
    """A network whose output starts at 0.

    Args:
        network: initialised; it is trained, a copy of it stays as it is.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.start = copy.deepcopy(network).requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """Return f(x) - f_0(x)."""
        with torch.no_grad():
            before = self.start(x)
        return self.network(x) - before

    def distance(self) -> Tensor:
        """Return |theta - theta_0|^2 over all parameters."""
        pairs = zip(self.network.parameters(), self.start.parameters(), strict=True)
        return torch.stack([(now - start).square().sum() for now, start in pairs]).sum()
