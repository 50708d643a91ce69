"""The exponential moving average of a module's parameters (FTD, Du et al., CVPR 2023)."""

import torch
from torch import Tensor, nn


class MovingAverage:
    """Average the parameters of a module over its updates.

    average <- decay * average + (1 - decay) * parameter  after every update, from the values the
    parameters have at first.

    Args:
        module: its parameters are read at every update.
        decay: 0 keeps nothing but the last values; None averages nothing, and `apply` does nothing.

    Raises:
        ValueError: decay is not in [0, 1).
    """

    def __init__(self, module: nn.Module, decay: float | None):
        if decay is not None and not 0 <= decay < 1:
            raise ValueError(f"optimiser.ema_decay is {decay}; expected 0 <= ema_decay < 1")
        self._decay = decay
        self._parameters = {} if decay is None else dict(module.named_parameters())
        self._average = {name: p.detach().clone() for name, p in self._parameters.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take the parameters' present values into the average."""
        for name, parameter in self._parameters.items():
            self._average[name].lerp_(parameter, 1 - self._decay)

    @torch.no_grad()
    def apply(self) -> None:
        """Set the parameters to their average."""
        for name, parameter in self._parameters.items():
            parameter.copy_(self._average[name])

    def state_dict(self) -> dict[str, Tensor]:
        """Return the average by the parameters' names."""
        return self._average

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take up an average that `state_dict` returned."""
        for name, average in self._average.items():
            average.copy_(state[name])
