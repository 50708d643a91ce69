"""A table as the rest of the program sees it: rows, columns per scale, and the cells they make."""

from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, model_validator

from nsdbench import methods
from nsdbench.bench import parts
from nsdbench.bench.cell import Cell
from nsdbench.bench.tables.published import PrintedNumber, read_published
from nsdbench.bench.tables.schema import (
    PUBLISHED_ARCHS,
    Column,
    Row,
    ScaleSettings,
    Several,
    known,
)
from nsdbench.bench.verdict import Published
from nsdbench.errors import NotImplementedYet, nearest
from nsdbench.evaluation import protocols
from nsdbench.methods.conditions import check_scale
from nsdbench.methods.schema import Text
from nsdbench.registry import Settings


@dataclass(frozen=True)
class Entry:
    """One cell of a table at one scale; the full-data row has one per dataset and network.

    `description` is the method as its file describes it, None if no file does.
    """

    row: Row
    columns: tuple[Column, ...]
    cell: Cell
    seeds: int
    repeats: int
    published: Published | None
    description: methods.Method | None = field(compare=False, repr=False)

    @property
    def is_described(self) -> bool:
        """Say whether a file describes the method."""
        return self.description is not None

    @cached_property
    def missing(self) -> list[str]:
        """Say what the method lacks to be run, empty if it is implemented."""
        return parts.missing(self.description)

    @cached_property
    def needs(self) -> str:
        """Say what the cell needs besides its data set and nobody provides, empty if nothing."""
        return "" if self.missing else parts.needs(self.recipe)

    @cached_property
    def recipe(self) -> methods.Recipe:
        """Return what the method's file says for this cell.

        Raises:
            NotImplementedYet: no file describes the method.
        """
        if self.description is None:
            return methods.resolve(
                self.cell.method, self.cell.dataset, self.cell.ipc, self.cell.scale
            )
        return self.description.resolve(self.cell.dataset, self.cell.ipc, self.cell.scale)


def _listed(value: Any) -> Any:
    """Take one file for a list of it."""
    return [value] if isinstance(value, str) else value


def _two_settings(axes: tuple[str, ...]) -> tuple[str, ...]:
    if len(axes) != 2 or not all("." in axis for axis in axes):
        raise ValueError(f"{list(axes)}; expected two settings, section.key")
    return axes


def _expanded(rows: tuple[Row, ...]) -> tuple[Row, ...]:
    return tuple(point for row in rows for point in row.points())


