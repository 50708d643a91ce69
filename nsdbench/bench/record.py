"""The record of a cell: what was measured and how, or why it could not be; as JSON, schema 1.

    Record            the cell, what was asked for, where and when it ran
    ├── Result        status "done": accuracy, budget, training, data
    └── Failed        status "failed": the reason

Fields that a record was made without stay out of its JSON, and those with a default may be missing
in a file: a record that is read and written again keeps its bytes.
"""

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, PlainSerializer, TypeAdapter, ValidationError, WrapValidator

from nsdbench.bench.cell import Cell
from nsdbench.bench.facts import (
    Budget,
    Cost,
    Data,
    Distillation,
    Facts,
    Failure,
    Judged,
    Provenance,
    Training,
    Work,
)
from nsdbench.files import pictures_name
from nsdbench.spread import Estimate, Summary
from nsdbench.sums import json_sum, notice_without_sum

if TYPE_CHECKING:
    from nsdbench.evaluation.protocols import Protocol
    from nsdbench.methods import Recipe

SCHEMA: Literal[1] = 1
_MOST_FAULTS = 3  # named of one file
# What two runs of one cell may differ in: cost, and where, when and by which words they ran.
_VOLATILE: dict[str, Any] = {
    "cost": True,
    "work": True,
    "provenance": {"started", "finished", "commit", "dirty", "command"},
}


def _read_cell(value: Any, read: Callable[[Any], Cell]) -> Cell:
    """Read a cell from its fields and its id, which must agree; a `Cell` is taken as it is."""
    if not isinstance(value, dict):
        return read(value)
    cell = read({key: part for key, part in value.items() if key != "id"})
    if value.get("id") != cell.id:
        raise ValueError(f"id {value.get('id')!r} of the cell {cell.id!r}")
    return cell


_Cell = Annotated[
    Cell, WrapValidator(_read_cell), PlainSerializer(lambda cell: {**asdict(cell), "id": cell.id})
]


class Record(Facts):
    """What every record says: the cell, what was asked for (recipe, protocol, runs), and its cost.

    Attributes:
        recipe: the settings by section.
        protocol: the protocol's settings.
        seeds: distilled or drawn sets S.
        repeats: networks per set R.
    """

    schema_number: Literal[1] = Field(alias="schema")
    status: str
    cell: _Cell
    recipe: dict[str, dict[str, Any]] = {}
    recipe_hash: str = ""
    protocol: dict[str, Any] = {}
    protocol_hash: str = ""
    seeds: int = 0
    repeats: int = 0
    cost: Cost = Cost()
    provenance: Provenance = Provenance()
    failure: Failure | None = None

    @staticmethod
    def done(
        cell: Cell,
        *,
        recipe: "Recipe | None" = None,
        protocol: "Protocol | None" = None,
        **fields: Any,
    ) -> "Result":
        """Make the record of a measured cell; `fields` are the others of a `Result`.

        Recipe and protocol give their settings and hashes.
        """
        fields |= _conditions(recipe, protocol)
        return Result(schema=SCHEMA, status="done", cell=cell, **fields)

    @staticmethod
    def failed(
        cell: Cell,
        kind: str,
        reason: str,
        *,
        traceback: str = "",
        recipe: "Recipe | None" = None,
        protocol: "Protocol | None" = None,
        peak_bytes: int | None = None,
        **fields: Any,
    ) -> "Failed":
        """Make the record of a failure; `fields` are the others of a `Record`, if known."""
        failure = Failure(kind=kind, reason=reason, traceback=traceback, peak_bytes=peak_bytes)
        fields |= _conditions(recipe, protocol)
        return Failed(schema=SCHEMA, status="failed", cell=cell, failure=failure, **fields)

    @staticmethod
    def parse(text: str | bytes) -> "Result | Failed":
        """Read a record from JSON, without converting any value to another type.

        Raises:
            ValueError: it is not a record, the message names the first faults; or its content has
                changed since it was written.
        """
        try:
            content = json.loads(text)
        except RecursionError:
            raise ValueError("it is nested too deeply") from None
        if not isinstance(content, dict):
            raise ValueError("expected a JSON object")
        stated = content.pop("sum", None)
        if stated is None:
            notice_without_sum("a record")
        elif stated != json_sum(content):
            raise ValueError("its content has changed since it was written")
        try:
            return _RECORD.validate_json(json.dumps(content), strict=True)
        except ValidationError as error:
            raise ValueError(_faults(error)) from None

    def text(self) -> str:
        """Write the record as JSON with the sum of its content, a line a field: to read well."""
        content = self.as_dict()
        content["sum"] = json_sum(content)
        lines = [
            f"{json.dumps(key)}: {json.dumps(content[key], sort_keys=True, allow_nan=False)}"
            for key in sorted(content)
        ]
        return "{\n" + ",\n".join(lines) + "\n}\n"

    def as_dict(self) -> dict[str, Any]:
        """Return the fields it was made with as plain values."""
        return self.model_dump(by_alias=True, exclude_unset=True)

    def comparable(self) -> dict[str, Any]:
        """Return all that two runs of one cell must agree in: no costs, times or commits."""
        return self.model_dump(by_alias=True, exclude_unset=True, exclude=_VOLATILE)

    def change_since(self, recipe_hash: str, protocol_hash: str) -> str:
        """Say what has changed since the record was made; empty if it is of these hashes."""
        if self.recipe_hash != recipe_hash:
            return "its recipe has changed since"
        if self.protocol_hash != protocol_hash:
            return "its protocol has changed since"
        return ""

    def is_done(
        self, cell: Cell, recipe_hash: str, protocol_hash: str, seeds: int, repeats: int
    ) -> bool:
        """Say whether it is a result of this cell, recipe and protocol with enough runs."""
        return (
            self.status == "done"
            and self.cell == cell
            and not self.change_since(recipe_hash, protocol_hash)
            and self.seeds >= seeds
            and self.repeats >= repeats
        )


