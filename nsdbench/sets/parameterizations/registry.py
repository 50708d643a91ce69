"""Parameterizations by name, the sizes they plan within the budget, and their modules; no torch.

A new parameterization of ours takes a file in `families` (settings, sizes, plan), a line below,
and a module where none that exists decodes it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Protocol, cast

from nsdbench.data import DatasetSpec
from nsdbench.errors import BudgetExceeded, checked
from nsdbench.registry import Family, Registry
from nsdbench.sets.budget import Budget

if TYPE_CHECKING:
    from nsdbench.sets.parameterizations.base import Parameterization


class Shape(Protocol):
    """The sizes of a set: a dataclass whose fields are the `settings` of its module."""

    @property
    def num_elements(self) -> int:
        """What is stored, in float32 elements: the left-hand side of Eq. 3."""
        ...

    @property
    def num_images(self) -> int:
        """Images that the set decodes to."""
        ...


@dataclass(frozen=True)
class DecodingWork:
    """What decoding costs where that is not negligible beside the students.

    Attributes:
        flops: of decoding all images and differentiating it, once.
        kept: floats in memory meanwhile.
        making_flops, making_steps: of what is made before and shared by all cells of a data set.
        making_key: tells what is made from other such things.
    """

    flops: float = 0.0
    kept: float = 0.0
    making_flops: float = 0.0
    making_steps: int = 0
    making_key: tuple = ()


def _negligible(settings: Any, budget: Budget, train_size: int) -> DecodingWork:
    return DecodingWork()


@dataclass(frozen=True)
class ParameterizationFamily(Family):
    """A parameterization as a recipe names it; `target` is called as target(shape).

    Attributes:
        plan: called as plan(settings, budget); returns the sizes, which are checked against the
            budget, or raises BudgetExceeded.
        settings: where they have `over_budget`, a recipe may set it to store more than Eq. 3 lets;
            where they have `learned_labels`, to store labels that are learned.
        shape: the dataclass of its sizes, whose fields are the `settings` that an artefact holds.
        work: called as work(settings, budget, train_size); prices decoding. Nothing by default.
    """

    plan: Callable[[Any, Budget], Shape]
    shape: type[Shape]
    work: Callable[[Any, Budget, int], DecodingWork] = _negligible


_MOST_IMAGES = 10**7  # of an artefact; our choice, far beyond any budget
_FAMILIES = "nsdbench.sets.parameterizations.families"
_REGISTRY = Registry(
    "parameterization",
    "nsdbench.parameterizations",
    ParameterizationFamily,
    {
        "pixels": f"{_FAMILIES}.pixels:PIXELS",
        "spectral": f"{_FAMILIES}.spectral:SPECTRAL",
        "dct": f"{_FAMILIES}.blocks:DCT",
        "ldct": f"{_FAMILIES}.blocks:LDCT",
        "tiles": f"{_FAMILIES}.blocks:TILES",
        "svd": f"{_FAMILIES}.mixtures:SVD",
        "lsvd": f"{_FAMILIES}.mixtures:LSVD",
        "bases": f"{_FAMILIES}.mixtures:BASES",
        "dwt": f"{_FAMILIES}.wavelet:DWT",
        "hallucinator": f"{_FAMILIES}.hallucinator:HALLUCINATOR",
        "generator": f"{_FAMILIES}.generator:GENERATOR",
    },
)
names = _REGISTRY.names
read = _REGISTRY.read


def plan(section: Mapping[str, Any], spec: DatasetSpec, ipc: int) -> Shape:
    """Plan the sizes of a recipe's `parameterization` section within the budget.

    Where the section says `over_budget = true` they may be larger; what is measured then says so
    and is never called reproduced.

    Raises:
        ValueError: as of `Registry.read`, or settings that do not fit each other or the images.
        BudgetExceeded: nothing fits.
    """
    family, settings = read(section)
    budget = Budget(spec.image_shape, spec.num_classes, ipc)
    try:
        shape = family.plan(settings, budget)
    except ValueError as error:
        raise ValueError(f"parameterization {section['name']!r}: {error}") from None
    if shape.num_elements > budget.num_elements and not may_exceed(section):
        raise BudgetExceeded(
            f"parameterization {section['name']!r} would store {shape.num_elements} floats, but "
            f"ipc {ipc} with {spec.num_classes} classes of {spec.image_shape} images allows "
            f"{budget.num_elements} (Eq. 3); choose smaller sizes than {shape}"
        )
    return shape


def may_exceed(section: Mapping[str, Any]) -> bool:
    """Say whether a recipe's section declares that it stores more than Eq. 3 allows."""
    return getattr(read(section)[1], "over_budget", False)


def learns_labels(section: Mapping[str, Any]) -> bool:
    """Say whether a recipe's section stores labels that are learned."""
    return getattr(read(section)[1], "learned_labels", False)


def build(section: Mapping[str, Any], spec: DatasetSpec, ipc: int) -> "Parameterization":
    """Build an uninitialised parameterization from a recipe's section; raises as `plan`."""
    shape = plan(section, spec, ipc)
    return _REGISTRY.get(section["name"]).load()(shape)


def rebuild(settings: Mapping[str, Any], num_stored: int) -> "Parameterization":
    """Build the module an artefact describes by its own `settings`.

    Args:
        settings: as read from the file, which may be damaged.
        num_stored: numbers that the file's tensors hold; no memory is taken for more.

    Raises:
        ValueError: this version does not know the parameterization, its settings are wrong, or they
            need another number of stored numbers, or decode to more than 10^7 images.
    """
    name = settings.get("name")
    if not isinstance(name, str):
        raise ValueError(f"`name` of the parameterization is {name!r:.200}; expected text")
    family = _REGISTRY.get(name)
    where = f"parameterization {name!r}"
    known = [field.name for field in fields(cast(Any, family.shape))]
    if unknown := settings.keys() - known:
        raise ValueError(
            f"{where}: unknown {', '.join(sorted(unknown))}; known: {', '.join(known)}"
        )
    shape = checked(family.shape, dict(settings), where)
    if shape.num_elements != num_stored or shape.num_images > _MOST_IMAGES:
        raise ValueError(
            f"{where} describes {shape.num_elements} stored numbers and {shape.num_images} images; "
            f"the file holds {num_stored} numbers, and sets have at most {_MOST_IMAGES} images"
        )
    return family.load()(shape)
