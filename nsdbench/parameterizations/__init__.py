"""Parameterizations by name: how a distilled set is stored and decoded."""

from nsdbench.data import DatasetSpec
from nsdbench.parameterizations.base import Parameterization
from nsdbench.parameterizations.separable import Separable, SeparableShape
from nsdbench.parameterizations.storage_plan import StoragePlan, plan_pixels, plan_spectral
from nsdbench.registry import Registry

__all__ = ["Parameterization", "Separable", "StoragePlan", "build", "names", "plan", "rebuild"]

_PLANNERS = {"pixels": plan_pixels, "spectral": plan_spectral}
_REGISTRY = Registry("parameterization", "nsdbench.parameterizations", _PLANNERS)


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
        ValueError: unknown name or setting.
        BudgetExceeded: nothing fits.
    """
    settings = dict(settings)
    name = settings.pop("name", None)
    planner = _REGISTRY.get(name)
    try:
        return planner(spec.image_shape, spec.num_classes, ipc, **settings)
    except TypeError as error:
        raise ValueError(f"parameterization {name!r}: {error}") from None


def build(settings: dict, spec: DatasetSpec, ipc: int) -> Parameterization:
    """Build an uninitialised parameterization from a recipe's section, within the budget."""
    return Separable(plan(settings, spec, ipc).shape)


def rebuild(settings: dict) -> Parameterization:
    """Build the module an artefact describes by its own `settings`."""
    if settings.get("name") not in _PLANNERS:
        raise ValueError(
            f"the artefact's parameterization is {settings.get('name')!r}; this version knows "
            f"{', '.join(names())}"
        )
    return Separable(SeparableShape(**settings))
