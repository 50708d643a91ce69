"""Trajectory matching (MTT) with the real-data guidance of NSD.

A student starts at an expert's parameters after a random number of epochs, takes `syn_steps` SGD
steps on decoded images, and should end where the expert is `expert_epochs` epochs later:

    l = |theta_N - theta*|^2 / |theta_0 - theta*|^2  +  gamma * CE(theta_N; real batch)

The first term is MTT's (arXiv:2203.11932, eq. 2), the second NSD's Algorithm 1, lines 14-16. There
the first is printed without its denominator, and the student's step size is not learned: see
`TrajectorySettings.normalised` and `learns_lr_inner`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nsdbench import models
from nsdbench.distillation.objectives.base import Objective, ObjectiveContext
from nsdbench.distillation.objectives.families.unrolled import TrajectorySettings
from nsdbench.ops.transfer import to_device
from nsdbench.sets.parameterizations.base import Parameterization
from nsdbench.student import augment
from nsdbench.student.unroll import code_path, unrolled_sgd


def matching_distance(
    theta: Tensor, theta_start: Tensor, theta_target: Tensor, normalised: bool = True
) -> Tensor:
    """Return |theta - target|^2 / |start - target|^2: 1 where the student has made no progress.

    Args:
        theta, theta_start, theta_target: [P] each.
        normalised: False leaves the denominator out.

    Returns:
        A scalar of theta's dtype; NaN where neither student nor expert has moved, infinite where
        only the expert has not. Differences and sums are float64.

    Raises:
        ValueError: the three are not vectors of one length.
    """
    shapes = [list(vector.shape) for vector in (theta, theta_start, theta_target)]
    if theta.dim() != 1 or shapes != [shapes[0]] * 3:
        raise ValueError(
            "theta, theta_start, theta_target: expected three vectors [P] of one length, "
            f"got {shapes[0]}, {shapes[1]} and {shapes[2]}"
        )
    target = theta_target.double()
    distance = _squared_norm(theta.double() - target)
    if normalised:
        distance = distance / _squared_norm(theta_start.double() - target)
    return distance.to(theta.dtype)


def _squared_norm(vector: Tensor) -> Tensor:
    """Add squares in rows of 4096, so that bits do not depend on the number of threads."""
    rows = F.pad(vector, (0, -len(vector) % 4096)).view(-1, 4096)
    return rows.square().sum(dim=1).sum()


def draw_batches(
    num_images: int, batch_syn: int | None, syn_steps: int, generator: torch.Generator
) -> list[Tensor]:
    """Draw the image numbers of every student step.

    Batches walk through a random permutation without replacement, its short remainder first, and
    start a new one when it is used up (as MTT's reference code). None means the full set each step.
    """
    if batch_syn is None or batch_syn >= num_images:
        return [torch.arange(num_images) for _ in range(syn_steps)]
    batches: list[Tensor] = []
    while len(batches) < syn_steps:
        permutation = torch.randperm(num_images, generator=generator)
        batches.extend(reversed(permutation.split(batch_syn)))
    return batches[:syn_steps]


class TrajectoryMatching(Objective):
    """Match an expert's parameters after unrolled training on decoded images.

    Args:
        context: its experts are opened here; the parameter values of its model are not used.
        settings: see `TrajectorySettings`.

    Raises:
        ValueError: the targets lie beyond the experts' last epoch.
    """

    def __init__(self, context: ObjectiveContext, settings: TrajectorySettings):
        super().__init__()
        self._buffer = context.experts()
        last = settings.max_start_epoch - 1 + settings.expert_epochs
        if last > self._buffer.num_epochs:
            raise ValueError(
                f"max_start_epoch {settings.max_start_epoch} and expert_epochs "
                f"{settings.expert_epochs} reach epoch {last}, but the experts have "
                f"{self._buffer.num_epochs}; lower one of them"
            )
        self._model = context.model
        self._real = context.real
        self._dsa_strategy = context.dsa_strategy
        self._settings = settings
        if settings.normalised:
            self.explosion_threshold = 1e3  # the distance is 1 where nothing is learned
        self.lr_inner = nn.Parameter(
            torch.tensor(float(settings.lr_inner)), requires_grad=settings.learns_lr_inner
        )

    def loss(
        self, parameterization: Parameterization, step: int, generator: torch.Generator
    ) -> Tensor:
        """Unroll one student from a random point of a random expert; see the module's formula."""
        settings = self._settings
        segment = self._buffer.sample(
            generator,
            max_start_epoch=settings.max_start_epoch,
            expert_epochs=settings.expert_epochs,
        )
        device = self.lr_inner.device
        theta_start = to_device(segment.theta_start, device)
        theta_target = to_device(segment.theta_target, device)
        images, labels, batches = self._student_images(parameterization, generator)
        draws = [
            augment.sample(self._dsa_strategy, len(batch), self._real.image_shape, generator)
            for batch in batches
        ]
        theta = unrolled_sgd(
            self._model,
            theta_start,
            images,
            labels,
            batches,
            self.lr_inner,
            augment=draws,
            mode=settings.mode,
        )
        loss = matching_distance(theta, theta_start, theta_target, settings.normalised)
        if settings.guided_weight > 0:
            x_real, y_real = self._real.sample(settings.real_batch, generator)
            logits = models.functional(self._model, theta, x_real.to(device))
            loss = loss + settings.guided_weight * F.cross_entropy(logits, y_real.to(device))
        return loss

    def _student_images(
        self, parameterization: Parameterization, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Draw the batches of all student steps and decode what is in them.

        Returns:
            images [n, C, H, W], labels [n], and of every step the rows of these that it sees.
        """
        settings, count = self._settings, parameterization.num_images
        batches = draw_batches(count, settings.batch_syn, settings.syn_steps, generator)
        used, positions = torch.unique(torch.cat(batches), return_inverse=True)
        index = None if len(used) == count else used.to(self.lr_inner.device)
        images, labels = parameterization.decode(index, generator)
        return images, labels, list(positions.split([len(batch) for batch in batches]))

    def parameter_groups(self, settings: dict) -> list[dict]:
        """The student's step size learns at `lr_lr`, if it does."""
        if not self._settings.learns_lr_inner:
            return []
        return [{"params": [self.lr_inner], "lr": settings["lr_lr"]}]

    @torch.no_grad()
    def constrain(self) -> None:
        """Keep a learned step size at or above its floor; it may turn negative (MTT issue 16)."""
        if self._settings.learns_lr_inner:
            self.lr_inner.clamp_(min=self._settings.lr_inner_min)

    def learned(self) -> dict[str, float]:
        """Return the step size under the name evaluation knows."""
        return {"lr": self.lr_inner.item()}

    def describe(self) -> dict:
        """Name the implementation that differentiates the unroll, and the experts."""
        manifest = self._buffer.manifest
        accuracies = [expert.get("final_train_accuracy") for expert in manifest["experts"]]
        return {
            "code_path": code_path(self._model, self._settings.mode),
            "experts": {
                "name": self._buffer.path.name,
                "num_experts": self._buffer.num_experts,
                "num_epochs": self._buffer.num_epochs,
                "final_train_accuracy": accuracies,
            },
        }
