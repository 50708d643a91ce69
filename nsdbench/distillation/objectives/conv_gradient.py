"""Gradient matching of IDC: gradients of convolution weights, networks trained on real images.

    l = sum over classes c of D( grad_w L(theta; A(x_c)),  grad_w L(theta; A(r_c)) )

w: the convolution weights alone; L: the mean cross-entropy; A: every operation of a strategy in
turn, one draw a class for all decoded and real images. A network is drawn anew every `inner_loops`
steps; between two of its steps it trains on real images with augmentation and CutMix.
Kim et al., Dataset Condensation via Efficient Synthetic-Data Parameterization, ICML 2022;
condense.py, misc/augment.py and train.py of the reference code. CutMix: Yun et al., ICCV 2019.

The reference code steps its optimiser after every class, ours once for all classes: a gradient
moves the images as far in total, but momentum decays once a step, not once a class. It clamps
pixels before a network's first step alone, ours after every step (parameterizations).
"""

from collections.abc import Callable
from math import sqrt

import torch
from torch import Tensor
from torch.nn import functional as F

from nsdbench import models
from nsdbench.distillation.objectives.base import ObjectiveContext
from nsdbench.distillation.objectives.classwise import ClasswiseObjective
from nsdbench.distillation.objectives.families.classwise import ConvGradientSettings
from nsdbench.distillation.objectives.gradient import (
    gradient_code_path,
    gradient_pair,
    squared_error,
)
from nsdbench.sets.parameterizations.base import Parameterization
from nsdbench.student import augment
from nsdbench.student.selection import select_step
from nsdbench.student.strategy import parse_strategy


def absolute_error(found: dict[str, Tensor], target: dict[str, Tensor]) -> Tensor:
    """Sum the absolute differences of gradients (the reference code's "l1")."""
    return torch.stack([(found[name] - target[name]).abs().sum() for name in found]).sum()


DISTANCES: dict[str, Callable[[dict[str, Tensor], dict[str, Tensor]], Tensor]] = {
    "squared_error": squared_error,
    "absolute_error": absolute_error,
}


def cutmix(
    images: Tensor, targets: Tensor, probability: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Paste a box of every image's partner over it and mix their targets by area, or do nothing.

    lambda ~ U(0, 1) = Beta(1, 1); the box has sides sqrt(1 - lambda) of the image's, rounded down,
    about a uniform pixel, clipped at borders; partners are a random permutation. One box a batch.

    Args:
        images: [B, C, H, W].
        targets: [B, K] probabilities.
        probability: of pasting at all.
        generator: a CPU generator.

    Returns:
        Images and targets, new tensors where something was pasted.
    """
    coin, mixing = torch.rand(2, generator=generator).tolist()
    if coin >= probability:
        return images, targets
    height, width = images.shape[2:]
    row = int(torch.randint(height, (), generator=generator))
    column = int(torch.randint(width, (), generator=generator))
    partner = torch.randperm(len(images), generator=generator).to(images.device)
    reach = [int(sqrt(1 - mixing) * side) // 2 for side in (height, width)]
    rows = slice(max(0, row - reach[0]), row + reach[0])
    columns = slice(max(0, column - reach[1]), column + reach[1])
    mixed = images.clone()
    mixed[:, :, rows, columns] = images[partner][:, :, rows, columns]
    pasted = mixed[0, 0, rows, columns].numel() / (height * width)
    return mixed, (1 - pasted) * targets + pasted * targets[partner]


class ConvGradientMatching(ClasswiseObjective):
    """Match convolution gradients of decoded and of real images, see the module's formula.

    Attributes:
        theta, velocity: [P] the network of the current step and its SGD; a checkpoint keeps them.
    """

    theta: Tensor
    velocity: Tensor

    def __init__(self, context: ObjectiveContext, settings: ConvGradientSettings):
        super().__init__(context, settings)
        self._settings = settings
        self._distance = DISTANCES[settings.distance]
        self.register_buffer("theta", models.flatten(context.model))
        self.register_buffer("velocity", torch.zeros_like(self.theta))

    def prepare_network(
        self, parameterization: Parameterization, step: int, generator: torch.Generator
    ) -> None:
        """Draw a new network, or train the one at hand on real images."""
        if step % self._settings.inner_loops == 0:
            models.initialize(self._model, generator)
            self.theta = models.flatten(self._model)
            self.velocity = torch.zeros_like(self.theta)
        else:
            self._train(generator)

    def draw_augmentations(self, generator: torch.Generator) -> list[augment.DsaParams]:
        """Draw every operation of the strategy."""
        shape = self._real.image_shape
        return [
            augment.sample(operation, 1, shape, generator, siamese=True)
            for operation in parse_strategy(self._settings.strategy)
        ]

    def class_loss(self, images: Tensor, real_images: Tensor, labels: Tensor) -> Tensor:
        """Return the distance of the two gradients of convolution weights."""
        pair = gradient_pair(self._model, self.theta, images, real_images, labels)
        return self._distance(
            *({name: part for name, part in side.items() if part.dim() == 4} for side in pair)
        )

    def describe(self) -> dict:
        """Name the implementation that computes gradients and their derivatives."""
        return gradient_code_path(self._model, self.theta)

    @torch.no_grad()
    def _train(self, generator: torch.Generator) -> None:
        """Take the steps v' = momentum v + grad L + decay theta, theta' = theta - lr v'."""
        settings = self._settings
        step = select_step(self._model, "exact", self.theta)
        order = torch.randperm(len(self._real), generator=generator)[: settings.real_images_network]
        for rows in order.split(settings.batch_network):
            images, labels = self._real.batch(rows)
            for operation in parse_strategy(settings.strategy_network):
                draw = augment.sample(operation, len(rows), self._real.image_shape, generator)
                images = augment.apply(images, draw)
            targets = F.one_hot(labels, self._real.num_classes).to(images.dtype)
            images, targets = cutmix(images, targets, settings.cutmix_probability, generator)
            gradient = step.gradient(self.theta, images, targets)
            gradient = gradient + settings.weight_decay_network * self.theta
            self.velocity = settings.momentum_network * self.velocity + gradient
            self.theta = self.theta - settings.lr_network * self.velocity
