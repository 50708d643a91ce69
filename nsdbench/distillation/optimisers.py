"""What distillation descends with: SGD with momentum, Adam, AdaBelief, or LAMB.

A recipe's `optimiser` section names it; one that names none means SGD with its `momentum`.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from nsdbench.errors import nearest


class _WithMoments(torch.optim.Optimizer):
    """An optimiser that keeps two moments of every gradient, and updates tensor by tensor.

    Args:
        params: tensors, or groups with an `lr` of their own.
        lr: step size.
        betas: b1 and b2.
        eps: of the formula.
    """

    _moments: tuple[str, str]  # their names in the state

    def __init__(self, params: Any, lr: float, betas: tuple[float, float], eps: float) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # takes no closure
        """Update every tensor that has a gradient."""
        for group in self.param_groups:
            for tensor in group["params"]:
                if tensor.grad is None:
                    continue
                state = self.state[tensor]
                if not state:
                    state["step"] = torch.tensor(0.0)
                    state |= {name: torch.zeros_like(tensor) for name in self._moments}
                state["step"] += 1
                mean, second = (state[name] for name in self._moments)
                self._update(tensor, tensor.grad, mean, second, int(state["step"]), group)

    def _update(
        self, tensor: Tensor, grad: Tensor, mean: Tensor, second: Tensor, count: int, group: dict
    ) -> None:
        """Update a tensor and its moments in place, in step `count` from 1."""
        raise NotImplementedError


class AdaBelief(_WithMoments):
    """Adam whose second moment is that of the gradient about its running mean.

        m <- b1 m + (1 - b1) g        s <- b2 s + (1 - b2) (g - m)^2 + eps
        p <- p - lr * m / (1 - b1^t) / (sqrt(s / (1 - b2^t)) + eps)

    Zhuang et al., AdaBelief Optimizer, NeurIPS 2020, algorithm 2, without decay or rectification.
    Arguments as of the base class; RFAD's code sets eps to 1e-16.
    """

    _moments = ("mean", "variance")

    def __init__(
        self,
        params: Any,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-16,
    ) -> None:
        super().__init__(params, lr, betas, eps)

    def _update(
        self, tensor: Tensor, grad: Tensor, mean: Tensor, second: Tensor, count: int, group: dict
    ) -> None:
        (b1, b2), eps = group["betas"], group["eps"]
        mean.lerp_(grad, 1 - b1)
        deviation = grad - mean
        second.mul_(b2).addcmul_(deviation, deviation, value=1 - b2).add_(eps)
        scale = (second / (1 - b2**count)).sqrt_().add_(eps)
        tensor.addcdiv_(mean, scale, value=-group["lr"] / (1 - b1**count))


class Lamb(_WithMoments):
    """Adam whose step has the length of what it changes, tensor by tensor, times the rate.

        m <- b1 m + (1 - b1) g        v <- b2 v + (1 - b2) g^2
        u = m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps)
        p <- p - lr * (|p| / |u|) * u

    The ratio is 1 where |p| or |u| is 0. You et al., Large Batch Optimization for Deep Learning,
    ICLR 2020, without decay and without a bound on |p|, as FRePo's code has it from optax.
    Arguments as of the base class; optax sets eps to 1e-6.
    """

    _moments = ("mean", "square")

    def __init__(
        self,
        params: Any,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
    ) -> None:
        super().__init__(params, lr, betas, eps)

    def _update(
        self, tensor: Tensor, grad: Tensor, mean: Tensor, second: Tensor, count: int, group: dict
    ) -> None:
        (b1, b2), eps = group["betas"], group["eps"]
        mean.lerp_(grad, 1 - b1)
        second.mul_(b2).addcmul_(grad, grad, value=1 - b2)
        update = mean / (1 - b1**count) / ((second / (1 - b2**count)).sqrt() + eps)
        lengths = tensor.norm(), update.norm()
        ratio = torch.where(lengths[0] * lengths[1] > 0, lengths[0] / lengths[1], 1.0)
        tensor.sub_(group["lr"] * ratio * update)


def build(settings: Mapping[str, Any], groups: list[dict]) -> torch.optim.Optimizer:
    """Build the optimiser of a recipe's `optimiser` section.

    Args:
        settings: `name`, and `momentum` where it is SGD.
        groups: what is learned, with the learning rate of each.

    Raises:
        ValueError: an unknown name.
    """
    name = settings.get("name", "sgd")
    if name == "sgd":
        return torch.optim.SGD(groups, lr=0.0, momentum=settings["momentum"])
    others = {"adam": torch.optim.Adam, "adabelief": AdaBelief, "lamb": Lamb}
    if name not in others:
        known = ["sgd", *others]
        raise ValueError(
            f"unknown optimiser {name!r}; known: {', '.join(known)}{nearest(name, known)}"
        )
    return others[name](groups, lr=0.0)
