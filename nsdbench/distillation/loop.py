"""The outer loop: learn what a parameterization stores by descending an objective.

Every random draw of step k comes from a stream named by (seed, k), so a resumed run repeats an
undisturbed one bit for bit; a checkpoint holds parameters, their moving average if the recipe has
one, optimiser state and the loss curve. The set that is stored is then the average.
"""

import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from nsdbench import experts, methods, models, provenance
from nsdbench.data import Dataset, load, preprocessing
from nsdbench.data.training import TrainingData
from nsdbench.distillation import objectives
from nsdbench.distillation.checkpoint import LoopState
from nsdbench.distillation.objectives import Objective, ObjectiveContext
from nsdbench.errors import DataCorrupt, Diverged
from nsdbench.experts import Run
from nsdbench.progress import Curve, Progress, Shown, curves, reporting, silent
from nsdbench.seeding import generator
from nsdbench.sets import parameterizations
from nsdbench.sets.artefact import Artefact, check_out, load_artefact
from nsdbench.sets.budget import check
from nsdbench.sets.parameterizations import Parameterization
from nsdbench.sums import set_aside

_CHECKPOINTS_PER_RUN = 20


def optimise(
    state: LoopState,
    iterations: int,
    seed: int,
    *,
    checkpoint: Path | None = None,
    progress: Progress = silent,
    curve: Curve | None = None,
) -> None:
    """Take the outer steps that remain, with checkpoints on the way.

    Raises:
        Diverged: a loss, or what the last step left behind, is not finite, or a loss is beyond the
            objective's explosion threshold.
    """
    every = max(1, iterations // _CHECKPOINTS_PER_RUN)
    while state.step < iterations:
        started = time.perf_counter()
        state.optimiser.zero_grad(set_to_none=True)
        draws = generator(seed, "distill", "step", state.step)
        value = state.objective.accumulate(state.parameterization, state.step, draws)
        if not math.isfinite(value) or value > state.objective.explosion_threshold:
            before = ", ".join(f"{loss:.4g}" for loss in state.losses[-3:]) or "none"
            raise Diverged(
                f"step {state.step} of {iterations}: the loss is {value:g} (before: {before}); "
                "lower the learning rates or the initial student step size"
            )
        state.set_rates(iterations)
        state.optimiser.step()
        state.parameterization.constrain()
        state.objective.constrain()
        state.objective.after_update(state.parameterization, draws)
        if state.average is not None:
            state.average.update_parameters(state.parameterization)
        state.losses.append(value)
        state.step += 1
        state.seconds += time.perf_counter() - started
        if curve is not None:
            for name, now in {"loss": value, **state.objective.learned()}.items():
                curve(name, now, state.step)
        if state.step == iterations:
            _check_finite(state)
        if checkpoint is not None and (state.step % every == 0 or state.step == iterations):
            state.save(checkpoint)
        try:
            progress("distill", state.step, iterations, f"loss {value:.4f}")
        except KeyboardInterrupt:  # between two steps, where the state is whole
            if checkpoint is not None:
                state.save(checkpoint)
            raise


def _check_finite(state: LoopState) -> None:
    """Raise Diverged, naming the tensor, if a stored tensor or its image is not finite."""
    with torch.no_grad():
        images, _ = state.parameterization.decode()
    for name, tensor in {**state.parameterization.state_dict(), "images": images}.items():
        if not torch.isfinite(tensor).all():
            raise Diverged(
                f"after step {state.step}: {name} is not finite; lower the learning rates"
            )


def distill(
    method: str,
    dataset: str | Dataset,
    ipc: int,
    scale: str = "smoke",
    *,
    seed: int = 0,
    out: str | os.PathLike[str] | None = None,
    work: str | os.PathLike[str] | None = None,
    data_root: str | os.PathLike[str] | None = None,
    overrides: Mapping[str, Any] | None = None,
    device: str = "cpu",
    progress: Shown = "bar",
    tensorboard: str | os.PathLike[str] | None = None,
) -> Artefact:
    """Distil a data set by a method's recipe.

    Args:
        method: name of a method of kind "distillation", see `nsdbench.methods.names()`.
        dataset: name or loaded data set; its test split stays closed.
        ipc: budget in uncompressed images per class.
        scale: "smoke", "small" or "paper": which settings of the recipe apply.
        seed: of every random draw.
        out: where to write the artefact; None keeps it in memory.
        work: folder of the checkpoint; an interrupted run goes on from it. None keeps none.
        data_root: folder of the data set, see `nsdbench.data.load`.
        overrides: values that replace the recipe's: {"optimiser.iterations": 10}.
        device: where experts and students are trained.
        progress: "bar" shows a bar with the time left, or lines where there is no terminal; None
            shows nothing; a function is called as progress(phase, done, total, note).
        tensorboard: folder of curves of the loss and of a learned step size for TensorBoard
            (`pip install 'nsdbench[tensorboard]'`).

    Returns:
        The artefact, read back from `out` if given.

    Raises:
        ValueError: an unknown name or setting, or `out` is no place for a set.
        BudgetExceeded: the set would store more than Eq. 3 allows.
        Diverged: the loss stopped being finite.
    """
    check_out(out)
    data = load(dataset, data_root) if isinstance(dataset, str) else dataset
    recipe = methods.resolve(method, data.spec.name, ipc, scale, overrides)
    if recipe.kind != "distillation":
        raise ValueError(f"method {method!r} is of kind {recipe.kind}; there is nothing to distil")
    with reporting(progress) as report:
        folder = None if tensorboard is None else Path(tensorboard)
        run = Run(device=device, progress=report, tensorboard=folder)
        artefact = distill_recipe(recipe, data, seed, run, None if work is None else Path(work))
    if out is None:
        return artefact
    artefact.save(out)
    return load_artefact(out)


def distill_recipe(
    recipe: methods.Recipe, data: Dataset, seed: int, run: Run, work: Path | None
) -> Artefact:
    """Distil a data set by a resolved recipe; arguments and errors as of `distill`."""
    return experts.with_sound_experts(lambda: _distill(recipe, data, seed, run, work))


def _distill(
    recipe: methods.Recipe, data: Dataset, seed: int, run: Run, work: Path | None
) -> Artefact:
    data = data.without_test()
    # First what may be refused: whitening takes minutes, recording experts can take hours.
    norm = recipe.values["network"].get("norm", "instance_norm")
    objectives.check_network(recipe.values["objective"], norm)
    section = recipe.values["parameterization"]
    objectives.check_labels(recipe.values["objective"], parameterizations.learns_labels(section))
    shape = parameterizations.plan(section, data.spec, recipe.ipc)
    objectives.kernel_work(recipe, data.spec, shape.num_images)
    models.network_size(experts.student_arch(recipe, data.spec), data.image_shape, data.num_classes)
    parameterization, making_seconds = _prepared(recipe, data, run)
    real = TrainingData(
        data, preprocessing(recipe.values["data"]["preprocessing"], data), run.device
    )
    parameterization.initialize(real, generator(seed, "distill", "initialize"))
    parameterization.to(run.device)
    started = time.perf_counter()
    objective = _objective(recipe, data, real, run)
    experts_seconds = time.perf_counter() - started

    state = LoopState.start(parameterization, objective, recipe.values["optimiser"])
    checkpoint = None
    if work is not None:
        checkpoint = work / f"{experts.set_name(recipe, data, seed)}{run.suffix}.pt"
        if checkpoint.exists():
            try:
                state.restore(checkpoint)
            except DataCorrupt as damage:
                set_aside(checkpoint, damage)
                if checkpoint.exists():
                    raise
                return _distill(recipe, data, seed, run, work)
    name = experts.set_name(recipe, data, seed)
    folder = None if run.tensorboard is None else run.tensorboard / name
    with curves(folder, state.step + 1) as curve:
        optimise(
            state,
            recipe.values["optimiser"]["iterations"],
            seed,
            checkpoint=checkpoint,
            progress=run.progress,
            curve=curve,
        )
    if state.average is not None:
        parameterization.load_state_dict(state.average.module.state_dict())
    stored = parameterization.stored().cpu().requires_grad_(False)
    cost = {"experts": experts_seconds, "distill": state.seconds}
    if making_seconds:
        cost["prior"] = making_seconds
    artefact = Artefact(
        stored,
        {
            "method": recipe.method,
            "dataset": data.name,
            "ipc": recipe.ipc,
            "scale": recipe.scale,
            "seed": seed,
            "recipe_hash": recipe.hash,
            "preprocessing": real.preprocessing.kind,
            "preprocessing_hash": real.preprocessing.hash,
            "learned": objective.learned(),
            "distillation": {
                **state.summary(),
                "images_moved": _relative_change(
                    _initialized(recipe, data, real, seed, run).stored().cpu(), stored
                ),
                **objective.describe(),
                **parameterization.describe(),
            },
            "commit": provenance.commit(),
            "cost": cost,
        },
    )
    if not parameterizations.may_exceed(recipe.values["parameterization"]):
        check(artefact.ledger(), data.image_shape, data.num_classes, recipe.ipc)
    return artefact


def _objective(recipe: methods.Recipe, data: Dataset, real: TrainingData, run: Run) -> Objective:
    """Build the recipe's objective; experts are recorded when it asks for them."""
    model = models.for_dataset(experts.student_arch(recipe, data.spec), data.spec).to(run.device)

    def open_experts() -> experts.ExpertBuffer:
        return experts.recipe_experts(recipe, data, real.preprocessing, experts.EXPERT_SEED, run)

    context = ObjectiveContext(model, real, data.spec.dsa_strategy, open_experts)
    return objectives.build(recipe.values["objective"], context).to(run.device)


def _prepared(recipe: methods.Recipe, data: Dataset, run: Run) -> tuple[Parameterization, float]:
    """Build the recipe's parameterization and make what it decodes with; returns what that cost."""
    settings = recipe.values["parameterization"]
    parameterization = parameterizations.build(settings, data.spec, recipe.ipc)
    return parameterization, parameterization.prepare(data, run.device, run.progress)


def _initialized(
    recipe: methods.Recipe, data: Dataset, real: TrainingData, seed: int, run: Run
) -> Parameterization:
    """Build the recipe's parameterization as it is before the first step."""
    parameterization, _ = _prepared(recipe, data, run)
    parameterization.initialize(real, generator(seed, "distill", "initialize"))
    return parameterization.to(run.device)


@torch.no_grad()
def _relative_change(before: Parameterization, after: Parameterization) -> float:
    """Return |x_after - x_before| / |x_before| over all decoded images."""
    start = before.decode()[0]
    return float((after.decode()[0] - start).norm() / start.norm())
