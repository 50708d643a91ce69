"""The state of an outer loop, and the file from which a killed run resumes."""

import io
import math
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from nsdbench.distillation import optimisers
from nsdbench.distillation.objectives import Objective
from nsdbench.errors import DataCorrupt
from nsdbench.files import write_atomically
from nsdbench.sets.parameterizations import Parameterization
from nsdbench.sums import open_sealed, sealed

_CURVE_POINTS = 200


@dataclass
class LoopState:
    """All that an outer loop changes; a checkpoint keeps all of it.

    Attributes:
        average: exponential moving average of what is stored over the steps, from its first values
            (FTD, Du et al., CVPR 2023); None where the recipe has no `ema_decay`.
        halved_at: shares of the run after which all rates are halved.
        cosine_to: share of all rates to which they fall over the run, along half a cosine.
    """

    parameterization: Parameterization
    objective: Objective
    optimiser: torch.optim.Optimizer
    average: AveragedModel | None
    halved_at: tuple[float, ...] = ()
    cosine_to: float = 1.0
    step: int = 0
    losses: list[float] = field(default_factory=list)
    seconds: float = 0.0

    @staticmethod
    def start(
        parameterization: Parameterization, objective: Objective, settings: dict
    ) -> "LoopState":
        """Begin a loop: an optimiser with a learning rate per group, see `optimisers`.

        Args:
            parameterization: initialised.
            objective: what is descended.
            settings: the recipe's `optimiser` section.
        """
        groups = parameterization.parameter_groups(settings) + objective.parameter_groups(settings)
        groups = [{**group, "initial_lr": group["lr"]} for group in groups]
        optimiser = optimisers.build(settings, groups)
        average = None
        if "ema_decay" in settings:
            mean = get_ema_multi_avg_fn(settings["ema_decay"])
            average = AveragedModel(parameterization, multi_avg_fn=mean)
            average.update_parameters(parameterization)  # the first call copies
        halved_at = tuple(settings.get("halved_at", ()))
        end = settings.get("cosine_to", 1.0)
        return LoopState(parameterization, objective, optimiser, average, halved_at, end)

    def set_rates(self, iterations: int) -> None:
        """Give every group its rate at this step of that many; nothing to do if it is fixed."""
        factor = 0.5 ** sum(self.step >= share * iterations for share in self.halved_at)
        fallen = (1 - math.cos(math.pi * self.step / iterations)) / 2
        factor *= 1 - (1 - self.cosine_to) * fallen
        for group in self.optimiser.param_groups if factor != 1 else ():
            group["lr"] = group["initial_lr"] * factor

    def summary(self) -> dict:
        """Return the loss curve, thinned to at most `_CURVE_POINTS` points, and its ends."""
        stride = -(-len(self.losses) // _CURVE_POINTS)
        return {
            "iterations": self.step,
            "loss_first": self.losses[0],
            "loss_last": self.losses[-1],
            "curve": [[i, self.losses[i]] for i in range(0, len(self.losses), stride)],
        }

    def save(self, path: Path) -> None:
        """Write the checkpoint by rename."""
        state = {
            "parameterization": self.parameterization.state_dict(),
            "objective": self.objective.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "average": {} if self.average is None else self.average.module.state_dict(),
            "step": self.step,
            "losses": self.losses,
            "seconds": self.seconds,
        }
        content = io.BytesIO()
        torch.save(state, content)
        write_atomically(path, sealed(path, lambda file: file.write(content.getbuffer())))

    def restore(self, path: Path) -> None:
        """Take up the state of a checkpoint.

        Raises:
            OSError: it cannot be read.
            DataCorrupt: it is damaged, or not a checkpoint of this loop. What it was to replace may
                be changed in part: start anew.
        """
        state = read_checkpoint(path)
        try:
            self._take(state)
        except Exception as error:  # of an old file without a sum; torch raises several types
            raise DataCorrupt(f"{path} is no checkpoint of this loop: {_line(error)}") from error

    def _take(self, state: dict) -> None:
        self.parameterization.load_state_dict(state["parameterization"])
        self.objective.load_state_dict(state["objective"])
        self.optimiser.load_state_dict(state["optimiser"])
        if self.average is not None:
            self.average.module.load_state_dict(state["average"])
        self.step = state["step"]
        self.losses = state["losses"]
        self.seconds = state["seconds"]


def read_checkpoint(path: Path) -> dict:
    """Read what `LoopState.save` wrote.

    Raises:
        OSError: it cannot be read.
        DataCorrupt: it is damaged.
    """
    with open_sealed(path, "a checkpoint", old=b"PK") as file:
        content = io.BytesIO(file.read())
    try:
        return torch.load(content, map_location="cpu", weights_only=True)
    except Exception as error:  # of an old file without a sum; torch raises several types
        raise DataCorrupt(f"{path} is damaged: {_line(error)}") from error


def _line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
