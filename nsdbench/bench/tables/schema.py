"""The schema of table files: rows, and columns at every scale; names are checked on reading."""

from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, Field, model_validator

from nsdbench import data, methods
from nsdbench.data.catalog import original
from nsdbench.errors import DataCorrupt, DataMissing, NotImplementedYet, checked
from nsdbench.evaluation import protocols
from nsdbench.methods.conditions import SCALES as SCALES
from nsdbench.methods.conditions import Conditions
from nsdbench.methods.schema import Network, Text
from nsdbench.methods.variants import variant_name
from nsdbench.models.ids import parse_id
from nsdbench.registry import Count, Settings

# The paper's names of the evaluation networks and our ids (spec of the networks: README, models).
PUBLISHED_ARCHS = {
    "ConvNet3": "convnet3-w128",
    "ConvNet5": "convnet5-w128",
    "ResNet18": "resnet18",
    "VGG11": "vgg11",
    "AlexNet": "alexnet",
}
_PAPER_NAMES = {arch: name for name, arch in PUBLISHED_ARCHS.items()}

T = TypeVar("T")
Several = Annotated[tuple[T, ...], Field(strict=False)]


def known(look_up: Callable[[str], object]) -> AfterValidator:
    """Have a name looked up, which raises ValueError for an unknown one."""

    def check(name: str) -> str:
        look_up(name)
        return name

    return AfterValidator(check)


def _dataset(name: str) -> None:
    """Look up a data set; one that is not on this machine, or damaged, stops its own cells."""
    try:
        data.spec(name)
    except (DataMissing, DataCorrupt):
        pass


def _arch(identifier: str) -> None:
    """Look up a network that is not too large to be meant."""
    _, depth, width, _ = parse_id(identifier)
    sizes = {"depth": depth, "width": width}
    checked(Network, {key: size for key, size in sizes.items() if size}, identifier)


DatasetName = Annotated[Text, known(_dataset)]
ArchId = Annotated[Text, known(_arch)]
SetProtocol = Annotated[Text, known(protocols.get_for_sets)]
AnyProtocol = Annotated[Text, known(protocols.get)]


class Difference(Settings):
    """A row that is the difference of two others: their labels, minuend and subtrahend."""

    minus: Annotated[tuple[Text, Text], Field(strict=False)]


class Row(Settings):
    """A row of a table: a method, with settings of its own or not, or a difference of two rows.

    `protocol`, unless empty, takes the place of the scale's; the row has cells in the columns for
    which `when` holds.
    """

    label: Text
    family: Text
    method: Text | None = None
    derived: Difference | None = None
    protocol: SetProtocol = ""
    published_protocol: Text = "common"
    note: Text = ""
    settings: dict[str, Any] = Field({}, alias="set")
    when: Conditions = Conditions()

    def __hash__(self) -> int:
        return hash(self.label)

    @property
    def minus(self) -> tuple[str, str] | None:
        """Return the labels (minuend, subtrahend) of a derived row."""
        return self.derived.minus if self.derived else None

    @property
    def variant(self) -> str:
        """Name the method with the row's settings; empty for a derived row."""
        return variant_name(self.method, self.settings) if self.method else ""

    @model_validator(mode="after")
    def _is_possible(self) -> "Row":
        """Refuse keys that have no place, and settings that the method cannot have."""
        if (self.method is None) == (self.derived is None):
            raise ValueError("expected exactly one of `method` and `derived`")
        for key, field in (("protocol", "protocol"), ("set", "settings"), ("when", "when")):
            if field in self.model_fields_set and self.method in (None, "full"):
                raise ValueError(
                    f"`{key}` has no place in a derived row or the full data's (whose protocol is "
                    "the scale's `full_protocol`)"
                )
        if self.settings:
            try:
                methods.load(self.variant)
            except NotImplementedYet:  # there may be rows of such methods
                pass
        return self


class Column(Settings):
    """A column of a table at one scale."""

    dataset: DatasetName
    ipc: Count
    arch: ArchId
    paper_name: Text | None = Field(None, alias="published_arch")

    @property
    def published_dataset(self) -> str:
        """Return the data set in the paper: the one that the column's stands for, or its own."""
        return original(self.dataset)

    @property
    def published_arch(self) -> str:
        """Return the network's name in the paper."""
        return self.paper_name or _PAPER_NAMES.get(self.arch, self.arch)


class Similarity(Settings):
    """Real images that are compared along their dimensions: training images of one class."""

    dataset: DatasetName
    label: Annotated[int, Field(ge=0)]
    num_images: Count


class ScaleSettings(Settings):
    """What a table measures at one scale: cells, or how similar real images are."""

    protocol: SetProtocol = ""
    full_protocol: AnyProtocol = ""
    seeds: Count = 1
    repeats: Count = 1
    repeats_of_full: Count | None = Field(None, alias="full_repeats")
    columns: Several[Column] = ()
    note: Text = ""
    similarity: Similarity | None = None

    @property
    def full_repeats(self) -> int:
        """Return the number of networks that are trained on the full data."""
        return self.repeats_of_full or self.repeats

    @model_validator(mode="after")
    def _is_one_of_both(self) -> "ScaleSettings":
        """Ask for all that cells need, and for nothing of it beside a similarity."""
        for key in ("protocol", "seeds", "repeats", "columns"):
            if self.similarity and key in self.model_fields_set:
                raise ValueError(f"`{key}` has no place beside `similarity`, which has no cells")
            if not self.similarity and key not in self.model_fields_set:
                raise ValueError(f"`{key}` is missing")
        return self
