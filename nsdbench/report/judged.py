"""Sets that were judged, in words, as a document and as rows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from nsdbench.bench.record import Record, Result
from nsdbench.bench.verdict import Verdict, claimed_verdict
from nsdbench.errors import counted
from nsdbench.report.content import mean_and_std
from nsdbench.report.document import Document
from nsdbench.report.grids import Grid

NAME = "judged"
HEADER = (
    "set", "taken_for", "dataset", "ipc", "arch", "protocol", "preprocessing", "mean", "std",
    "ci95_low", "ci95_high", "n", "random_mean", "random_std", "gain", "gain_low", "gain_high",
    "claimed_mean", "claimed_std", "difference", "verdict", "stored_bits", "strict_ipc", "images",
    "commit",
)  # fmt: skip


def judged(records: Iterable[Record]) -> list[Result]:
    """Keep the records of judged sets, by data set and set."""
    found = [r for r in records if isinstance(r, Result) and r.judged is not None]
    return sorted(found, key=lambda r: (r.cell.dataset, r.cell.id))


def build(records: Iterable[Record]) -> Document:
    """Make the report of all sets that were judged."""
    records = list(records)
    found = judged(records)
    header = (
        "set", "data", "network", "protocol", "accuracy", "n", "95 % interval", "Random",
        "gain over Random", "claimed", "difference", "verdict", "stored (ipc)",
    )  # fmt: skip
    grid = Grid("Accuracy", header, tuple(map(_row, found)), num_labels=4)
    paragraphs = (
        f"{counted(len({r.cell.method for r in found}), 'set')} of anybody's, judged in "
        f"{counted(len(found), 'cell')}. Numbers are test accuracies in per cent after the last "
        "epoch, mean ± population standard deviation; nothing is selected on the test set.",
        "Random is real images in the same room, in whole images per class, under the same "
        "protocol, network and preprocessing; a set is drawn for every network. Intervals of "
        "gains are Welch's t.",
    )
    failed = tuple(f"{r.cell.id}: {r.failure.line}" for r in records if r.failure is not None)
    notes = []
    for record in {r.cell.method: r for r in found}.values():
        files = ", ".join(_known(record)["files"])
        text = f"{record.cell.method}: {files}; {_known(record)['taken_for']}; {stored(record)}"
        notes.append("; ".join([text, *_known(record)["notes"]]))
    grids = (grid,) if found else ()
    return Document(NAME, "judged: sets of anybody", paragraphs, grids, failed, tuple(notes))


def rows(records: Iterable[Record]) -> list[dict[str, Any]]:
    """Return what the CSV says of every judged set; what is not known is left out."""
    return [_line(record) for record in judged(records)]


def stored(record: Result) -> str:
    """Write what a set stores: bits, their share of images per class, and the tensors."""
    budget = record.budget
    if budget is None:
        return "what it stores is not known"
    parts = [f"{entry.name} {list(entry.shape)}" for entry in budget.entries]
    text = (
        f"stores {budget.stored_bits:,} bits as {budget.storage_dtype}, the room of "
        f"{budget.strict_ipc or 0.0:.2f} images per class: {', '.join(parts)}"
    )
    return f"{text}; not counted: {', '.join(budget.listed)}" if budget.listed else text


def lines(record: Record) -> list[str]:
    """Write what a record says of a judged set, a sentence a line."""
    if not isinstance(record, Result):
        return [f"failed: {record.failure.line}" if record.failure else "not measured"]
    accuracy, training = record.accuracy, record.training
    interval = accuracy.interval
    sets = f"{counted(record.seeds, 'set')} x " if record.seeds > 1 else ""
    text = f"{accuracy} over {sets}{counted(record.repeats, 'network')}"
    if interval is not None:
        text += ", 95 % interval {:.2f} to {:.2f}".format(*interval)
    rates = ", ".join(f"{lr:g}" for lr in dict.fromkeys(training.lr))
    found = [f"{text}; {training.steps} steps at rate {rates} on {training.num_images} images"]
    random, gain = None if record.judged is None else record.judged.random, record.gain
    if random is not None and gain is not None:
        text = f"Random at {counted(record.cell.ipc, 'image')} per class: {random}"
        text += f"; gain {gain.mean:+.2f}"
        if gain.interval is not None:
            text += ", 95 % interval {:+.2f} to {:+.2f}".format(*gain.interval)
        found.append(text)
    verdict = claimed_verdict(record)
    if verdict is not None:
        found.append(f"claimed {_claimed(record)} %: {_in_numbers(verdict)}")
    return found


def _in_numbers(verdict: Verdict) -> str:
    if verdict.difference is None or verdict.uncertainty is None:
        return str(verdict)
    return f"{verdict} (difference {verdict.difference:+.2f} ± {verdict.uncertainty:.2f})"


def _row(record: Result) -> tuple[str, ...]:
    """Write a line of the table."""
    cell, accuracy, gain = record.cell, record.accuracy, record.gain
    random = None if record.judged is None else record.judged.random
    verdict = claimed_verdict(record)
    difference = None if verdict is None else verdict.difference
    ends = None if gain is None else gain.interval
    return (
        cell.method,
        cell.dataset,
        cell.arch,
        cell.protocol,
        mean_and_std(accuracy.mean, accuracy.std if accuracy.n > 1 else None),
        str(accuracy.n),
        _interval(accuracy.interval, ".1f"),
        "-" if random is None else mean_and_std(random.mean, random.std if random.n > 1 else None),
        "-"
        if gain is None
        else f"{gain.mean:+.1f}" + ("" if ends is None else f" ({_interval(ends, '+.1f')})"),
        _claimed(record),
        "-" if difference is None else f"{difference:+.1f}",
        "-" if verdict is None else str(verdict),
        "-" if record.budget is None else f"{record.budget.strict_ipc or 0.0:.2f}",
    )


def _interval(ends: tuple[float, float] | None, form: str) -> str:
    return "-" if ends is None else f"{ends[0]:{form}} to {ends[1]:{form}}"


def _claimed(record: Result) -> str:
    claim = None if record.judged is None else record.judged.claimed
    return "-" if claim is None else mean_and_std(claim.mean, claim.std)


def _known(record: Result) -> dict[str, Any]:
    """Return what a record says of the judged set, as plain values."""
    return {} if record.judged is None else record.judged.model_dump()


def _line(record: Result) -> dict[str, Any]:
    """Return a row of the CSV."""
    cell, known, gain = record.cell, _known(record), record.gain
    low, high = record.accuracy.interval or (None, None)
    line: dict[str, Any] = asdict(cell)
    line |= {
        "set": cell.method,
        "taken_for": known["taken_for"],
        "preprocessing": record.recipe["data"]["preprocessing"],
        "mean": record.accuracy.mean,
        "std": record.accuracy.std,
        "ci95_low": low,
        "ci95_high": high,
        "n": record.accuracy.n,
        "images": record.images,
        "commit": record.provenance.commit,
    }
    if gain is not None:
        ends = gain.interval or (None, None)
        line |= {"random_mean": known["random"]["mean"], "random_std": known["random"]["std"]}
        line |= {"gain": gain.mean, "gain_low": ends[0], "gain_high": ends[1]}
    verdict = claimed_verdict(record)
    if verdict is not None:
        line |= {"claimed_mean": known["claimed"]["mean"], "claimed_std": known["claimed"]["std"]}
        line |= {"difference": verdict.difference, "verdict": str(verdict)}
    if record.budget is not None:
        line |= {"stored_bits": record.budget.stored_bits, "strict_ipc": record.budget.strict_ipc}
    return {key: line[key] for key in HEADER if key in line}
