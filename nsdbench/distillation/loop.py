"""The outer loop: learn what a parameterization stores by descending an objective.

Every random draw of step k comes from a stream named by (seed, k), so a resumed run repeats an
undisturbed one bit for bit; a checkpoint holds parameters, their moving average if the recipe has
one, optimiser state and the loss curve. The set that is stored is then the average.
"""

import math
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from nsdbench import experts, methods, models, provenance
from nsdbench.data import Dataset, load, preprocessing
from nsdbench.data.training import TrainingData
from nsdbench.distillation import objectives
from nsdbench.distillation.moving_average import MovingAverage
from nsdbench.distillation.objectives import Objective, ObjectiveContext
from nsdbench.errors import Diverged
from nsdbench.experts import Progress, silent
from nsdbench.files import write_atomically
from nsdbench.seeding import generator
from nsdbench.sets import parameterizations
from nsdbench.sets.artefact import Artefact, load_artefact
from nsdbench.sets.budget import check
from nsdbench.sets.parameterizations import Parameterization

_CHECKPOINTS_PER_RUN = 20
_CURVE_POINTS = 200


@dataclass
class DistillationRun:
    """State of the outer loop, all of which a checkpoint keeps."""

    parameterization: Parameterization
    objective: Objective
    optimiser: torch.optim.Optimizer
    average: MovingAverage
    step: int = 0
    losses: list[float] = field(default_factory=list)
    seconds: float = 0.0

    @staticmethod
    def start(
        parameterization: Parameterization, objective: Objective, settings: dict
    ) -> "DistillationRun":
        """Begin a run: SGD with momentum, a learning rate per group (paper, sec. 4.1; MTT)."""
        groups = parameterization.parameter_groups(settings) + objective.parameter_groups(settings)
        optimiser = torch.optim.SGD(groups, lr=0.0, momentum=settings["momentum"])
        average = MovingAverage(parameterization, settings.get("ema_decay"))
        return DistillationRun(parameterization, objective, optimiser, average)

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
            "average": self.average.state_dict(),
            "step": self.step,
            "losses": self.losses,
            "seconds": self.seconds,
        }
        write_atomically(path, lambda partial: torch.save(state, partial))

    def restore(self, path: Path) -> None:
        """Take up the state of a checkpoint."""
        state = torch.load(path, map_location="cpu", weights_only=True)
        self.parameterization.load_state_dict(state["parameterization"])
        self.objective.load_state_dict(state["objective"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.average.load_state_dict(state.get("average", {}))  # older checkpoints have none
        self.step = state["step"]
        self.losses = state["losses"]
        self.seconds = state["seconds"]


def optimise(
    run: DistillationRun,
    iterations: int,
    seed: int,
    *,
    checkpoint: Path | None = None,
    progress: Progress = silent,
) -> None:
    """Take the outer steps that remain, with checkpoints on the way.

    Raises:
        Diverged: a loss, or what the last step left behind, is not finite, or a loss is beyond the
            objective's explosion threshold.
    """
    every = max(1, iterations // _CHECKPOINTS_PER_RUN)
    while run.step < iterations:
        started = time.perf_counter()
        run.optimiser.zero_grad(set_to_none=True)
        value = run.objective.accumulate(
            run.parameterization, run.step, generator(seed, "distill", "step", run.step)
        )
        if not math.isfinite(value) or value > run.objective.explosion_threshold:
            raise Diverged(
                f"step {run.step} of {iterations}: the loss is {value:g} (before: "
                f"{', '.join(f'{x:.4g}' for x in run.losses[-3:]) or 'none'}); lower the learning "
                "rates or the initial student step size"
            )
        run.optimiser.step()
        run.parameterization.constrain()
        run.objective.constrain()
        run.average.update()
        run.losses.append(value)
        run.step += 1
        run.seconds += time.perf_counter() - started
        if run.step == iterations:
            _check_finite(run)
        if checkpoint is not None and (run.step % every == 0 or run.step == iterations):
            run.save(checkpoint)
        progress("distill", run.step, iterations, f"loss {value:.4f}")


def _check_finite(run: DistillationRun) -> None:
    """Raise Diverged, naming the tensor, if a stored tensor or its image is not finite."""
    with torch.no_grad():
        stored = {**run.parameterization.state_dict(), "images": run.parameterization.decode()[0]}
    for name, tensor in stored.items():
        if not torch.isfinite(tensor).all():
            raise Diverged(f"after step {run.step}: {name} is not finite; lower the learning rates")


def distill(
    method: str,
    dataset: str | Dataset,
    ipc: int,
    scale: str = "smoke",
    *,
    seed: int = 0,
    out: str | os.PathLike | None = None,
    work: str | os.PathLike | None = None,
    data_root: str | os.PathLike | None = None,
    overrides: Mapping[str, Any] | None = None,
    device: str = "cpu",
    progress: Progress = silent,
) -> Artefact:
    """Distil a dataset by a method's recipe.

    Args:
        method: name of a method of kind "distillation", see `nsdbench.methods.names()`.
        dataset: name or loaded dataset; its test split stays closed.
        ipc: budget in uncompressed images per class.
        scale: "smoke", "small" or "paper": which settings of the recipe apply.
        seed: of every random draw.
        out: where to write the artefact; None keeps it in memory.
        work: folder of the checkpoint; an interrupted run goes on from it. None keeps none.
        data_root: folder of the data set, see `nsdbench.data.load`.
        overrides: values that replace the recipe's: {"optimiser.iterations": 10}.
        device: where experts and students are trained.
        progress: called as progress(phase, done, total, note).

    Returns:
        The artefact, read back from `out` if given.

    Raises:
        ValueError: an unknown name or setting.
        BudgetExceeded: the set would store more than Eq. 3 allows.
        Diverged: the loss stopped being finite.
    """
    data = load(dataset, data_root) if isinstance(dataset, str) else dataset
    recipe = methods.resolve(method, data.spec.name, ipc, scale, overrides)
    if recipe.kind != "distillation":
        raise ValueError(f"method {method!r} is of kind {recipe.kind}; there is nothing to distil")
    data = data.without_test()
    real = TrainingData(data, preprocessing(recipe.values["data"]["preprocessing"], data), device)
    # First what may be refused: recording experts can take hours.
    parameterization = _initialized(recipe, data, real, ipc, seed).to(device)

    started = time.perf_counter()
    objective = _objective(recipe, data, real, seed, device, progress)
    experts_seconds = time.perf_counter() - started

    run = DistillationRun.start(parameterization, objective, recipe.values["optimiser"])
    checkpoint = None
    if work is not None:
        checkpoint = Path(work) / f"{experts.set_name(recipe, data, ipc, seed)}.pt"
        if checkpoint.exists():
            run.restore(checkpoint)
    optimise(
        run,
        recipe.values["optimiser"]["iterations"],
        seed,
        checkpoint=checkpoint,
        progress=progress,
    )
    run.average.apply()
    parameterization = parameterization.cpu().requires_grad_(False)
    artefact = Artefact(
        parameterization,
        {
            "method": method,
            "dataset": data.name,
            "ipc": ipc,
            "scale": scale,
            "seed": seed,
            "recipe_hash": recipe.hash,
            "preprocessing": real.preprocessing.kind,
            "preprocessing_hash": real.preprocessing.hash,
            "learned": objective.learned(),
            "distillation": {
                **run.summary(),
                "images_moved": _relative_change(
                    _initialized(recipe, data, real, ipc, seed), parameterization
                ),
                **objective.describe(),
            },
            "commit": provenance.commit(),
            "cost": {"experts": experts_seconds, "distill": run.seconds},
        },
    )
    check(artefact.ledger(), data.image_shape, data.num_classes, ipc)
    if out is None:
        return artefact
    artefact.save(out)
    return load_artefact(out)


def _objective(
    recipe: methods.Recipe,
    data: Dataset,
    real: TrainingData,
    seed: int,
    device: str,
    progress: Progress,
) -> Objective:
    """Build the recipe's objective; experts are recorded when it asks for them."""
    model = models.for_dataset(experts.student_arch(recipe, data.spec), data.spec).to(device)

    def open_experts() -> experts.ExpertBuffer:
        return experts.recipe_experts(
            recipe, data, real.preprocessing, experts.EXPERT_SEED, device, progress
        )

    context = ObjectiveContext(model, real, data.spec.dsa_strategy, open_experts)
    return objectives.build(recipe.values["objective"], context).to(device)


def _initialized(
    recipe: methods.Recipe, data: Dataset, real: TrainingData, ipc: int, seed: int
) -> Parameterization:
    parameterization = parameterizations.build(recipe.values["parameterization"], data.spec, ipc)
    parameterization.initialize(real, generator(seed, "distill", "initialize"))
    return parameterization


@torch.no_grad()
def _relative_change(before: Parameterization, after: Parameterization) -> float:
    """Return |x_after - x_before| / |x_before| over all decoded images."""
    start = before.decode()[0]
    return float((after.decode()[0] - start).norm() / start.norm())
