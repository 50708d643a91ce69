"""A table as the rest of the program sees it: rows, columns per scale, and the cells they make."""

from dataclasses import dataclass, field

from nsdbench import methods
from nsdbench.bench import parts
from nsdbench.bench.cell import Cell
from nsdbench.bench.tables.published import PUBLISHED_ARCHS, PrintedNumber
from nsdbench.bench.verdict import Published
from nsdbench.errors import nearest
from nsdbench.evaluation import protocols
from nsdbench.files import cell_id
from nsdbench.methods.conditions import Conditions, hold


@dataclass(frozen=True)
class Row:
    """A row of a table.

    `minus` holds the labels (minuend, subtrahend) of a derived one; `protocol`, unless empty, takes
    the place of the scale's, and `variant` that of the method, whose settings it changes; the row
    has cells in the columns for which `when` holds.
    """

    label: str
    family: str
    method: str | None
    minus: tuple[str, str] | None = None
    protocol: str = ""
    published_protocol: str = "common"
    note: str = ""
    variant: str = ""
    when: Conditions = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Column:
    """A column of a table at one scale; `published_arch` is the network's name in the paper."""

    dataset: str
    ipc: int
    arch: str
    published_arch: str


@dataclass(frozen=True)
class Similarity:
    """Real images that are compared along their dimensions: training images of one class."""

    dataset: str
    label: int
    num_images: int


@dataclass(frozen=True)
class ScaleSettings:
    """What a table measures at one scale: cells, or how similar real images are."""

    protocol: str
    full_protocol: str
    seeds: int
    repeats: int
    full_repeats: int
    columns: tuple[Column, ...]
    note: str = ""
    similarity: Similarity | None = None


@dataclass(frozen=True)
class Entry:
    """One cell of a table at one scale; the full-data row has one per dataset and network."""

    row: Row
    columns: tuple[Column, ...]
    dataset: str
    ipc: int
    method: str
    arch: str
    protocol: str
    scale: str
    seeds: int
    repeats: int
    published: Published | None

    @property
    def cell(self) -> Cell:
        """Return the cell."""
        return Cell(*self.key)

    @property
    def key(self) -> tuple:
        """Return what identifies the cell: dataset, ipc, method, arch, protocol, scale."""
        return (self.dataset, self.ipc, self.method, self.arch, self.protocol, self.scale)

    @property
    def id(self) -> str:
        """Return the cell's name within its scale."""
        return cell_id(self.dataset, self.ipc, self.method, self.arch, self.protocol)

    @property
    def is_described(self) -> bool:
        """Say whether a file describes the method."""
        return methods.is_described(self.method)

    @property
    def missing(self) -> list[str]:
        """Say what the method lacks to be run, empty if it is implemented."""
        return parts.missing(self.method)

    @property
    def is_implemented(self) -> bool:
        """Say whether a file describes the method, and all that it names is there."""
        return not self.missing

    @property
    def recipe(self) -> methods.Recipe:
        """Return what the method's file says for this cell now."""
        return methods.resolve(self.method, self.dataset, self.ipc, self.scale)


@dataclass(frozen=True)
class Table:
    """A published table: rows, settings per scale, and the printed numbers.

    `axes` holds two settings, "section.key", of a table that is drawn: its numbers over the first
    and the second.
    """

    name: str
    title: str
    source: str
    footnotes: tuple[str, ...]
    rows: tuple[Row, ...]
    scales: dict[str, ScaleSettings]
    printed: tuple[PrintedNumber, ...]
    axes: tuple[str, ...] = ()

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
            seeds: replaces the table's number of sets per cell.
            protocol: replaces the protocol of every row but the full data's.

        Raises:
            ValueError: unknown scale, a protocol that judges no sets, or no sets.
        """
        settings = self.settings(scale)
        if protocol is not None:
            protocols.get_for_sets(protocol)
        sets = settings.seeds if seeds is None else seeds
        if sets < 1:
            raise ValueError(f"seeds is {sets}; expected at least 1 set per cell")
        found = []
        for row in self.rows:
            if row.method == "full":
                found += self._full_entries(row, scale, settings)
            elif row.method is not None:
                for column in settings.columns:
                    if not hold(row.when, scale=scale, dataset=column.dataset, ipc=column.ipc):
                        continue
                    cell = (column.dataset, column.ipc, row.variant or row.method, column.arch)
                    judged_by = protocol or row.protocol or settings.protocol
                    found.append(
                        Entry(
                            row, (column,), *cell, judged_by, scale, sets, settings.repeats,
                            self.published(row, column, column.ipc),
                        )
                    )  # fmt: skip
        return found

    def _full_entries(self, row: Row, scale: str, settings: ScaleSettings) -> list[Entry]:
        """Expand the full-data row: one cell per dataset and network, whatever the ipc."""
        groups: dict[tuple[str, str], list[Column]] = {}
        for column in settings.columns:
            groups.setdefault((column.dataset, column.arch), []).append(column)
        return [
            Entry(
                row, tuple(columns), dataset, 0, "full", arch, settings.full_protocol, scale,
                1, settings.full_repeats, self.published(row, columns[0], 0),
            )
            for (dataset, arch), columns in groups.items()
        ]  # fmt: skip

    def published(self, row: Row, column: Column, ipc: int) -> Published | None:
        """Return the number that was printed for a row, data set, ipc and network, if one was."""
        for number in self.printed:
            where = (number.label, number.dataset, number.ipc, number.arch)
            if where == (row.label, column.dataset, ipc, column.published_arch):
                if number.mean is None:
                    return None
                arch = PUBLISHED_ARCHS.get(number.arch, number.arch)
                return Published(
                    number.dataset, number.ipc, arch, number.mean, number.std,
                    row.published_protocol,
                )  # fmt: skip
        return None
