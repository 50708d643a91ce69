"""What a cell opens into: recipe with sources, provenance, storage, loss, decoded images."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nsdbench.errors import counted
from nsdbench.report.page.charts import Curve, curve

if TYPE_CHECKING:
    from nsdbench.bench.facts import Budget
    from nsdbench.bench.record import Result
    from nsdbench.report.content import CellReport

Facts = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Setting:
    """A setting of a recipe as JSON; its source is a number from 1, 0 where it is not known."""

    name: str
    value: str
    source: int


@dataclass(frozen=True)
class Details:
    """All that the page says of one cell besides its number.

    Attributes:
        key: the cell's id, which is fit for a fragment of an address.
        title, source: of the method; the source is empty where no file describes it.
        reason: why there is no number, or what the number lacks.
        facts: how the networks were trained, and what that took.
        settings: of the recipe by section.
        sources: where the values of the settings come from, in the order of their numbers.
        storage: of the first set.
        provenance: where and when the cell was measured, and by which code.
        picture: name of the decoded images of its set, empty where there are none.
    """

    key: str
    title: str
    source: str
    reason: str
    facts: Facts
    settings: tuple[tuple[str, tuple[Setting, ...]], ...]
    sources: tuple[str, ...]
    storage: Budget | None
    curve: Curve | None
    provenance: Facts
    picture: str


def describe(cell: CellReport, picture: str = "") -> Details:
    """Describe a cell, measured or not, with the name of its picture."""
    entry, record = cell.entry, cell.record
    method = entry.description
    return Details(
        entry.cell.id,
        method.title if method is not None else entry.row.label,
        method.source if method is not None else "",
        _reason(cell),
        (("network", entry.cell.arch), ("protocol", entry.cell.protocol), *_run(cell)),
        *_settings(cell),
        None if record is None else record.budget,
        curve(record.distillation.curve) if record and record.distillation else None,
        _provenance(record) if record is not None else (),
        picture,
    )


def _reason(cell: CellReport) -> str:
    """Say in a sentence what a number lacks, or why there is none."""
    if cell.verdict is None:
        return f"{cell.status}: {cell.reason}" if cell.reason else cell.status
    return "; ".join(filter(None, (cell.reason, cell.verdict.reason and str(cell.verdict))))


def _run(cell: CellReport) -> Facts:
    """Say how a cell's networks were trained and what it took."""
    entry, record = cell.entry, cell.record
    if record is None:
        wanted = f"{counted(entry.seeds, 'set')} x {counted(entry.repeats, 'network')}"
        return (("asked for", wanted),)
    runs = f"{counted(record.seeds, 'set')} x {counted(record.repeats, 'network')}"
    networks = "; ".join(
        ", ".join(f"{value:.2f}" for value in row) for row in record.accuracy.values
    )
    facts = [("measured on", runs), ("accuracies, %", networks)]
    for name, text in (
        ("between sets", cell.between_sets), ("gain over Random", cell.gain_over_random),
    ):  # fmt: skip
        if text != "-":
            facts.append((name, text))
    for name, count in (
        ("images", record.images), ("batch", record.batch), ("steps", record.training.steps),
    ):  # fmt: skip
        if count is not None:
            facts.append((name, f"{count:,}"))
    if record.training.lr:
        rates = dict.fromkeys(f"{rate:.4g}" for rate in record.training.lr)
        facts.append(("learning rate", ", ".join(rates)))
    facts += [(f"time of {name}", f"{took:.0f} s") for name, took in record.cost.seconds.items()]
    if record.cost.peak_bytes is not None:
        facts.append(("peak memory", f"{record.cost.peak_bytes / 2**20:.0f} MiB"))
    return tuple(facts)


def _settings(
    cell: CellReport,
) -> tuple[tuple[tuple[str, tuple[Setting, ...]], ...], tuple[str, ...]]:
    """List the settings that were measured, else those that would be, and their sources."""
    entry, record = cell.entry, cell.record
    values: dict[str, dict[str, Any]] = {} if record is None else record.recipe
    sources: dict[str, str] = {}
    if entry.is_described:
        values = values or entry.recipe.values
        if record is None or record.recipe_hash == entry.recipe.hash:
            sources = entry.recipe.sources
    numbers: dict[str, int] = {}
    sections = []
    for section, settings in values.items():
        shown = []
        for key, value in settings.items():
            source = sources.get(f"{section}.{key}", "")
            number = numbers.setdefault(source, len(numbers) + 1) if source else 0
            shown.append(Setting(key, json.dumps(value), number))
        if shown:
            sections.append((section, tuple(shown)))
    return tuple(sections), tuple(numbers)


def _provenance(record: Result) -> Facts:
    """Say where a record comes from; what it does not say is left out."""
    origin = record.provenance
    commit = origin.commit or ""
    paths = ", ".join(f"{part}: {path}" for part, path in record.training.code_path.items())
    versions = ", ".join(f"{name} {version}" for name, version in origin.versions.items())
    facts = (
        ("commit", f"{commit} with local changes" if commit and origin.dirty else commit),
        ("finished", origin.finished),
        ("command", origin.command),
        ("device", origin.device or ""),
        ("precision", origin.precision or ""),
        ("threads", "" if origin.threads is None else str(origin.threads)),
        ("seed", "" if origin.seed is None else str(origin.seed)),
        ("code path", paths),
        ("versions", versions),
        ("recipe hash", record.recipe_hash[:16]),
        ("protocol hash", record.protocol_hash[:16]),
        ("training data", record.data.checksum[:16] if record.data is not None else ""),
    )
    return tuple((name, text) for name, text in facts if text)
