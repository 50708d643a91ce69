"""Coresets by name: the settings of each rule and what a selection works with; no torch.

To add a coreset here, write a function in `rules`, a family and its line below.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nsdbench.registry import Family, Registry, Settings

if TYPE_CHECKING:
    import torch

    from nsdbench.data.training import TrainingData
    from nsdbench.experts import ExpertBuffer


@dataclass(frozen=True)
class SelectionTask:
    """What a selection works with.

    Attributes:
        real: training data in network-input space.
        ipc: images per class.
        stream: the only source of randomness.
        arch: id of the network of the recipe, if it names one.
        experts: opens the buffer of the networks trained on all images, training them if need be.
    """

    real: "TrainingData"
    ipc: int
    stream: "torch.Generator"
    arch: str | None
    experts: "Callable[[], ExpertBuffer]"


class CoresetSettings(Settings):
    """Settings that every coreset has.

    Attributes:
        draw_per_network: whether every network that judges a cell gets a set of its own.
    """

    draw_per_network: bool


@dataclass(frozen=True)
class CoresetFamily(Family):
    """A coreset as a recipe names it.

    `target` is called as target(task, settings) and returns the row numbers of the chosen images,
    [num_classes * ipc] int64 in the order of classes. `settings` is a kind of `CoresetSettings`.

    Attributes:
        passes: prices a selection: forward passes of every training image through the recipe's
            network, beside the training of that network.
    """

    passes: float = 0


RANDOM = CoresetFamily(CoresetSettings, "nsdbench.coresets.rules:random")
HERDING = CoresetFamily(CoresetSettings, "nsdbench.coresets.rules:herding", passes=1)
K_CENTER = CoresetFamily(CoresetSettings, "nsdbench.coresets.rules:k_center", passes=1)
FORGETTING = CoresetFamily(CoresetSettings, "nsdbench.coresets.rules:forgetting")
_REGISTRY = Registry(
    "coreset",
    "nsdbench.coresets",
    CoresetFamily,
    {
        "random": f"{__name__}:RANDOM",
        "herding": f"{__name__}:HERDING",
        "k-center": f"{__name__}:K_CENTER",
        "forgetting": f"{__name__}:FORGETTING",
    },
)
names = _REGISTRY.names
read = _REGISTRY.read
