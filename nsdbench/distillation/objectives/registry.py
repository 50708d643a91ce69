"""Objectives by name, their cost per step, and how to build one from a recipe; no torch.

To add an objective here, write its class in a file of this package, its settings and price in a
file of `families`, and a line below.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nsdbench.data import DatasetSpec
from nsdbench.experts import student_arch
from nsdbench.methods import Recipe
from nsdbench.models.ids import parse_id
from nsdbench.registry import Family, Registry

if TYPE_CHECKING:
    from nsdbench.distillation.objectives.base import Objective, ObjectiveContext

# Forward passes that a training step takes: forward, gradient of data, gradient of weights. One
# that is differentiated exactly takes eight more.
TRAINING_PASSES, DIFFERENTIATED_PASSES = 3, 11


@dataclass(frozen=True)
class StepWork:
    """What one outer step costs, in units of the student's network.

    Attributes:
        passes: forward passes of one image.
        steps: training steps and the like, which cost time besides arithmetic.
        kept_parameters: float32 copies of all parameters that are in memory at once.
        kept_images: images whose activations are in memory at once.
    """

    passes: float
    steps: float
    kept_parameters: int
    kept_images: int


@dataclass(frozen=True)
class Sizes:
    """What the cost of an outer step depends on besides the network.

    Attributes:
        num_images: of the decoded set.
        num_classes: of the data set.
        image_shape: channels, height, width.
        depth: blocks of the student's network, where they can be chosen.
    """

    num_images: int
    num_classes: int
    image_shape: tuple[int, int, int]
    depth: int


@dataclass(frozen=True)
class KernelWork:
    """What an outer step moves through memory, and keeps there, besides passes of the network."""

    moved_bytes: float = 0.0
    kept_bytes: float = 0.0


@dataclass(frozen=True)
class ObjectiveFamily(Family):
    """An objective as a recipe names it; `target` is called as target(context, settings).

    Attributes:
        work: called as work(settings, num_images, num_classes), of the decoded set; prices one
            outer step.
        trains_batch_norm: whether it knows what to do with running statistics.
        learns_labels: whether its loss depends on labels that are learned, not on classes alone.
        kernel_work: called as kernel_work(settings, sizes) by plans, and before a distillation does
            any work; raises ValueError for sizes that the objective cannot take.
    """

    work: Callable[[Any, int, int], StepWork]
    trains_batch_norm: bool = False
    learns_labels: bool = False
    kernel_work: Callable[[Any, Sizes], KernelWork] = lambda settings, sizes: KernelWork()


_FAMILIES = "nsdbench.distillation.objectives.families"
_REGISTRY = Registry(
    "objective",
    "nsdbench.objectives",
    ObjectiveFamily,
    {
        "trajectory": f"{_FAMILIES}.unrolled:TRAJECTORY",
        "adversarial-trajectory": f"{_FAMILIES}.unrolled:ADVERSARIAL_TRAJECTORY",
        "bptt": f"{_FAMILIES}.unrolled:BPTT",
        "distribution": f"{_FAMILIES}.classwise:DISTRIBUTION",
        "gradient": f"{_FAMILIES}.classwise:GRADIENT",
        "feature-alignment": f"{_FAMILIES}.classwise:FEATURE_ALIGNMENT",
        "feature-regression": f"{_FAMILIES}.regression:FEATURE_REGRESSION",
        "conv-gradient": f"{_FAMILIES}.classwise:CONV_GRADIENT",
        "ntk-ridge": f"{_FAMILIES}.regression:NTK_RIDGE",
        "random-feature-ridge": f"{_FAMILIES}.regression:RANDOM_FEATURE_RIDGE",
    },
)
names = _REGISTRY.names
read = _REGISTRY.read


def check_network(section: Mapping[str, Any], norm: str) -> None:
    """Refuse networks with batch norm where an objective cannot have them.

    Args:
        section: a recipe's `objective`.
        norm: of the networks that it looks through, see `models.NORMS`.

    Raises:
        ValueError: as of `Registry.read`, or the objective does not go with the norm.
    """
    family, _ = read(section)
    if norm == "batch_norm" and not family.trains_batch_norm:
        raise ValueError(
            f"objective {section['name']!r} takes no networks with batch norm: running statistics "
            "change in every step, so that the exact gradient through a student cannot replay it, "
            "and experts do not keep them; set network.norm to instance_norm or none"
        )


def check_labels(section: Mapping[str, Any], are_learned: bool) -> None:
    """Refuse learned labels where an objective would leave them as they start.

    Args:
        section: a recipe's `objective`.
        are_learned: whether its parameterization stores labels that are learned.

    Raises:
        ValueError: as of `Registry.read`, or the objective looks at classes alone.
    """
    family, _ = read(section)
    if are_learned and not family.learns_labels:
        raise ValueError(
            f"objective {section['name']!r} looks at classes and would leave learned labels as "
            "they start; set parameterization.learned_labels to false"
        )


def kernel_work(recipe: Recipe, spec: DatasetSpec, num_images: int) -> KernelWork:
    """Price what an outer step does besides passes of the network; a check before any work, too.

    Args:
        recipe: its objective, and the depth of its network, count.
        spec: of the data set.
        num_images: that the set decodes to.

    Raises:
        ValueError: the objective cannot take this data set, or its settings are wrong.
    """
    family, settings = read(recipe.values["objective"])
    depth = parse_id(student_arch(recipe, spec))[1] or 0
    try:
        return family.kernel_work(
            settings, Sizes(num_images, spec.num_classes, spec.image_shape, depth)
        )
    except ValueError as error:
        name = recipe.values["objective"]["name"]
        raise ValueError(f"objective {name!r}: {error}") from None


def build(section: Mapping[str, Any], context: "ObjectiveContext") -> "Objective":
    """Build the objective of a recipe's `objective` section.

    Raises:
        ValueError: as of `Registry.read`; before experts are opened.
    """
    family, settings = read(section)
    return family.load()(context, settings)
