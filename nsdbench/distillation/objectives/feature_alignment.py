"""Feature alignment (CAFE): class means of all layers, and real images told apart by them.

    l = sum over classes c and layers k of w_k |mean_i f_k(A_c(r_ci)) - mean_j f_k(A_c(x_cj))|^2
        + v sum over real images r of CE(f(A(r)) M^T; class of r)

f_k: the maps after the last three ReLUs of a ConvNet (all of a shallower one), and the last, pooled
map f; M: the decoded images' class means of f; A_c: one Siamese augmentation a class, or nothing.
The published weights are 0.1, 0.1, 1 and 2, since the pooled map counts in two terms of the code.

A network stays for as long as its accuracy on real images still moves: until the last `window`
image steps differ by less than `steady_below`. Between two image steps it trains on the decoded
set, epoch by epoch, until the last `window` epochs differ by more than `moved_above`. Both loops
end at caps of ours; the reference code has none. Wang et al., CVPR 2022, and distill.py of the
reference code, which adds a C-th of the accuracy before to every accuracy; ours are accuracies. The
cross-entropy of real images by the classifier, which it adds to the loss, has no gradient and is
left out.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nsdbench import models
from nsdbench.distillation.objectives.base import Objective, ObjectiveContext
from nsdbench.distillation.objectives.families.classwise import FeatureAlignmentSettings
from nsdbench.models.nets.convnet import ConvNet
from nsdbench.sets.parameterizations.base import Parameterization
from nsdbench.student import augment
from nsdbench.student.unroll import unrolled_sgd

_QUERIED_AT_ONCE = 2048  # images


def feature_maps(model: ConvNet, images: Tensor) -> list[Tensor]:
    """Return the maps after each of the last three ReLUs, and the last map, flat: [n, *] each."""
    maps, x = [], images
    for module in model.features:
        x = module(x)
        if isinstance(module, nn.ReLU):
            maps.append(x.flatten(1))
    return [*maps[-3:], x.flatten(1)]


def class_means(features: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Average rows [n, F] by class: [num_classes, F]."""
    shares = F.one_hot(labels, num_classes).to(features)
    return (shares / shares.sum(0)).T @ features


