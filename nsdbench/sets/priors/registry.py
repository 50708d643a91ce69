"""Priors by name, the sizes of their latents, and what making them costs; no torch.

A prior of ours takes its settings and sizes in `families`, a line below, and what makes it in a
file of this package; a package outside adds one by the entry point `nsdbench.priors`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from nsdbench.errors import DataMissing
from nsdbench.registry import Family, Registry

ImageShape = tuple[int, int, int]
# A prior that a recipe of ours names and nobody may ship, and what its cells need.
PUBLISHED = "stylegan-xl"
_HOW_TO_GET = (
    f"the prior {PUBLISHED!r}, a StyleGAN-XL that was trained on ImageNet, is not part of nsdbench "
    f"and cannot be downloaded by it: install a package that adds {PUBLISHED!r} under the entry "
    "point nsdbench.priors (docs/plugins.md), or run glad-suite or glad-random, whose priors are "
    "made here"
)


@dataclass(frozen=True)
class PriorSizes:
    """What is known of a prior before it is made.

    Attributes:
        z_dim: numbers that a sample starts from.
        w_dim, num_ws: the latent w of an image is [num_ws, w_dim].
        num_layers: layers of the synthesis; f of layer n, 0 <= n < num_layers, goes into layer n.
        flops: of decoding an image from f of layer 0.
        activations: floats that are kept while the decoding of an image is differentiated.
    """

    z_dim: int
    w_dim: int
    num_ws: int
    num_layers: int
    flops: float
    activations: int


def _nothing(settings: Any, sizes: PriorSizes, shape: ImageShape, size: int) -> tuple[float, int]:
    return 0.0, 0


@dataclass(frozen=True)
class PriorFamily(Family):
    """A prior as a recipe names it; `target` is called as target(context, settings).

    Attributes:
        sizes: called as sizes(settings, image_shape, num_classes); raises ValueError for images
            that the prior cannot make.
        making: called as making(settings, sizes, image_shape, train_size); gives the flops and the
            training steps of making it. Nothing by default.
    """

    sizes: Callable[[Any, ImageShape, int], PriorSizes]
    making: Callable[[Any, PriorSizes, ImageShape, int], tuple[float, int]] = _nothing


_FAMILIES = "nsdbench.sets.priors.families"
_REGISTRY = Registry(
    "prior",
    "nsdbench.priors",
    PriorFamily,
    {
        "suite-trained": f"{_FAMILIES}:SUITE_TRAINED",
        "random": f"{_FAMILIES}:RANDOM",
    },
)
names = _REGISTRY.names


def lacking(section: Mapping[str, Any]) -> str:
    """Say what a recipe's `parameterization` section needs that nobody provides; empty if nothing.

    That is a prior which recipes of ours name and no installed package adds.
    """
    is_lacking = section.get("prior") == PUBLISHED and PUBLISHED not in names()
    return _HOW_TO_GET if is_lacking else ""


def read(name: str, settings: Mapping[str, Any]) -> tuple[PriorFamily, Any]:
    """Return the family of a prior and its settings, checked.

    Raises:
        DataMissing: the published prior, which no installed package adds.
        ValueError: as of `Registry.read`.
    """
    if sentence := lacking({"prior": name}):
        raise DataMissing(sentence)
    return _REGISTRY.read({**settings, "name": name})


def sizes(
    name: str, settings: Mapping[str, Any], image_shape: ImageShape, num_classes: int
) -> PriorSizes:
    """Return the sizes of a prior for images of a shape.

    Raises:
        DataMissing, ValueError: as of `read`, or the prior cannot make such images.
    """
    family, checked = read(name, settings)
    try:
        return family.sizes(checked, image_shape, num_classes)
    except ValueError as error:
        raise ValueError(f"prior {name!r}: {error}") from None
