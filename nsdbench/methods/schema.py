"""The schema of method files: keys, types and ranges.

This is the form of a file. What an objective, a parameterization or a coreset may be told is known
where its name is; here their sections are tables of plain values.
"""

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, model_validator
from typing_extensions import TypedDict

from nsdbench.errors import checked
from nsdbench.methods.conditions import Conditions
from nsdbench.registry import Count, Rate, Settings

Decay = Annotated[float, Field(ge=0, lt=1)]
Text = Annotated[str, Field(min_length=1)]


def _plain(value: Any) -> Any:
    """Refuse what no record can hold: dates, and numbers that are not finite."""
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{value!r} is not a setting; expected a finite number, true or false, text, or several"
        ) from error
    return value


class Part(Settings):
    """The section of something that has a name; the name decides which other keys there are."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Annotated[Any, AfterValidator(_plain)]] = Field(init=False)
    name: Text = ""


class Data(TypedDict, total=False):
    """How real images are prepared."""

    preprocessing: Text


class Experts(TypedDict, total=False):
    """Networks trained on real data, see `experts.ExpertRecipe`; or the buffer that holds them."""

    buffer: str
    num_experts: Count
    epochs: Count
    lr: Rate
    momentum: Decay
    weight_decay: Rate
    batch_size: Count
    dsa_strategy: str
    optimiser: Text
    rho: Rate
    alpha: Rate
    keeps_correctness: bool
    standardises_batches: bool
    nesterov: bool
    lr_milestones: list[Count]
    lr_factor: Rate


class Optimiser(TypedDict, total=False):
    """What distillation descends with, see `distillation.optimisers`."""

    name: Text
    momentum: Decay
    iterations: Count
    lr_syn: Rate
    lr_kernels: Rate
    lr_labels: Rate
    lr_lr: Rate
    ema_decay: Decay
    cosine_to: Decay
    halved_at: list[Annotated[float, Field(gt=0, lt=1)]]


class Network(TypedDict, total=False):
    """The network of experts and students."""

    name: Text
    depth: Annotated[int, Field(ge=1, le=16)]
    width: Annotated[int, Field(ge=1, le=2**16)]
    norm: Text


class Coreset(Part):
    """A selection of real images."""

    draw_per_network: bool = False


class BlockForm(Settings):
    """One [[settings]] block; all keys but two are sections, of which a block may say a part."""

    when: Conditions = Conditions()
    source: Text
    data: Data = {}
    parameterization: Part = Part()
    objective: Part = Part()
    experts: Experts = {}
    optimiser: Optimiser = {}
    network: Network = {}
    coreset: Coreset = Coreset()


SECTIONS = tuple(key for key in BlockForm.model_fields if key not in ("when", "source"))


def typed(section: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a section whose keys are known here with their types.

    A whole number becomes a float where one is expected.

    Raises:
        ValueError: an unknown key, or a value of another type or out of range.
    """
    form = checked(BlockForm, {"source": "-", section: dict(values)}, section)
    return dict(getattr(form, section))


class FileForm(Settings):
    """A method file; its blocks are checked one by one."""

    name: Text
    title: Text
    kind: Literal["distillation", "coreset", "full"] | None = None
    extends: Text | None = None
    source: Text | None = None
    settings: list[Any] = []

    @model_validator(mode="after")
    def _is_complete(self) -> "FileForm":
        """Ask for what no other method hands down."""
        for key, what in (
            ("kind", "say distillation, coreset or full"),
            ("source", "cite the paper or code of the method"),
        ):
            if self.extends is None and getattr(self, key) is None:
                raise ValueError(f"`{key}` is missing; {what}, or extend a method that does")
        return self