class FeatureAlignment(Objective):
    """Align features of decoded and real images, see the module's formula.

    Args:
        context: its model is a ConvNet; its parameter values are not used.
        settings: see there.

    Attributes:
        theta: [P] the network of the current step.
        image_steps: how many image steps it has seen; 0 where a new one is due.
        accuracies: [window] its latest ones, the last one last, not a number before the first.
            A checkpoint keeps all three.

    Raises:
        ValueError: the network is no ConvNet.
    """

    theta: Tensor
    image_steps: Tensor
    accuracies: Tensor

    def __init__(self, context: ObjectiveContext, settings: FeatureAlignmentSettings):
        super().__init__()
        if not isinstance(context.model, ConvNet):
            raise ValueError(
                f"feature alignment looks at the blocks of a ConvNet, not of "
                f"{type(context.model).__name__}; set network.name to convnet"
            )
        self._model = context.model
        self._real = context.real
        self._settings = settings
        self._dsa_strategy = context.dsa_strategy if settings.augment else ""
        self.register_buffer("theta", models.flatten(context.model))
        self.register_buffer("image_steps", torch.tensor(0))
        self.register_buffer("accuracies", torch.full((settings.window,), torch.nan).double())

    def loss(
        self, parameterization: Parameterization, step: int, generator: torch.Generator
    ) -> Tensor:
        """Look through a new network, or through the one at hand after some training."""
        if self.image_steps == 0:
            models.initialize(self._model, generator)
            self.theta = models.flatten(self._model)
        else:
            self._train(parameterization, generator)
        models.load_flat(self._model, self.theta)
        loss = self._alignment(parameterization, generator)
        self._watch(self._accuracy(generator))
        return loss

    def _alignment(self, parameterization: Parameterization, generator: torch.Generator) -> Tensor:
        """Compare decoded images with real ones, class by class, and tell the latter apart."""
        decoded, targets, features = [], [], []
        for label in range(self._real.num_classes):
            draw = augment.sample(
                self._dsa_strategy, 1, self._real.image_shape, generator, siamese=True
            ).to(self.theta.device)
            rows = _draw(parameterization.class_rows(label), self._settings.batch_syn, generator)
            images, _ = parameterization.decode(rows, generator)
            decoded.append(augment.apply(images, draw))
            rows = _draw(self._real.rows_of_class(label), self._settings.real_batch, generator)
            with torch.no_grad():
                real_images, _ = self._real.batch(rows)
                maps = feature_maps(self._model, augment.apply(real_images, draw))
            targets.append([found.mean(0) for found in maps])
            features.append(maps[-1])
        labels = _labels_of(decoded)
        maps = feature_maps(self._model, torch.cat(decoded))
        means = [class_means(found, labels, len(decoded)) for found in maps]
        weights = self._settings.layer_weights[-len(means) :]
        loss = self._settings.discrimination_weight * F.cross_entropy(
            torch.cat(features) @ means[-1].T, _labels_of(features), reduction="sum"
        )
        for weight, mean, target in zip(weights, means, zip(*targets, strict=True), strict=True):
            loss = loss + weight * (mean - torch.stack(target)).square().sum()
        return loss

    @torch.no_grad()
    def _train(self, parameterization: Parameterization, generator: torch.Generator) -> None:
        """Train on the decoded set until the accuracy has moved, or for `max_epochs`."""
        settings = self._settings
        images, labels = parameterization.decode(None, generator)
        accuracies: list[float] = []
        while not self._has_moved(accuracies):
            order = torch.randperm(len(labels), generator=generator)
            batches = order.split(settings.batch_network)
            draws = [
                augment.sample(self._dsa_strategy, len(batch), self._real.image_shape, generator)
                for batch in batches
            ]
            lr = settings.lr_network
            self.theta = unrolled_sgd(
                self._model, self.theta, images, labels, batches, lr, augment=draws
            )
            accuracies.append(self._accuracy(generator))

    def _has_moved(self, accuracies: list[float]) -> bool:
        """Say whether training ends after epochs of these accuracies."""
        window, settings = accuracies[-self._settings.window :], self._settings
        if len(accuracies) >= settings.max_epochs:
            return True
        return len(window) == settings.window and max(window) - min(window) > settings.moved_above

    def _watch(self, accuracy: float) -> None:
        """Note the accuracy of an image step, and whether the next one takes a new network."""
        self.accuracies = torch.cat([self.accuracies[1:], self.accuracies.new_tensor([accuracy])])
        self.image_steps = self.image_steps + 1
        # where a number is missing, so is the difference, and it is below nothing
        is_steady = self.accuracies.max() - self.accuracies.min() < self._settings.steady_below
        if is_steady or self.image_steps >= self._settings.max_image_steps:
            self.image_steps = torch.zeros_like(self.image_steps)
            self.accuracies = torch.full_like(self.accuracies, torch.nan)

    @torch.no_grad()
    def _accuracy(self, generator: torch.Generator) -> float:
        """Return the share that theta gets right of real images, as many of every class."""
        rows = [
            _draw(self._real.rows_of_class(label), self._settings.query_batch, generator)
            for label in range(self._real.num_classes)
        ]
        right = 0
        for chunk in torch.cat(rows).split(_QUERIED_AT_ONCE):
            images, labels = self._real.batch(chunk)
            logits = models.functional(self._model, self.theta, images)
            right += int((logits.argmax(1) == labels).sum())
        return right / sum(map(len, rows))

    def describe(self) -> dict:
        """Name the implementation that trains the networks; features are taken module by module."""
        return {"code_path": models.code_path(self._model)}


def _draw(rows: Tensor, size: int | None, generator: torch.Generator) -> Tensor:
    """Draw `size` of these rows without replacement; all, as they stand, if there are no more."""
    if size is None or size >= len(rows):
        return rows
    return rows[torch.randperm(len(rows), generator=generator)[:size].to(rows.device)]


def _labels_of(parts: list[Tensor]) -> Tensor:
    """Number rows by the part that they are in."""
    sizes = torch.tensor([len(part) for part in parts], device=parts[0].device)
    return torch.arange(len(parts), device=sizes.device).repeat_interleave(sizes)
