"""Expand tables to the cells that have to be measured, and say what stands in the way of each.

A cell is
    todo              it will be measured
    done              a record with the same recipe and protocol has enough runs
    not implemented   no file describes its method, or nobody provides what the file names
    data missing      its data set is not on this machine (`fetch` tries to download it)
Cells that several tables share appear once.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from nsdbench.bench import tables
from nsdbench.bench.cell import Cell
from nsdbench.bench.cost import Estimate, Work, estimate
from nsdbench.bench.measure import has_sets
from nsdbench.bench.record import Record
from nsdbench.bench.store import Store
from nsdbench.bench.tables import Entry
from nsdbench.bench.tables.where import keep_where
from nsdbench.data import how_to_get, load, locate, spec
from nsdbench.data.fetching.lookup import is_offline
from nsdbench.errors import DataCorrupt, NsdbenchError
from nsdbench.evaluation import protocols


@dataclass(frozen=True)
class PlannedCell:
    """A cell with the runs asked for, its status with the reason, and its predicted cost."""

    cell: Cell
    seeds: int
    repeats: int
    tables: tuple[str, ...]
    status: str = "todo"
    reason: str = ""
    estimate: Estimate | None = None
    recipe_hash: str = ""
    protocol_hash: str = ""


@dataclass(frozen=True)
class Plan:
    """The cells of some tables at one scale, in table order, and what to warn about."""

    scale: str
    cells: tuple[PlannedCell, ...]
    warnings: tuple[str, ...] = ()

    def with_status(self, status: str) -> list[PlannedCell]:
        """Return the cells of one status."""
        return [planned for planned in self.cells if planned.status == status]

    def missing_data(self) -> list[str]:
        """Return the data sets that are missing, in order of appearance."""
        return list(dict.fromkeys(p.cell.dataset for p in self.with_status("data missing")))

    def seconds(self, cores: int, has_gpu: bool = False) -> dict[str, float]:
        """Estimate the time of every cell that is to do or lacks its data, by cell id.

        Work that cells share (experts, distilled sets) counts for the first of them.
        """
        seen: set[tuple] = set()
        result = {}
        for planned in self.cells:
            if planned.status not in ("todo", "data missing"):
                continue
            work: Sequence[Work] = planned.estimate.work if planned.estimate else ()
            new = [part for part in work if part.key not in seen]
            seen.update(part.key for part in new)
            result[planned.cell.id] = sum(part.seconds(cores, has_gpu) for part in new)
        return result


def make(
    names: Sequence[str],
    scale: str,
    store: Store,
    *,
    where: dict[str, list[str]] | None = None,
    seeds: int | None = None,
    protocol: str | None = None,
    data_root: Path | None = None,
) -> Plan:
    """Plan the cells of some tables.

    Args:
        names: tables; no name twice is needed, shared cells are planned once.
        scale: "smoke", "small" or "paper".
        store: where done cells are looked up.
        where: keep only cells whose value of each key is listed, see `tables.where`.
        seeds: sets per cell instead of what the tables say.
        protocol: judges every row but the full data's, instead of what the tables say.
        data_root: folder of data sets that is asked first.

    Raises:
        ValueError: unknown table, scale or protocol, or a filter value that no cell has.
    """
    found: dict[tuple, Entry] = {}
    declared_by: dict[tuple, tuple[str, ...]] = {}
    for name in names:
        for entry in tables.load(name).entries(scale, seeds, protocol):
            first = found.get(entry.key, entry)
            found[entry.key] = replace(
                first,
                seeds=max(first.seeds, entry.seeds),
                repeats=max(first.repeats, entry.repeats),
            )
            declared_by[entry.key] = (*declared_by.get(entry.key, ()), name)
    located: dict[str, str] = {}
    cells, warnings = [], []
    for entry in keep_where(list(found.values()), where or {}):
        by = declared_by[entry.key]
        planned, warning = _plan_cell(entry, by, store, data_root, located)
        cells.append(planned)
        warnings += [warning] if warning else []
    return Plan(scale, tuple(cells), tuple(warnings))


def fetch(
    plan: Plan, data_root: Path | None = None, notify: Callable[[str], None] = print
) -> dict[str, str]:
    """Try once to download every missing data set that can be downloaded.

    Returns:
        Why each data set that is still missing could not be had, with every way to provide it.
    """
    reasons = {}
    for name in plan.missing_data():
        if not spec(name).is_downloadable or is_offline():
            reasons[name] = how_to_get(name, data_root)
            continue
        notify(f"{name} is not on this machine; trying to download it")
        try:
            load(name, data_root)
        except NsdbenchError as error:
            reasons[name] = str(error)
        except OSError as error:  # no space, no permission: the other data sets may fit
            reasons[name] = how_to_get(name, data_root, f"{type(error).__name__}: {error}")
    return reasons


def _plan_cell(
    entry: Entry,
    by: tuple[str, ...],
    store: Store,
    data_root: Path | None,
    located: dict[str, str],
) -> tuple[PlannedCell, str | None]:
    """Plan one cell; returns it with a warning about a damaged record, if there is one."""
    cell = Cell(entry.dataset, entry.ipc, entry.method, entry.arch, entry.protocol, entry.scale)
    planned = PlannedCell(cell, entry.seeds, entry.repeats, by)
    if missing := entry.missing:
        reason = ", ".join(missing)
        return replace(planned, status="not implemented", reason=reason), None
    recipe = entry.recipe
    protocol = protocols.get(entry.protocol)
    planned = replace(planned, recipe_hash=recipe.hash, protocol_hash=protocol.hash)
    record, warning = None, None
    try:
        record = store.read(entry.scale, cell.id)
    except DataCorrupt as error:
        warning = str(error)
    asked = (recipe.hash, protocol.hash, entry.seeds, entry.repeats)
    if record is not None and record.is_done(cell, *asked):
        return replace(planned, status="done"), warning
    reason = "" if record is None else _why_again(record, planned)
    try:
        described = spec(entry.dataset)
        cost = estimate(
            recipe, described, entry.ipc, entry.arch, protocol, entry.seeds, entry.repeats
        )
        if has_sets(cell, recipe, store.results, entry.seeds):
            left = tuple(part for part in cost.work if part.phase == "evaluate")
            cost = replace(cost, work=left)
        planned = replace(planned, estimate=cost)
    except (NsdbenchError, ValueError, KeyError) as error:
        # The plan goes on: the run records the same fault as the failure of this cell.
        reason = f"no estimate: {error}"
    if entry.dataset not in located:
        located[entry.dataset] = _missing(entry.dataset, data_root)
    if located[entry.dataset]:
        return replace(planned, status="data missing", reason=located[entry.dataset]), warning
    return replace(planned, reason=reason), warning


def _missing(dataset: str, data_root: Path | None) -> str:
    """Return why a data set cannot be read, empty if it is here."""
    try:
        if locate(dataset, data_root) is not None:
            return ""
        offered = spec(dataset).is_downloadable and not is_offline()
    except NsdbenchError as error:
        return str(error)
    return f"{dataset} is not on this machine" + ("; a run tries to download it" if offered else "")


def _why_again(record: Record, planned: PlannedCell) -> str:
    """Say why a cell that has a record is measured again."""
    if record.failure is not None:
        return f"failed before: {record.failure.line}"
    change = record.change_since(planned.recipe_hash, planned.protocol_hash)
    return change or f"has {record.seeds} x {record.repeats} runs"
