"""Coresets by name: the settings of each rule and what a selection works with; no torch.

A new coreset of ours takes a function in `rules` and a family with its line here.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

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
        passes: called as passes(settings, train_size); prices a selection in forward passes of one
            image through the recipe's network, beside the training of that network.
    """

    passes: Callable[[Any, int], float]


def _no_passes(settings: CoresetSettings, train_size: int) -> float:
    return 0


def _embed_all(settings: CoresetSettings, train_size: int) -> float:
    return train_size


RANDOM = CoresetFamily(CoresetSettings, "nsdbench.coresets.rules:random", _no_passes)
HERDING = CoresetFamily(CoresetSettings, "nsdbench.coresets.rules:herding", _embed_all)
K_CENTER = CoresetFamily(CoresetSettings, "nsdbench.coresets.rules:k_center", _embed_all)
FORGETTING = CoresetFamily(CoresetSettings, "nsdbench.coresets.rules:forgetting", _no_passes)
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
