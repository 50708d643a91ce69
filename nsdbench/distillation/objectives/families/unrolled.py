"""Objectives that unroll a student: its trajectory is matched, or its end is judged (BPTT)."""

from dataclasses import replace
from typing import Annotated, Literal

from pydantic import Field

from nsdbench.distillation.objectives.families.fields import Momentum, Strategy
from nsdbench.distillation.objectives.registry import (
    DIFFERENTIATED_PASSES,
    TRAINING_PASSES,
    ObjectiveFamily,
    StepWork,
)
from nsdbench.registry import Count, Rate, Settings


class TrajectorySettings(Settings):
    """Settings of `trajectory.TrajectoryMatching`.

    Attributes:
        syn_steps: student steps N.
        expert_epochs: expert epochs M between start and target.
        max_start_epoch: start epochs are drawn from [0, max_start_epoch).
        lr_inner: initial student step size.
        lr_inner_min: floor of the learned step size (1e-3 in FreD, HaBa and SPEED).
        learns_lr_inner: whether the step size is learned (MTT) or stays (Algorithm 1 of NSD).
        normalised: whether the distance is divided by the expert's movement (MTT) or is the plain
            squared one (Algorithm 1 of NSD).
        guided_weight: gamma; 0 leaves the guided loss out.
        real_batch: images of the guided loss, not augmented.
        mode: how the unroll is differentiated, see `unrolled_sgd`.
        batch_syn: images per student step; None takes the full set.
    """

    syn_steps: Count
    expert_epochs: Count
    max_start_epoch: Count
    lr_inner: Rate
    lr_inner_min: Annotated[float, Field(ge=-1e6, le=1e6)]
    guided_weight: Rate
    real_batch: Count
    mode: Literal["exact", "first_order", "full"]
    batch_syn: Count | None = None
    learns_lr_inner: bool = True
    normalised: bool = True


def _trajectory_work(settings: TrajectorySettings, num_images: int, num_classes: int) -> StepWork:
    """Count the unrolled student, and the guided loss if there is one."""
    batch = min(settings.batch_syn or num_images, num_images)
    passes = settings.syn_steps * batch * DIFFERENTIATED_PASSES
    if settings.guided_weight:
        passes += settings.real_batch * TRAINING_PASSES
    return StepWork(passes, 2 * settings.syn_steps, settings.syn_steps, 6 * batch)


class AdversarialTrajectorySettings(TrajectorySettings):
    """Settings of `adversarial_trajectory.AdversarialTrajectory`; weights of its formulas.

    Attributes:
        cosine_weight: w, of what images, hallucinators and step size descend.
        auxiliary_ce_weight, auxiliary_cosine_weight, auxiliary_contrast_weight: of what the
            auxiliary network descends.
        temperature: of the contrast.
        lr_auxiliary, momentum_auxiliary: of the auxiliary network's SGD.
        momentum_lr: of the step size's SGD, whatever the images' is.
    """

    cosine_weight: Rate
    auxiliary_ce_weight: Rate
    auxiliary_cosine_weight: Rate
    auxiliary_contrast_weight: Rate
    temperature: Annotated[float, Field(gt=0, le=1e6)]
    lr_auxiliary: Rate
    momentum_auxiliary: Momentum
    momentum_lr: Momentum


def _adversarial_work(
    settings: AdversarialTrajectorySettings, num_images: int, num_classes: int
) -> StepWork:
    """Count trajectory matching, and a gradient of two views of a batch twice over."""
    batch = min(settings.batch_syn or num_images, num_images)
    work = _trajectory_work(settings, num_images, num_classes)
    passes = work.passes + 2 * 2 * batch * TRAINING_PASSES
    return replace(work, passes=passes, steps=work.steps + 2)


class BpttSettings(Settings):
    """Settings of `bptt.BackpropagationThroughTime`.

    Attributes:
        syn_steps: student steps T.
        lr_inner, momentum_inner: of the student's SGD.
        batch_syn: decoded images of a class in each of these steps, all of them if it has fewer.
        real_batch: real images of a class that the trained student is judged on.
        num_classes: classes drawn for an outer step; None takes all.
        strategy: operations of DSA, one of which is drawn for all images of an outer step.
        clip_norm: largest 2-norm of the gradient of all that is stored.
    """

    syn_steps: Count
    lr_inner: Rate
    momentum_inner: Momentum
    batch_syn: Count
    real_batch: Count
    num_classes: Count | None = None
    strategy: Strategy
    clip_norm: Annotated[float, Field(gt=0, le=1e6)]


def _bptt_work(settings: BpttSettings, num_images: int, num_classes: int) -> StepWork:
    """Count the unrolled student and the judgement of it."""
    classes = min(settings.num_classes or num_classes, num_classes)
    batch = min(settings.batch_syn * classes, num_images)
    passes = settings.syn_steps * batch * DIFFERENTIATED_PASSES
    passes += classes * settings.real_batch * TRAINING_PASSES
    kept = max(6 * batch, 2 * classes * settings.real_batch)
    return StepWork(passes, 2 * settings.syn_steps, settings.syn_steps, kept)


_HERE = "nsdbench.distillation.objectives"
TRAJECTORY = ObjectiveFamily(
    TrajectorySettings, f"{_HERE}.trajectory:TrajectoryMatching", _trajectory_work
)
ADVERSARIAL_TRAJECTORY = ObjectiveFamily(
    AdversarialTrajectorySettings,
    f"{_HERE}.adversarial_trajectory:AdversarialTrajectory",
    _adversarial_work,
)
BPTT = ObjectiveFamily(BpttSettings, f"{_HERE}.bptt:BackpropagationThroughTime", _bptt_work)