class Table(Settings):
    """A published table: rows, settings per scale, and the files of the printed numbers.

    `axes` holds two settings, "section.key", of a table that is drawn: its numbers over the first
    and the second.
    """

    name: Text
    title: Text
    source: Text
    published: Annotated[
        Several[Annotated[Text, known(read_published)]], BeforeValidator(_listed)
    ] = ()
    footnotes: Several[Text] = ()
    axes: Annotated[Several[Text], AfterValidator(_two_settings)] = ()
    rows: Annotated[Several[Row], AfterValidator(_expanded)]
    scales: dict[str, ScaleSettings]

    @model_validator(mode="after")
    def _is_consistent(self) -> "Table":
        """Refuse rows that do not fit each other, and scales that do not fit the rows."""
        labels = [row.label for row in self.rows]
        for row in self.rows:
            for label in row.minus or ():
                if label not in labels:
                    raise ValueError(
                        f"row {row.label!r} is derived from unknown {label!r}"
                        f"{nearest(label, labels)}"
                    )
        for name, settings in self.scales.items():
            check_scale(name)
            has_full = any(row.method == "full" for row in self.rows)
            if has_full and not settings.full_protocol:
                raise ValueError(f"scales.{name}: `full_protocol` is missing")
            for column in settings.columns:
                self._check_labels(name, column)
                self._check_points(name, column)
        return self

    def _check_labels(self, scale: str, column: Column) -> None:
        """Refuse two rows of one label that have cells in one column."""
        shown = Counter(
            row.label
            for row in self.rows
            if row.when.hold(scale=scale, dataset=column.dataset, ipc=column.ipc)
        )
        for label, count in shown.items():
            if count > 1:
                raise ValueError(
                    f"two rows are labelled {label!r} at scale {scale} on {column.dataset}, ipc "
                    f"{column.ipc}; rename one"
                )

    def _check_points(self, scale: str, column: Column) -> None:
        """Refuse sweeps over what their method does not have in a column."""
        dataset, ipc = column.dataset, column.ipc
        for row in self.rows:
            if row.sweep and row.when.hold(scale=scale, dataset=dataset, ipc=ipc):
                try:
                    row.variant(dataset, ipc, scale)
                except ValueError as error:
                    raise ValueError(f"row {row.label!r} on {dataset}: {error}") from error

    @property
    def printed(self) -> tuple[PrintedNumber, ...]:
        """Return the printed numbers, in the order of their files."""
        return tuple(number for file in self.published for number in read_published(file))

    def settings(self, scale: str) -> ScaleSettings:
        """Return the settings of one scale, or say which scales there are."""
        if scale not in self.scales:
            raise ValueError(
                f"{self.name} has no scale {scale!r}; choose one of {', '.join(self.scales)}"
                f"{nearest(scale, self.scales)}"
            )
        return self.scales[scale]

    def entries(
        self, scale: str, seeds: int | None = None, protocol: str | None = None
    ) -> list[Entry]:
        """Expand the measured rows at one scale, row by row.

        Args:
            scale: one of the table's scales.
            seeds: replaces the number of sets per cell of the table and of its rows.
            protocol: replaces the protocol of every row but the full data's.

        Raises:
            ValueError: unknown scale, a protocol that judges no sets, no sets, or a method's file
                is wrong.
        """
        settings = self.settings(scale)
        if protocol is not None:
            protocols.get_for_sets(protocol)
        if seeds is not None and seeds < 1:
            raise ValueError(f"seeds is {seeds}; expected at least 1 set per cell")
        entries = []
        for row in self.rows:
            if row.method is None:
                continue
            for columns in _groups(row, settings, scale):
                first = columns[0]
                if row.method == "full":
                    ipc, judged_by, runs = 0, settings.full_protocol, (1, settings.full_repeats)
                else:
                    ipc = first.ipc
                    judged_by = protocol or row.protocol or first.protocol or settings.protocol
                    runs = (seeds or row.seeds or settings.seeds, settings.repeats)
                variant = row.variant(first.dataset, ipc, scale)
                cell = Cell(first.dataset, ipc, variant, first.arch, judged_by, scale)
                number = self._published(row, first, ipc)
                entries.append(Entry(row, columns, cell, *runs, number, _description(variant)))
        return entries

    def _published(self, row: Row, column: Column, ipc: int) -> Published | None:
        """Return the number that was printed for a row, data set, ipc and network, if one was."""
        for number in self.printed:
            place = (number.label, number.dataset, number.ipc, number.arch)
            if place == (row.label, column.published_dataset, ipc, column.published_arch):
                if number.mean is None:
                    return None
                arch, judged_by = PUBLISHED_ARCHS[number.arch], row.published_protocol
                return Published(
                    number.dataset, number.ipc, arch, number.mean, number.std, judged_by
                )
        return None


def _groups(row: Row, settings: ScaleSettings, scale: str) -> list[tuple[Column, ...]]:
    """Group the columns that show one cell of a row; the full data's has no ipc and protocol."""
    groups: dict[tuple, list[Column]] = {}
    for column in settings.columns:
        if row.when.hold(scale=scale, dataset=column.dataset, ipc=column.ipc):
            own = (column.ipc, column.protocol) if row.method != "full" else ()
            groups.setdefault((column.dataset, column.arch, *own), []).append(column)
    return [tuple(columns) for columns in groups.values()]


def _description(method: str) -> methods.Method | None:
    """Read a method, if a file describes it."""
    try:
        return methods.load(method)
    except NotImplementedYet:
        return None
