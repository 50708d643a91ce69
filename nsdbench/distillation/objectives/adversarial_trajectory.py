"""Trajectory matching whose images should differ from view to view (HaBa).

A view is one of the ways in which a set decodes an image, a hallucinator of `sets`. Every student
step sees all its images in one view, drawn anew. An auxiliary network f, whose features are the
flattened last block, looks at a batch in two views and plays against the set (cos over features):

    set, step size    match + w * mean (1 + cos(f(a), f(b))) / 2
    f                 w_ce * CE + w_cos * mean (1 - cos(f(a), f(b))) / 2 + w_con * contrast

Both views are augmented by one operation of DSA with parameters of their own. f learns after every
update, from another batch, pair and draw. Liu et al., Dataset Distillation via Factorization,
NeurIPS 2022, and the authors' code; contrast: Khosla et al., Supervised Contrastive Learning, 2020.
"""

import copy
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from nsdbench import models
from nsdbench.distillation.objectives.base import ObjectiveContext
from nsdbench.distillation.objectives.families.unrolled import AdversarialTrajectorySettings
from nsdbench.distillation.objectives.trajectory import TrajectoryMatching, draw_batches
from nsdbench.sets.parameterizations.base import Parameterization
from nsdbench.student import augment
from nsdbench.student.training_step import TrainingStep


def supervised_contrast(features: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Return the supervised contrastive loss of a batch.

    With z the features at unit length and P(i) the other rows of row i's class:

        mean_i  mean_{p in P(i)}  -log( exp(z_i z_p / t) / sum_{a != i} exp(z_i z_a / t) )

    Args:
        features: [n, F].
        labels: [n]; every class has at least two rows.
        temperature: t.
    """
    unit = F.normalize(features)
    similarity = unit @ unit.mT / temperature
    is_own = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    others = similarity.masked_fill(is_own, -torch.inf).logsumexp(dim=1, keepdim=True)
    is_positive = (labels[:, None] == labels) & ~is_own
    return ((others - similarity) * is_positive).sum(1).div(is_positive.sum(1)).mean()


class AdversarialTrajectory(TrajectoryMatching):
    """Match trajectories through views, against an auxiliary network that tells classes, not views.

    The auxiliary network has the student's architecture. It is created at the first step, lives
    through all of them, and is in checkpoints with its optimiser; a set does not store it.

    Args: as of `TrajectoryMatching`.
    """

    def __init__(self, context: ObjectiveContext, settings: AdversarialTrajectorySettings):
        super().__init__(context, settings)
        self._adversary = settings
        self._batches_ahead: list[Tensor] = []  # of this step: for the set, then for the network
        network = copy.deepcopy(context.model).requires_grad_(False)
        self.auxiliary = cast(models.ImageClassifier, network)
        self._sgd = torch.optim.SGD(
            self.auxiliary.parameters(),
            lr=settings.lr_auxiliary,
            momentum=settings.momentum_auxiliary,
        )
        self._train = TrainingStep(self.auxiliary, self._sgd, self._auxiliary_loss)

    def loss(
        self, parameterization: Parameterization, step: int, generator: torch.Generator
    ) -> Tensor:
        """Add to the matching loss how alike two views look; see the module's formulas."""
        if step == 0:
            models.initialize(self.auxiliary, generator)
        matched = super().loss(parameterization, step, generator)
        images, _ = self._two_views(parameterization, self._batches_ahead[0], generator)
        first, second = self.auxiliary.embed(images).chunk(2)
        alike = (1 + F.cosine_similarity(first, second)) / 2
        return matched + self._adversary.cosine_weight * alike.mean()

    def after_update(self, parameterization: Parameterization, generator: torch.Generator) -> None:
        """Take one SGD step with the auxiliary network."""
        with torch.no_grad():
            images, labels = self._two_views(parameterization, self._batches_ahead[1], generator)
        self.auxiliary.requires_grad_(True)
        self._train(images, labels)
        self.auxiliary.requires_grad_(False)

    def _auxiliary_loss(self, images: Tensor, labels: Tensor) -> tuple[Tensor]:
        settings = self._adversary
        features = self.auxiliary.embed(images)
        first, second = features.chunk(2)
        unlike = (1 - F.cosine_similarity(first, second)) / 2
        contrast = supervised_contrast(features, labels, settings.temperature)
        loss = (
            settings.auxiliary_ce_weight
            * F.cross_entropy(self.auxiliary.classifier(features), labels)
            + settings.auxiliary_cosine_weight * unlike.mean()
            + settings.auxiliary_contrast_weight * contrast
        )
        return (loss,)

    def _student_images(
        self, parameterization: Parameterization, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Draw a batch and a view for every step; two more batches are for the pairs of views."""
        steps, count = self._settings.syn_steps, parameterization.num_images
        batches = draw_batches(count, self._settings.batch_syn, steps + 2, generator)
        self._batches_ahead = batches[steps:]
        views = torch.randint(parameterization.num_views, (steps,), generator=generator)
        pairs = [view * count + batch for view, batch in zip(views, batches, strict=False)]
        used, positions = torch.unique(torch.cat(pairs), return_inverse=True)
        decoded = [
            parameterization.decode_view(
                (used[used // count == view] % count).to(self.lr_inner.device), view, generator
            )
            for view in torch.unique(views).tolist()
        ]
        images, labels = (torch.cat(parts) for parts in zip(*decoded, strict=True))
        return images, labels, list(positions.split([len(pair) for pair in pairs]))

    def _two_views(
        self, parameterization: Parameterization, batch: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Decode a batch in two different views, one after the other, and augment both as one.

        A set with one view gives it twice; they differ in what the generator draws.

        Returns:
            images [2n, C, H, W] and labels [2n].
        """
        views = torch.randperm(parameterization.num_views, generator=generator)[[0, -1]]
        rows = batch.to(self.lr_inner.device)
        decoded = [parameterization.decode_view(rows, view, generator) for view in views.tolist()]
        images, labels = (torch.cat(parts) for parts in zip(*decoded, strict=True))
        draw = augment.sample(self._dsa_strategy, len(images), self._real.image_shape, generator)
        return augment.apply(images, draw), labels

    def parameter_groups(self, settings: dict) -> list[dict]:
        """The student's step size learns at `lr_lr`, with a momentum of its own."""
        momentum = self._adversary.momentum_lr
        return [{**group, "momentum": momentum} for group in super().parameter_groups(settings)]

    def get_extra_state(self) -> dict:
        """Return the velocity of the auxiliary network, for a checkpoint."""
        return self._sgd.state_dict()

    def set_extra_state(self, state: dict) -> None:
        """Take up what `get_extra_state` returned."""
        self._sgd.load_state_dict(state)
