"""Parameterizations by name: how a distilled set is stored and decoded."""

from functools import partial

from nsdbench.data import DatasetSpec
from nsdbench.registry import Registry
from nsdbench.sets.parameterizations.base import Family, Parameterization, Shape
from nsdbench.sets.parameterizations.separable import Separable, SeparableShape
from nsdbench.sets.parameterizations.storage_plan import (
    StoragePlan,
    plan_bases,
    plan_dct,
    plan_pixels,
    plan_spectral,
    plan_svd,
    plan_tiles,
)
from nsdbench.sets.parameterizations.wavelet import WaveletShape, plan_dwt
from nsdbench.signature import check_settings

__all__ = [
    "Family",
    "Parameterization",
    "Separable",
    "Shape",
    "StoragePlan",
    "build",
    "names",
    "plan",
    "rebuild",
]

_SEPARABLE_PLANNERS = {
    "pixels": plan_pixels,
    "spectral": plan_spectral,
    "dct": partial(plan_dct, learned=False),
    "ldct": partial(plan_dct, learned=True),
    "svd": partial(plan_svd, learned=False),
    "lsvd": partial(plan_svd, learned=True),
    "tiles": plan_tiles,
    "bases": plan_bases,
}
_FAMILIES = {
    **{name: Family(planner, SeparableShape) for name, planner in _SEPARABLE_PLANNERS.items()},
    "dwt": Family(plan_dwt, WaveletShape),
}
_REGISTRY = Registry("parameterization", "nsdbench.parameterizations", _FAMILIES)


def names() -> list[str]:
    """List the parameterizations a recipe may name."""
    return _REGISTRY.names()


def plan(settings: dict, spec: DatasetSpec, ipc: int) -> StoragePlan:
    """Plan the sizes of a parameterization within the budget.

    Args:
        settings: a recipe's `parameterization` section: `name` and what its planner takes.
        spec: the data set.
        ipc: the budget, images per class.

    Raises:
        ValueError: unknown name, or a setting that the planner does not take, lacks, or wants of
            another type.
        BudgetExceeded: nothing fits.
    """
    settings = dict(settings)
    name = settings.pop("name", None)
    family = _REGISTRY.get(name)
    planner = family.plan if isinstance(family, Family) else family
    check_settings(planner, 3, settings, f"parameterization {name!r}")
    try:
        return family(spec.image_shape, spec.num_classes, ipc, **settings)
    except TypeError as error:
        raise ValueError(f"parameterization {name!r}: {error}; its settings: {settings}") from None


def build(settings: dict, spec: DatasetSpec, ipc: int) -> Parameterization:
    """Build an uninitialised parameterization from a recipe's section, within the budget."""
    return plan(settings, spec, ipc).shape.build()


def rebuild(settings: dict) -> Parameterization:
    """Build the module an artefact describes by its own `settings`.

    Raises:
        ValueError: this version does not know the parameterization, or its settings are wrong.
    """
    name = settings.get("name")
    if name not in names():
        raise ValueError(
            f"the artefact's parameterization is {name!r}; this version knows {', '.join(names())}"
        )
    family = _REGISTRY.get(name)
    if not isinstance(family, Family):
        raise ValueError(
            f"the plug-in that adds the parameterization {name!r} gives {family!r}; expected a "
            "nsdbench.parameterizations.Family, which can rebuild an artefact"
        )
    try:
        return family.shape(**settings).build()
    except TypeError as error:
        raise ValueError(f"the artefact's parameterization {name!r}: {error}") from None
