"""Latents that a generator prior turns into images (GLaD; module `generator`)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator

from nsdbench.errors import nearest
from nsdbench.registry import Count, Settings
from nsdbench.sets import priors
from nsdbench.sets.budget import Budget
from nsdbench.sets.parameterizations.registry import DecodingWork, ParameterizationFamily
from nsdbench.sets.parameterizations.separable_shape import SeparableShape, columns

_OF_PRIOR = "prior_"  # begins the settings of the prior itself
# Forward passes that decoding takes in an outer step: without a graph, then chunk by chunk with one
# and the gradient of latents.
_PASSES = 3

Start = Literal["sampled", "mean"]
Shift = Annotated[float, Field(ge=-1, le=1)]


class GeneratorSettings(Settings):
    """Settings of latents of a prior; those of the prior itself are `prior_<key>`.

    Attributes:
        prior: one of `priors.names`, or of a package outside.
        layer: the latent f of an image goes into this layer of the synthesis; -1 is the last one.
        start: whether w is mapped from one sample, or is the mean of w over 1,000 of the class.
        chunk: images that are decoded, and differentiated, at a time; 10 in GLaD's code.
        shift: added to the channels of decoded pictures, from 0 to 1, if given. 0.0473, 0.0122,
            -0.0668 repeats a slip of GLaD's code on ImageNet, which standardises real images by its
            means, but decoded ones by those of SVHN.
    """

    model_config = ConfigDict(extra="allow")

    prior: Annotated[str, Field(min_length=1)]
    layer: Annotated[int, Field(ge=-(10**4), le=10**4)]
    start: Start = "sampled"
    chunk: Count = 10
    shift: Annotated[tuple[Shift, ...], Field(strict=False)] = ()

    @property
    def prior_settings(self) -> dict[str, Any]:
        """Return the settings of the prior, by its own keys."""
        given = self.model_extra or {}
        return {key.removeprefix(_OF_PRIOR): value for key, value in given.items()}

    @model_validator(mode="after")
    def _knows_all_keys(self) -> "GeneratorSettings":
        known = [*type(self).model_fields, f"{_OF_PRIOR}<setting of the prior>"]
        for key in self.model_extra or {}:
            if not key.startswith(_OF_PRIOR):
                raise ValueError(
                    f"unknown key `{key}`; known: {', '.join(known)}{nearest(key, known)}"
                )
        return self


@dataclass(frozen=True)
class GeneratorShape:
    """Sizes of a set of latents; what an artefact holds is `pixels`.

    Attributes:
        name: "generator".
        num_classes, image_shape, ipc: as of `Budget`.
        prior, prior_settings: the prior by name, with its settings.
        layer: counted from 0.
        start, chunk, shift: as of `GeneratorSettings`.
    """

    name: str
    num_classes: int
    image_shape: tuple[int, int, int]
    ipc: int
    prior: str
    layer: int
    start: Start
    chunk: int
    shift: tuple[float, ...] = ()
    prior_settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def sizes(self) -> priors.PriorSizes:
        """Return the sizes of the prior's latents."""
        return priors.sizes(self.prior, self.prior_settings, self.image_shape, self.num_classes)

    @property
    def pixels(self) -> SeparableShape:
        """Return the sizes of the set that is stored."""
        budget = Budget(self.image_shape, self.num_classes, self.ipc)
        sizes = (self.num_images, *self.image_shape)
        return columns("pixels", budget, sizes, self.num_images, (False,) * 4, (), "noise")

    @property
    def num_elements(self) -> int:
        """Stored elements: pixels; neither latents nor prior are kept."""
        return self.num_images * prod(self.image_shape)

    @property
    def num_images(self) -> int:
        """Images, one of every pair of latents."""
        return self.num_classes * self.ipc


def _plan(settings: GeneratorSettings, budget: Budget) -> GeneratorShape:
    """Plan `ipc` images of every class, which fill the budget whatever latents take."""
    sizes = priors.sizes(
        settings.prior, settings.prior_settings, budget.image_shape, budget.num_classes
    )
    count = sizes.num_layers
    if not -count <= settings.layer < count:
        raise ValueError(
            f"layer is {settings.layer}; for images of {budget.image_shape} the prior "
            f"{settings.prior!r} has layers 0 to {count - 1}, or -{count} to -1 from the end"
        )
    if settings.shift and len(settings.shift) != budget.image_shape[0]:
        raise ValueError(
            f"shift has {len(settings.shift)} numbers; expected one for each of the "
            f"{budget.image_shape[0]} channels"
        )
    return GeneratorShape(
        "generator",
        budget.num_classes,
        budget.image_shape,
        budget.ipc,
        settings.prior,
        settings.layer % count,
        settings.start,
        settings.chunk,
        settings.shift,
        settings.prior_settings,
    )


def _work(settings: GeneratorSettings, budget: Budget, train_size: int) -> DecodingWork:
    """Count the decoding of all images, a chunk in memory at a time, and making the prior."""
    shape = _plan(settings, budget)
    sizes = shape.sizes
    family, checked = priors.read(settings.prior, settings.prior_settings)
    flops, steps = family.making(checked, sizes, budget.image_shape, train_size)
    described = (settings.prior, *sorted((k, str(v)) for k, v in settings.prior_settings.items()))
    return DecodingWork(
        _PASSES * shape.num_images * sizes.flops,
        min(shape.num_images, settings.chunk) * sizes.activations,
        flops,
        steps,
        described,
    )


GENERATOR = ParameterizationFamily(
    GeneratorSettings,
    "nsdbench.sets.parameterizations.generator:Generated",
    _plan,
    GeneratorShape,
    _work,
)
