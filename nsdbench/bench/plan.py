"""Expand tables to the cells to measure, and say what keeps each from running.

A cell is
    todo              it will be measured
    done              a record with the same recipe and protocol has enough runs
    not implemented   no file describes its method, or nobody provides what the file names
    data missing      its data set is not on this machine (`fetch` tries to download it), or it
                      needs a prior that no installed package adds
Cells that several tables share appear once.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from nsdbench import data
from nsdbench.bench import divergence, kept, tables
from nsdbench.bench.calibration import gpu_rates
from nsdbench.bench.cell import Cell
from nsdbench.bench.cost import Estimate, Rates, Work, estimate
from nsdbench.bench.record import Record, Result
from nsdbench.bench.store import Store
from nsdbench.bench.tables import Entry
from nsdbench.bench.tables.where import keep_where
from nsdbench.data import how_to_get, locate, spec
from nsdbench.data.fetching.lookup import is_offline
from nsdbench.errors import DataCorrupt, NsdbenchError, nearest
from nsdbench.evaluation import protocols
from nsdbench.evaluation.protocols import Protocol
from nsdbench.experts import Run
from nsdbench.methods import Recipe

RETRY_KINDS = ("failed", "stale", "diverged")


@dataclass(frozen=True)
class Choice:
    """The cells that a command is about.

    Attributes:
        tables: names; no name twice is needed, shared cells are planned once.
        scale: "smoke", "small" or "paper".
        where: keep only cells whose value of each key is listed, see `tables.where`.
        seeds: sets per cell instead of what the tables say.
        protocol: judges every row but the full data's, instead of what the tables say.
        retry: of `RETRY_KINDS`; with "diverged", what diverged is to do again, from its start. See
            `Plan.retried` for those cells alone.

    Raises:
        ValueError: an unknown kind of `retry`.
    """

    tables: Sequence[str]
    scale: str = "smoke"
    where: Mapping[str, list[str]] = field(default_factory=dict)
    seeds: int | None = None
    protocol: str | None = None
    retry: Sequence[str] = ()

    def __post_init__(self) -> None:
        for kind in self.retry:
            if kind not in RETRY_KINDS:
                known = ", ".join(RETRY_KINDS)
                raise ValueError(
                    f"--retry {kind!r}: expected one of {known}{nearest(kind, RETRY_KINDS)}"
                )


@dataclass(frozen=True)
class Task:
    """A cell to measure: its recipe and its protocol, resolved once, and the runs asked for."""

    cell: Cell
    recipe: Recipe
    protocol: Protocol
    seeds: int
    repeats: int

    def is_done(self, record: Record | None) -> bool:
        """Say whether a record is a result of this cell, recipe and protocol with enough runs."""
        return record is not None and record.is_done(
            self.cell, self.recipe.hash, self.protocol.hash, self.seeds, self.repeats
        )


@dataclass(frozen=True)
class PlannedCell:
    """A cell with the runs asked for, its status with the reason, and its predicted cost.

    `task` is None where the method is not implemented. `needs` says what besides the data set is
    missing, `former` which of `RETRY_KINDS` its record is. `starts_anew` leaves nothing of what was
    done before.
    """

    cell: Cell
    seeds: int
    repeats: int
    tables: tuple[str, ...] = ()
    status: str = "todo"
    reason: str = ""
    estimate: Estimate | None = None
    task: Task | None = None
    needs: str = ""
    former: tuple[str, ...] = ()
    starts_anew: bool = False


@dataclass(frozen=True)
class Plan:
    """The cells of some tables at one scale, in table order, and what to warn about."""

    scale: str
    cells: tuple[PlannedCell, ...]
    warnings: tuple[str, ...] = ()

    def with_status(self, status: str) -> list[PlannedCell]:
        """Return the cells of one status."""
        return [planned for planned in self.cells if planned.status == status]

    def retried(self, kinds: Sequence[str]) -> "Plan":
        """Keep the cells whose record is one of these `RETRY_KINDS`; all cells for no kinds."""
        kept = [planned for planned in self.cells if set(kinds) & set(planned.former)]
        return replace(self, cells=tuple(kept)) if kinds else self

    def todo(self) -> list[Task]:
        """Return what there is to measure."""
        return [planned.task for planned in self.with_status("todo") if planned.task is not None]

    def as_dict(self, seconds: Mapping[str, float]) -> dict[str, Any]:
        """Return the plan as JSON values; `seconds` is what cells are predicted to take, by id."""
        cells = []
        for planned in self.cells:
            estimate = planned.estimate
            cells.append(
                {
                    "id": planned.cell.id,
                    **asdict(planned.cell),
                    "tables": list(planned.tables),
                    "seeds": planned.seeds,
                    "repeats": planned.repeats,
                    "status": planned.status,
                    "reason": planned.reason,
                    "seconds": seconds.get(planned.cell.id),
                    "peak_bytes": estimate and estimate.peak_bytes,
                    "stored_bytes": estimate and estimate.stored_bytes,
                    "images": estimate and estimate.num_images,
                    "excess_ipc": estimate and estimate.excess_ipc,
                }
            )
        return {"scale": self.scale, "cells": cells, "warnings": list(self.warnings)}

    def missing_data(self) -> list[str]:
        """Return the data sets that are missing, in order of appearance."""
        missing = [p.cell.dataset for p in self.with_status("data missing") if not p.needs]
        return list(dict.fromkeys(missing))

    def seconds(self, cores: int, has_gpu: bool = False) -> dict[str, float]:
        """Estimate the time of every cell that is to do or lacks its data, by cell id.

        On that many cores, or on a GPU, whose rates are those of its calibration if it has one.
        Work that cells share (experts, distilled sets) counts for the first of them.
        """
        rates = gpu_rates() if has_gpu else Rates.of_cores(cores)
        seen: set[tuple] = set()
        result = {}
        for planned in self.cells:
            if planned.status not in ("todo", "data missing"):
                continue
            work: Sequence[Work] = planned.estimate.work if planned.estimate else ()
            new = [part for part in work if part.key not in seen]
            seen.update(part.key for part in new)
            result[planned.cell.id] = sum(part.seconds(rates) for part in new)
        return result


def make(choice: Choice, run: Run) -> Plan:
    """Plan the cells of some tables.

    Args:
        choice: which cells.
        run: its results folder holds what is done, its data root what data is there.

    Raises:
        ValueError: unknown table, scale or protocol, or a filter value that no cell has.
    """
    entries: dict[Cell, Entry] = {}
    declared_by: dict[Cell, tuple[str, ...]] = {}
    for name in choice.tables:
        for entry in tables.load(name).entries(choice.scale, choice.seeds, choice.protocol):
            first = entries.get(entry.cell, entry)
            entries[entry.cell] = replace(
                first,
                seeds=max(first.seeds, entry.seeds),
                repeats=max(first.repeats, entry.repeats),
            )
            declared_by[entry.cell] = (*declared_by.get(entry.cell, ()), name)
    missing_data: dict[str, str] = {}
    cells, warnings = [], []
    for entry in keep_where(list(entries.values()), dict(choice.where)):
        planned, warning = _plan_entry(entry, run, missing_data, choice.retry)
        cells.append(replace(planned, tables=declared_by[entry.cell]))
        warnings += [warning] if warning else []
    return Plan(choice.scale, tuple(cells), tuple(warnings))


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
            data.load(name, data_root)
        except NsdbenchError as error:
            reasons[name] = str(error)
        except OSError as error:  # no space, no permission: the other data sets may fit
            reasons[name] = how_to_get(name, data_root, f"{type(error).__name__}: {error}")
    return reasons


def _plan_entry(
    entry: Entry, run: Run, missing_data: dict[str, str], retry: Sequence[str] = ()
) -> tuple[PlannedCell, str | None]:
    """Plan one cell; returns it with a warning about a damaged record, if there is one.

    `missing_data` remembers why each data set cannot be read, empty if it can.
    """
    cell = entry.cell
    planned = PlannedCell(cell, entry.seeds, entry.repeats)
    if missing := entry.missing:
        return replace(planned, status="not implemented", reason=", ".join(missing)), None
    protocol = protocols.get(cell.protocol)
    task = Task(cell, entry.recipe, protocol, entry.seeds, entry.repeats)
    planned = replace(planned, task=task)
    record, warning = None, None
    try:
        record = Store(run.results).read(cell.scale, cell.id)
    except DataCorrupt as error:
        warning = str(error)
    former = _former(record, task)
    starts_anew = "diverged" in former and "diverged" in retry
    planned = replace(planned, former=former, starts_anew=starts_anew)
    if task.is_done(record) and not starts_anew:
        return replace(planned, status="done"), warning
    if entry.needs:
        status = "data missing"
        return replace(planned, status=status, reason=entry.needs, needs=entry.needs), warning
    reason = "" if record is None else _why_again(record, task)
    try:
        planned = replace(planned, estimate=_estimate(task, run))
    except (NsdbenchError, ValueError, KeyError) as error:
        # The plan goes on: the run records the same fault as the failure of this cell.
        reason = f"no estimate: {error}"
    if cell.dataset not in missing_data:
        missing_data[cell.dataset] = _missing(cell.dataset, run.data_root)
    if missing_data[cell.dataset]:
        return replace(planned, status="data missing", reason=missing_data[cell.dataset]), warning
    return replace(planned, reason=reason), warning


def _estimate(task: Task, run: Run) -> Estimate:
    """Predict what a cell costs from here on: nothing but judging if its sets are made."""
    cell = task.cell
    cost = estimate(
        task.recipe, spec(cell.dataset), cell.ipc, cell.arch, task.protocol, task.seeds,
        task.repeats,
    )  # fmt: skip
    if not _has_sets(task, run):
        return cost
    return replace(cost, work=tuple(part for part in cost.work if part.phase == "evaluate"))


def _has_sets(task: Task, run: Run) -> bool:
    """Say whether the sets of a cell are there already, as far as one can know without its data."""
    made = kept.sets(run.results, task.recipe, task.cell.dataset)
    seeds = (re.search(rf"-seed(\d+){run.suffix}-draw0$", path.stem) for path in made)
    return len({seed[1] for seed in seeds if seed}) >= task.seeds


def _missing(dataset: str, data_root: Path | None) -> str:
    """Return why a data set cannot be read, empty if it is here."""
    try:
        if locate(dataset, data_root) is not None:
            return ""
        offered = spec(dataset).is_downloadable and not is_offline()
    except NsdbenchError as error:
        return str(error)
    return f"{dataset} is not on this machine" + ("; a run tries to download it" if offered else "")


def _former(record: Record | None, task: Task) -> tuple[str, ...]:
    """Say which of `RETRY_KINDS` the record of a cell is."""
    if record is None:
        return ()
    if record.failure is not None:
        kinds = {"data_missing": (), "diverged": ("failed", "diverged")}
        return kinds.get(record.failure.kind, ("failed",))
    if record.change_since(task.recipe.hash, task.protocol.hash):
        return ("stale",)
    return ("diverged",) if isinstance(record, Result) and record.runaway else ()


def _why_again(record: Record, task: Task) -> str:
    """Say why a cell that has a record is measured again."""
    if record.failure is not None:
        return f"failed before: {record.failure.line}"
    change = record.change_since(task.recipe.hash, task.protocol.hash)
    if not change and isinstance(record, Result) and record.runaway:
        return f"{divergence.MARK}: {record.runaway}"
    return change or f"has {record.seeds} x {record.repeats} runs"
