"""Kernel ridge regression through random networks (RFAD).

    K(x, x') = 2 / (M F) sum_m phi_m(x) . phi_m(x') + 0.01

phi_m: the F features before the classifier of network m of M, drawn anew for every step and never
trained. In the mean over wide networks K is their kernel as a Gaussian process, not their tangent
kernel (`ntk` has both). Loo et al., Efficient Dataset Distillation Using Random Feature
Approximation, NeurIPS 2022, and the authors' code, whose learned matrix, by which all images are
multiplied, is left out: it is folded into the images in the end.
"""

import copy

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from nsdbench import models
from nsdbench.distillation import ridge
from nsdbench.distillation.objectives.base import Objective, ObjectiveContext
from nsdbench.distillation.objectives.families.regression import (
    FEATURES_AT_ONCE,
    RandomFeatureRidgeSettings,
)
from nsdbench.models.nets.initialization import BIAS_VARIANCE, WEIGHT_VARIANCE
from nsdbench.models.nets.plain_convnet import PlainConvNet
from nsdbench.sets.parameterizations.base import Parameterization


class RandomFeatureRidge(Objective):
    """Regress through random features, see the module's formula.

    Attributes:
        log_scale: k of the Platt loss, learned; stays 0 where the loss is squared.

    Raises:
        ValueError: the network is not the one whose kernel the formula estimates.
    """

    def __init__(self, context: ObjectiveContext, settings: RandomFeatureRidgeSettings):
        super().__init__()
        if not isinstance(context.model, PlainConvNet):
            raise ValueError(
                f"random features are those of a ConvNet without norms, not of "
                f"{type(context.model).__name__}; set network.name to convnet_plain"
            )
        self._model = context.model.requires_grad_(False)
        self._real = context.real
        self._settings = settings
        self.log_scale = nn.Parameter(torch.zeros((), dtype=torch.float64))

    def loss(
        self, parameterization: Parameterization, step: int, generator: torch.Generator
    ) -> Tensor:
        """Draw networks and real images, and regress from the decoded ones."""
        settings = self._settings
        networks = [self._draw_network(generator) for _ in range(settings.num_networks)]
        x_real, classes = self._real.sample(settings.real_batch, generator)
        images, labels = ridge.decode_support(
            parameterization, self._real.num_classes, settings.batch_syn, generator
        )
        with torch.no_grad():
            real_features = random_features(networks, x_real)
        features = random_features(networks, images)
        predictions = ridge.predict(
            feature_kernel(features, features),
            feature_kernel(real_features, features),
            labels,
            settings.ridge,
        )
        if settings.loss == "platt":
            return ridge.platt_loss(predictions, classes, self.log_scale)
        return ridge.squared_loss(predictions, classes)

    def _draw_network(self, generator: torch.Generator) -> nn.Module:
        models.initialize(self._model, generator)
        network = copy.deepcopy(self._model.features)
        return network.to(memory_format=self._model.memory_format)  # type: ignore[call-overload]  # torch's stub lacks it

    def parameter_groups(self, settings: dict) -> list[dict]:
        """The scale of the Platt loss learns at `lr_scale`."""
        if self._settings.loss != "platt":
            return []
        return [{"params": [self.log_scale], "lr": self._settings.lr_scale}]

    def describe(self) -> dict:
        """Name the kernel, and the scale of the predictions at the end."""
        return {
            "code_path": models.code_path(self._model),
            "kernel": f"random features of {self._settings.num_networks} networks a step",
            "platt_scale": self.log_scale.exp().item(),
        }


def random_features(networks: list[nn.Module], x: Tensor) -> Tensor:
    """Return the features of all networks over sqrt(M F).

    Args:
        networks: M modules that give maps; constants.
        x: [n, C, H, W] images.

    Returns:
        [n, M F], differentiable in x; activations are computed again for that, so that those of one
        network and a few images are in memory at a time.
    """
    parts = [
        torch.cat(
            [checkpoint(network, rows, use_reentrant=False) for rows in x.split(FEATURES_AT_ONCE)]
        ).flatten(1)
        for network in networks
    ]
    features = torch.cat(parts, 1)
    return features / features.shape[1] ** 0.5


def feature_kernel(first: Tensor, second: Tensor) -> Tensor:
    """Return 2 <a, b> + 0.01 of rows [n, F] and [m, F]: the kernel behind a linear layer."""
    return WEIGHT_VARIANCE * (first @ second.mT) + BIAS_VARIANCE
