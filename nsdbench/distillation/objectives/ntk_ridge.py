"""Kernel ridge regression with the exact tangent kernel of the infinitely wide ConvNet (KIP).

    l = 1 / (2 n C) |y_t - K_ts (K_ss + ridge trace(K_ss) / N I)^-1 y_s|^2

K: the tangent kernel of `ntk`, of a network as deep as the recipe's; its width means nothing. t: n
real images, as many of every class, drawn anew for every step. Nguyen et al., Dataset Meta-Learning
from Kernel Ridge-Regression, ICLR 2021, and Dataset Distillation with Infinitely Wide Convolutional
Networks, NeurIPS 2021.
"""

import torch
from torch import Tensor

from nsdbench.distillation import ntk, ridge
from nsdbench.distillation.objectives.base import Objective, ObjectiveContext
from nsdbench.distillation.objectives.families.regression import NtkRidgeSettings
from nsdbench.models.nets.plain_convnet import PlainConvNet
from nsdbench.sets.parameterizations.base import Parameterization


class NtkRidge(Objective):
    """Regress with the exact kernel, see the module's formula.

    Raises:
        ValueError: the network is not the one whose kernel it is.
    """

    def __init__(self, context: ObjectiveContext, settings: NtkRidgeSettings):
        super().__init__()
        if not isinstance(context.model, PlainConvNet):
            raise ValueError(
                f"the exact kernel is that of a ConvNet without norms, not of "
                f"{type(context.model).__name__}; set network.name to convnet_plain"
            )
        self._net = ntk.KernelNet(context.model.depth, settings.prepended)
        self._real = context.real
        self._settings = settings

    def loss(
        self, parameterization: Parameterization, step: int, generator: torch.Generator
    ) -> Tensor:
        """Draw real images of every class, and regress from the decoded ones."""
        settings = self._settings
        dtype = getattr(torch, settings.precision)
        images, labels = ridge.decode_support(
            parameterization, self._real.num_classes, settings.batch_syn, generator
        )
        images = images.to(dtype)
        rows = []
        for label in range(self._real.num_classes):
            count = min(settings.targets_per_class, len(self._real.rows_of_class(label)))
            rows.append(self._real.class_rows(label, count, generator))
        x_real, classes = self._real.batch(torch.cat(rows))
        max_bytes = settings.memory_mib * 2.0**20
        _, k_ss = ntk.kernels(self._net, images, None, max_bytes)
        _, k_ts = ntk.kernels(self._net, x_real.to(dtype), images, max_bytes)
        predictions = ridge.predict(k_ss, k_ts, labels, settings.ridge)
        return ridge.squared_loss(predictions, classes)

    def describe(self) -> dict:
        """Name the kernel."""
        return {"code_path": "generic", "kernel": f"exact tangent kernel of {self._net}"}