class Result(Record):
    """The record of a measured cell; `budget` is None for the full data.

    `judged` is there where the set is somebody's and not a method's, see `judging`.
    """

    status: Literal["done"]
    recipe_hash: str
    protocol_hash: str
    seeds: int
    repeats: int
    accuracy: Summary
    budget: Budget | None = None
    training: Training = Training()
    data: Data | None = None
    work: Work | None = None
    distillation: Distillation | None = None
    judged: Judged | None = None
    failure: None = None

    @property
    def runaway(self) -> str:
        """Say what ran away while its sets were learned; empty if nothing did."""
        return "" if self.distillation is None else self.distillation.runaway

    @property
    def gain(self) -> Estimate | None:
        """Return the accuracy of a judged set less Random's; None where that is not known."""
        if self.judged is None or self.judged.random is None:
            return None
        return self.accuracy.estimate - self.judged.random.estimate

    @property
    def pictures_name(self) -> str:
        """Name the pictures of its first set; other cells of the recipe share them."""
        cell = self.cell
        return pictures_name(cell.dataset, cell.ipc, cell.method, self.recipe_hash)

    @property
    def images(self) -> int | None:
        """Return the number of images the networks were trained on."""
        decoded = self.budget.decoded_images if self.budget is not None else None
        return self.training.num_images if decoded is None else decoded

    @property
    def batch(self) -> int | None:
        """Return the images of a full batch: the protocol's, or all of a smaller set."""
        size, images = self.protocol.get("batch_size"), self.images
        return min(size, images) if isinstance(size, int) and images is not None else None


class Failed(Record):
    """The record of a cell that has no number."""

    status: Literal["failed"]
    failure: Failure


_RECORD: TypeAdapter[Result | Failed] = TypeAdapter(
    Annotated[Result | Failed, Field(discriminator="status")]
)


def _conditions(recipe: "Recipe | None", protocol: "Protocol | None") -> dict[str, Any]:
    """Return recipe and protocol, as far as they are known, as a record holds them."""
    known: dict[str, Any] = {}
    if recipe is not None:
        known |= {"recipe": recipe.values, "recipe_hash": recipe.hash}
    if protocol is not None:
        known |= {"protocol": protocol.as_dict(), "protocol_hash": protocol.hash}
    return known


def _faults(error: ValidationError) -> str:
    """Write the first faults that pydantic found, each with the field it is in."""
    faults = []
    for fault in error.errors(include_url=False, include_input=False)[:_MOST_FAULTS]:
        place = ".".join(str(part) for part in fault["loc"][1:])  # the first is the status
        faults.append(f"{place}: {fault['msg']}" if place else fault["msg"])
    more = error.error_count() - len(faults)
    return "; ".join(faults) + (f" and {more} more" if more > 0 else "")
