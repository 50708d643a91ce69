"""The schema of table files: rows, and columns at every scale; names are checked on reading."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, Field, PrivateAttr, model_validator

from nsdbench import data, methods
from nsdbench.bench import parts
from nsdbench.data.catalog import original
from nsdbench.errors import DataCorrupt, DataMissing, NotImplementedYet, checked
from nsdbench.evaluation import protocols
from nsdbench.methods.conditions import SCALES as SCALES
from nsdbench.methods.conditions import Conditions
from nsdbench.methods.schema import Network, Text
from nsdbench.methods.variants import variant_name
from nsdbench.models import own
from nsdbench.models.ids import NETWORKS, parse_id
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


def _arch(identifier: str) -> str:
    """Look up a network that is not too large to be meant; a user's gets its source's digest.

    One whose file is not here stops its own cells.
    """
    name, depth, width, norm = parse_id(identifier)
    sizes = {"depth": depth, "width": width}
    checked(Network, {key: size for key, size in sizes.items() if size}, identifier)
    if name in NETWORKS:
        return identifier
    try:
        return own.join(own.with_digest(name), depth, width, norm)
    except ValueError:
        return identifier


DatasetName = Annotated[Text, known(_dataset)]
ArchId = Annotated[Text, AfterValidator(_arch)]
SetProtocol = Annotated[Text, known(protocols.get_for_sets)]
AnyProtocol = Annotated[Text, known(protocols.get)]


class Difference(Settings):
    """A row that is the difference of two others: their labels, minuend and subtrahend."""

    minus: Annotated[tuple[Text, Text], Field(strict=False)]


def _listed_once(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """Refuse an empty list, and a value that stands in it twice; 1 and 1.0 are the same."""
    if not values:
        raise ValueError("has no value; list those to try")
    for index, value in enumerate(values):
        for other in values[:index]:
            if value == other and isinstance(value, bool) == isinstance(other, bool):
                raise ValueError(f"has the value {value!r} twice")
    return values


def short(path: str) -> str:
    """Return the key of a setting, "section.key"."""
    return path.partition(".")[2]


def plainly(value: Any) -> str:
    """Write the value of a setting in few characters: 30 for 30.0."""
    return f"{value:g}" if isinstance(value, float) else str(value)


class Row(Settings):
    """A row of a table: a method, with settings of its own or not, or a difference of two rows.

    `protocol`, unless empty, takes the place of the scale's, as `seeds` does; the row has cells in
    the columns for which `when` holds. A row with a `grid` is a sweep: it stands for one row, a
    point, for every combination of its values.
    """

    label: Text
    family: Text
    method: Text | None = None
    derived: Difference | None = None
    protocol: SetProtocol = ""
    published_protocol: Text = "common"
    note: Text = ""
    settings: dict[str, Any] = Field({}, alias="set")
    grid: dict[Text, Annotated[Several[Any], AfterValidator(_listed_once)]] = {}
    seeds: Count | None = None
    when: Conditions = Conditions()
    _sweep: Row | None = PrivateAttr(None)

    def __hash__(self) -> int:
        return hash(self.label)

    @property
    def minus(self) -> tuple[str, str] | None:
        """Return the labels (minuend, subtrahend) of a derived row."""
        return self.derived.minus if self.derived else None

    @property
    def sweep(self) -> Row | None:
        """Return the row with the grid that this row is a point of, None of any other row."""
        return self._sweep

    @property
    def values(self) -> dict[str, Any]:
        """Return a point's values of the settings that are swept, as they are declared."""
        return {path: self.settings[path] for path in self.sweep.grid} if self.sweep else {}

    def points(self) -> tuple[Row, ...]:
        """Return the row, or of a sweep its points: the last setting of the grid changes first."""
        if not self.grid:
            return (self,)
        found = []
        for values in product(*self.grid.values()):
            own = dict(zip(self.grid, values, strict=True))
            named = ", ".join(f"{short(path)} {plainly(value)}" for path, value in own.items())
            changes = {"settings": self.settings | own, "label": f"{self.label}, {named}"}
            point = self.model_copy(update=changes | {"grid": {}})
            point._sweep = self
            found.append(point)
        return tuple(found)

    def variant(self, dataset: str, ipc: int, scale: str) -> str:
        """Name the method with the row's settings in a column; empty for a derived row.

        A point leaves out what its method does there anyway, and writes the others as the parts of
        the method read them, so that equal recipes have equal names, and one record.

        Raises:
            ValueError: the method cannot have a point's settings.
        """
        if not self.method:
            return ""
        fixed = None if self.sweep is None else _described(self.method, self.sweep.settings)
        if self.sweep is None or fixed is None or parts.missing(fixed):
            return variant_name(self.method, self.settings)
        before = fixed.resolve(dataset, ipc, scale)
        after = fixed.resolve(dataset, ipc, scale, self.values)
        parts.check(after, self.values)
        changed = {}
        for path in self.values:
            value = parts.setting(after, path)
            if value != _setting_before(before, path):
                changed[path] = value
        return variant_name(self.method, self.sweep.settings | changed)

    @model_validator(mode="after")
    def _is_possible(self) -> Row:
        """Refuse keys that have no place, and settings that the method cannot have."""
        if (self.method is None) == (self.derived is None):
            raise ValueError("expected exactly one of `method` and `derived`")
        for key, field in (
            ("protocol", "protocol"), ("set", "settings"), ("grid", "grid"), ("seeds", "seeds"),
            ("when", "when"),
        ):  # fmt: skip
            if field in self.model_fields_set and self.method in (None, "full"):
                raise ValueError(
                    f"`{key}` has no place in a derived row or the full data's (whose protocol is "
                    "the scale's `full_protocol`)"
                )
        if "grid" in self.model_fields_set and not self.grid:
            raise ValueError("`grid` is empty; expected settings with lists of values")
        for path in self.grid:
            if path in self.settings:
                raise ValueError(f"{path} stands in `grid` and in `set`; keep one")
        for point in self.points():
            if self.method and point.settings:
                _described(self.method, point.settings)
        return self


def _described(method: str, settings: dict[str, Any]) -> methods.Method | None:
    """Read a method with settings; None if no file describes it: there may be rows of such."""
    try:
        return methods.load(variant_name(method, settings))
    except NotImplementedYet:
        return None


def _setting_before(recipe: methods.Recipe, path: str) -> Any:
    """Return a setting that a sweep varies as it is without; None where it is not complete so."""
    try:
        return parts.setting(recipe, path)
    except ValueError:
        return None


class Column(Settings):
    """A column of a table at one scale.

    `protocol`, unless empty, takes the place of the scale's; a row's own comes before it.
    """

    dataset: DatasetName
    ipc: Count
    arch: ArchId
    protocol: SetProtocol = ""
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
    def _is_one_of_both(self) -> ScaleSettings:
        """Ask for all that cells need, and for nothing of it beside a similarity."""
        for key in ("protocol", "seeds", "repeats", "columns"):
            if self.similarity and key in self.model_fields_set:
                raise ValueError(f"`{key}` has no place beside `similarity`, which has no cells")
            if not self.similarity and key not in self.model_fields_set:
                raise ValueError(f"`{key}` is missing")
        return self
