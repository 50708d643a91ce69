"""Neural feature regression with a pool of networks (FRePo).

Decoded images x with labels y predict real ones by ridge regression on the features of a network:

    p = G_t G_s^T (G_s G_s^T + r tr(G_s G_s^T) / n I)^-1 y
    l = mean over real images  of sum over classes (p - (one-hot - 1/K))^2 / 2
      - mean over decoded ones of min(largest - second largest of y, 1/K)

G_s [n, F] and G_t: flattened features before the classifier, in evaluation mode; the network is
fixed. n counts mirror images where x is mirrored. The second term keeps labels that are learned
apart; classes that are not stand for one-hot - 1/K, and have none.

The network is one of a pool. After an update it takes one Adam step on decoded images, on the
squared error of its logits to y, or starts anew where it has been in use for long; then the next
one is drawn. Zhou, Nezhadarya and Ba, Dataset Distillation using Neural Feature Regression, NeurIPS
2022, and the authors' code, whose float32 solve is one in float64 here.
"""

import copy
from typing import cast

import torch
from torch import Tensor, nn

from nsdbench import models
from nsdbench.distillation import ridge as regression
from nsdbench.distillation.objectives.base import Objective, ObjectiveContext
from nsdbench.distillation.objectives.families.regression import FeatureRegressionSettings
from nsdbench.sets.parameterizations.base import Parameterization
from nsdbench.student.training_step import TrainingStep


def ridge_prediction(
    features: Tensor, real_features: Tensor, labels: Tensor, ridge: float
) -> Tensor:
    """Predict labels [B, K] of real images by ridge regression, see the module's formula.

    Args:
        features: G_s [n, F] of images whose labels are known.
        real_features: G_t [B, F].
        labels: y [n, K].
        ridge: r; the ridge is r times the mean of the kernel's diagonal.

    Returns:
        float64, differentiable in all three.
    """
    known, asked = features.double(), real_features.double()
    return regression.predict(known @ known.mT, asked @ known.mT, labels, ridge)


def margin_loss(labels: Tensor) -> Tensor:
    """Minus the mean margin of labels [n, K] between the two largest numbers, at most 1/K."""
    first, second = labels.topk(2, dim=1).values.unbind(1)
    return -(first - second).clamp(max=1 / labels.shape[1]).mean()


class FeatureRegression(Objective):
    """Predict real images through a pool of networks, see the module's formula.

    Checkpoints hold the pool: parameters, running statistics, Adam's moments, ages.

    Args:
        context: the parameter values of its model are not used.
        settings: see there.

    Attributes:
        networks: the pool.
        ages: [P] int64: a network that is older than `max_updates` starts anew instead of learning.
            They start at 0, s, 2 s, ... with s = max_updates // P, so that not all do so at a time.
        current: the number of the network that the next step looks through.
    """

    ages: Tensor
    current: Tensor

    def __init__(self, context: ObjectiveContext, settings: FeatureRegressionSettings):
        super().__init__()
        self._real = context.real
        self._settings = settings
        num = settings.num_networks
        model = cast(models.ImageClassifier, context.model).requires_grad_(False)
        model.to(memory_format=model.memory_format)  # type: ignore[call-overload]  # torch's stub lacks it
        self.networks = nn.ModuleList(copy.deepcopy(model) for _ in range(num))
        self.register_buffer("ages", torch.arange(num) * (settings.max_updates // num))
        self.register_buffer("current", torch.tensor(0))
        self._steps = [self._training_step(number) for number in range(num)]

    def _training_step(self, number: int) -> TrainingStep:
        network = self.networks[number]

        def squared_error(images: Tensor, labels: Tensor) -> tuple[Tensor]:
            return (models.squared_error(network(images), labels),)

        return TrainingStep(network, self._new_adam(number), squared_error)

    def _new_adam(self, number: int) -> torch.optim.Adam:
        return torch.optim.Adam(self.networks[number].parameters(), lr=self._settings.lr_network)

    def loss(
        self, parameterization: Parameterization, step: int, generator: torch.Generator
    ) -> Tensor:
        """Predict a batch of real images; the first step draws the pool."""
        if step == 0:
            for network in self.networks:
                models.initialize(network, generator)
            self._draw(generator)
        network = cast(models.ImageClassifier, self.networks[int(self.current)]).eval()
        real_images, classes = self._real.sample(self._settings.real_batch, generator)
        with torch.no_grad():
            real_features = network.embed(real_images)
        num_classes = self._real.num_classes
        images, labels = regression.decode_support(
            parameterization, num_classes, parameterization.num_images, generator
        )
        separation = 0.0 if parameterization.soft_labels is None else margin_loss(labels)
        if self._settings.mirrored:
            images, labels = torch.cat([images, images.flip(-1)]), torch.cat([labels, labels])
        predicted = ridge_prediction(
            network.embed(images), real_features, labels, self._settings.ridge
        )
        targets = regression.centred_labels(classes, num_classes)
        return models.squared_error(predicted, targets).float() + separation

    def after_update(self, parameterization: Parameterization, generator: torch.Generator) -> None:
        """Train the network that was looked through, or start it anew; then draw the next one."""
        number = int(self.current)
        if self.ages[number] > self._settings.max_updates:
            models.initialize(self.networks[number], generator)
            self._steps[number].optimiser = self._new_adam(number)
            self.ages[number] = 0
        else:
            self._train(number, parameterization, generator)
            self.ages[number] += 1
        self._draw(generator)

    def _draw(self, generator: torch.Generator) -> None:
        drawn = torch.randint(len(self.networks), (), generator=generator)
        self.current.copy_(drawn)

    def _train(
        self, number: int, parameterization: Parameterization, generator: torch.Generator
    ) -> None:
        """Take one Adam step on decoded images; on `batch_network` of them if there are more."""
        with torch.no_grad():
            images, labels = regression.decode_support(
                parameterization, self._real.num_classes, self._settings.batch_network, generator
            )
        network, train = self.networks[number].train().requires_grad_(True), self._steps[number]
        train(images, labels.float())
        train.optimiser.zero_grad(set_to_none=True)
        network.requires_grad_(False)

    def get_extra_state(self) -> list[dict]:
        """Return Adam's state of every network, for a checkpoint."""
        return [step.optimiser.state_dict() for step in self._steps]

    def set_extra_state(self, state: list[dict]) -> None:
        """Take up what `get_extra_state` returned."""
        for step, kept in zip(self._steps, state, strict=True):
            step.optimiser.load_state_dict(kept)
