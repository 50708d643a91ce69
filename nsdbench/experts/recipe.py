"""How experts are trained; the defaults are those of MTT's buffer.py."""

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from typing import Any

from nsdbench.student.strategy import parse_strategy

OPTIMISERS = ("sgd", "gsam")
# Settings that came later: a recipe without them trains, and is named, as it always was.
_ADDED = (
    "optimiser",
    "rho",
    "alpha",
    "keeps_correctness",
    "standardises_batches",
    "nesterov",
    "lr_milestones",
    "lr_factor",
)


@dataclass(frozen=True)
class ExpertRecipe:
    """Settings of expert training: SGD on shuffled batches, hard labels, one DSA draw a batch.

    Attributes:
        num_experts: independent networks.
        epochs: passes over the training data; a snapshot is kept at the start and after each.
        lr: step size of the first epochs; of all, unless there are milestones.
        momentum, weight_decay: as in torch.optim.SGD.
        batch_size: images a step; the short batch at the end of an epoch is used too.
        dsa_strategy: see `nsdbench.augment`; "" trains without augmentation.
        optimiser: what SGD descends: the gradient ("sgd") or GSAM's direction (`gsam`).
        rho, alpha: radius, constant over training, and weight of GSAM; 0 under "sgd".
        keeps_correctness: keep which images were classified correctly in every epoch.
        standardises_batches: `data.standardise_batch` comes before augmentation, and before the
            passes that measure accuracy (HaBa).
        nesterov: as in torch.optim.SGD; asks for momentum.
        lr_milestones: numbers of epochs, ascending, after which the step size is multiplied by
            `lr_factor`.
        lr_factor: 1 without milestones.

    Raises:
        ValueError: a setting out of range, an unknown optimiser, a setting of GSAM without GSAM, an
            unknown word in the strategy, or milestones that cannot be kept.
    """

    num_experts: int = 100
    epochs: int = 50
    lr: float = 0.01
    momentum: float = 0.0
    weight_decay: float = 0.0
    batch_size: int = 256
    dsa_strategy: str = "color_crop_cutout_flip_scale_rotate"
    optimiser: str = "sgd"
    rho: float = 0.0
    alpha: float = 0.0
    keeps_correctness: bool = False
    standardises_batches: bool = False
    nesterov: bool = False
    lr_milestones: tuple[int, ...] = ()
    lr_factor: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "lr_milestones", tuple(self.lr_milestones))  # TOML brings lists
        for name in ("num_experts", "epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.lr <= 0 or self.weight_decay < 0 or not 0 <= self.momentum < 1:
            raise ValueError(
                f"expected lr > 0, weight_decay >= 0 and momentum in [0, 1), got {self.lr}, "
                f"{self.weight_decay} and {self.momentum}"
            )
        parse_strategy(self.dsa_strategy)
        if self.optimiser not in OPTIMISERS:
            raise ValueError(
                f"optimiser is {self.optimiser!r}; expected one of {', '.join(OPTIMISERS)}"
            )
        if self.rho < 0 or self.alpha < 0:
            raise ValueError(f"rho {self.rho} and alpha {self.alpha}: neither may be negative")
        if self.optimiser != "gsam" and (self.rho or self.alpha):
            raise ValueError(
                f"rho {self.rho} and alpha {self.alpha} are settings of GSAM, but optimiser is "
                f'{self.optimiser!r}; set optimiser = "gsam" or leave them out'
            )
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov asks for momentum above 0, which is 0; set it")
        milestones = list(self.lr_milestones)
        if milestones != sorted(set(milestones)) or (milestones and milestones[0] < 1):
            raise ValueError(
                f"lr_milestones are {milestones}; expected ascending numbers of epochs, from 1"
            )
        if not self.lr_factor > 0 or (self.lr_factor == 1) != (not milestones):
            raise ValueError(
                f"lr_factor is {self.lr_factor} with lr_milestones {milestones}; expected a "
                "positive factor other than 1 with milestones, and neither without the other"
            )

    def lr_of_epoch(self, epoch: int) -> float:
        """Return the step size of an epoch, counted from 0."""
        passed = sum(milestone <= epoch for milestone in self.lr_milestones)
        return self.lr * self.lr_factor**passed

    def settings(self) -> dict[str, Any]:
        """Return the recipe as plain data: what identifies it, and what a manifest keeps."""
        added = {field.name: field.default for field in fields(self) if field.name in _ADDED}
        return {
            name: list(value) if isinstance(value, tuple) else value  # as JSON has it
            for name, value in asdict(self).items()
            if name not in added or value != added[name]
        }

    @property
    def hash(self) -> str:
        """Identify the recipe: equal hashes, equal training."""
        return content_hash(self.settings())


def content_hash(content: dict[str, Any]) -> str:
    """Hash plain data (sha256, hex), independent of the order of its keys."""
    text = json.dumps(content, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
