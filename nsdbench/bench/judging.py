"""Judge anybody's distilled set: its accuracies beside those of Random, in a record.

Records are of scale "judged", so that they meet no table. The method of such a cell is the name of
the first file and a digest of all that decides what is judged: the content of the files and what
is said of them. Random is a cell of that scale too, measured once for all sets of the same room,
protocol, network and preprocessing.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from math import floor
from pathlib import Path
from typing import Any

from nsdbench import methods, models
from nsdbench.bench.cell import Cell
from nsdbench.bench.claim import measure_claimed
from nsdbench.bench.facts import Claim, Judged
from nsdbench.bench.measure import budget_of, measure, of_networks, recorded, train_networks
from nsdbench.bench.plan import Task
from nsdbench.bench.record import Record, Result
from nsdbench.bench.store import Store
from nsdbench.data import Dataset, load
from nsdbench.errors import DataCorrupt
from nsdbench.evaluation import Judge, protocols
from nsdbench.evaluation.protocols import Protocol
from nsdbench.experts import Run
from nsdbench.files import readable
from nsdbench.methods.variants import variant_name
from nsdbench.sets import Artefact
from nsdbench.sets.budget import strict_ipc
from nsdbench.sets.foreign import ForeignSet
from nsdbench.sets.formats.base import Reading
from nsdbench.sets.formats.registry import read_set
from nsdbench.sets.meaning import UNSAID, Meaning
from nsdbench.sums import content_sum, file_sum

SCALE = "judged"
_CLAIM = re.compile(r"\s*(\d+\.?\d*)\s*(?:(?:\+-|\+/-|±)\s*(\d+\.?\d*)\s*)?%?\s*")


@dataclass(frozen=True)
class Question:
    """What is to be judged.

    Attributes:
        files: of one set, see `formats.registry.read_set`.
        dataset: name of the data set to test on.
        archs, protocols: names; every pair is a cell.
        repeats: networks R of every set.
        said: what its owner says of the set.
        ipc: room of Random in images per class; None: what the set stores, to the nearest whole
            number, at least 1.
        claimed: what somebody claims for it.
    """

    files: tuple[Path, ...]
    dataset: str
    archs: tuple[str, ...] = ("convnet",)
    protocols: tuple[str, ...] = ("common",)
    repeats: int = 5
    said: Meaning = UNSAID
    ipc: int | None = None
    claimed: Claim | None = None


@dataclass(frozen=True)
class _Set:
    """A set as it was read, and what is known of it under every protocol."""

    reading: Reading
    files: dict[str, str]
    ipc: int


def parse_claim(text: str) -> Claim:
    """Read "46.3+-0.8", "46.3 ± 0.8" or "46.3", in per cent.

    Raises:
        ValueError: it is none of them, or not 0 to 100.
    """
    match = _CLAIM.fullmatch(text)
    if match is None or any(float(part) > 100 for part in match.groups() if part):
        raise ValueError(f"claimed {text!r}: expected per cent, as 46.3+-0.8 or 46.3")
    return Claim(mean=float(match[1]), std=None if match[2] is None else float(match[2]))


def judge(question: Question, run: Run) -> tuple[Reading, list[Record]]:
    """Judge a set under every protocol, on every network, and keep the records.

    What was judged before is taken from its record; a killed call goes on where it was.

    Args:
        question: the set, and how it is judged.
        run: where records and unfinished work are kept.

    Returns:
        What the files were taken for, and a record for each pair of network and protocol, one after
        another by network; those of failures have the reason.

    Raises:
        ValueError, DataCorrupt, FileNotFoundError: as of `read_set` and of `evaluate`, before any
            network is trained; or a file is named twice, or its sets differ in size.
        DataMissing: the data set is not on this machine.
    """
    names = [path.resolve() for path in question.files]
    if twice := [path for path in question.files if names.count(path.resolve()) > 1]:
        raise ValueError(f"{twice[0]} is named twice; name every file of the set once")
    judges = [protocols.get_for_sets(name) for name in question.protocols]
    said = question.said
    if said.lr is not None and all(protocol.lr is not None for protocol in judges):
        raise ValueError(
            f"--lr {said.lr:g} has no effect: none of {', '.join(question.protocols)} trains at a "
            "learned rate; leave it out, or use protocol mtt"
        )
    data = load(question.dataset, run.data_root)
    archs = [models.resolve_id(arch, data.spec) for arch in question.archs]
    reading = read_set(*question.files, spec=data.spec, said=said)
    sizes = [strict_ipc(_bits(one), data.image_shape, data.num_classes) for one in reading.sets]
    ipc = max(1, floor(sizes[0] + 0.5)) if question.ipc is None else question.ipc
    known = _Set(reading, _sums(question.files), ipc)
    _check(question, known, data, archs, judges, run.device)
    return reading, [
        _judge(question, known, data, arch, protocol, run) for arch in archs for protocol in judges
    ]


def _check(
    question: Question,
    known: _Set,
    data: Dataset,
    archs: Sequence[str],
    judges: Sequence[Protocol],
    device: str,
) -> None:
    """Refuse what is wrong with any set, network or protocol before a network is trained.

    Every set meets every protocol, and every network one set: what is wrong with a set does not
    depend on the network.
    """
    for protocol in judges:
        for one in known.reading.sets:
            _prepare(question.said, data, archs[0], protocol, device, one)
        for arch in archs[1:]:
            _prepare(question.said, data, arch, protocol, device, known.reading.sets[0])
    sizes = dict.fromkeys(_bits(one) for one in known.reading.sets)
    if len(sizes) > 1:
        raise ValueError(
            f"{known.reading.taken_for}: the sets store {', '.join(f'{n:,}' for n in sizes)} bits; "
            "sets that are judged together are of one size: judge each from a file of its own"
        )


def _judge(
    question: Question, known: _Set, data: Dataset, arch: str, protocol: Protocol, run: Run
) -> Record:
    """Judge a set in one cell."""
    prepared = partial(_prepare, question.said, data, arch, protocol, run.device)
    first = prepared(known.reading.sets[0])
    values: dict[str, Any] = {
        "set": {"taken_for": known.reading.taken_for, "files": known.files},
        "said": {key: value for key, value in asdict(question.said).items() if value is not None},
        "data": {"preprocessing": first.preprocessing.kind},
    }
    stem = readable(question.files[0].stem)
    digest = hashlib.sha256(repr(sorted(values.items())).encode()).hexdigest()[:12]
    method = f"{stem}-{digest}"
    title = " ".join(known.files)
    recipe = methods.Recipe(method, data.name, known.ipc, SCALE, title, "judged", values, {})
    cell = Cell(data.name, known.ipc, method, arch, protocol.name, SCALE)
    task = Task(cell, recipe, protocol, len(known.reading.sets), question.repeats)

    def measured(task: Task, run: Run) -> Record:
        def judge_of(seed: int, draw: int) -> Judge:
            return first if seed == 0 else prepared(known.reading.sets[seed])

        def fields() -> dict[str, Any]:
            networks = train_networks(task, data, run, judge_of)
            found = of_networks(networks, data)
            found["budget"] = _budget(known, data, first.num_images)
            found["judged"] = _compared(task, known, first, run)
            return found

        return recorded(task, run, fields)

    claimed = question.claimed or _claimed_before(cell, run)
    record = measure_claimed(task, run, measured, lambda: None, wait_for_others=True)
    assert record is not None, "who waits for others has a record"
    return _with_claim(record, claimed, run)


def _prepare(
    said: Meaning,
    data: Dataset,
    arch: str,
    protocol: Protocol,
    device: str,
    source: Artefact | ForeignSet,
) -> Judge:
    """Prepare a set for a cell; a rate that is said is for protocols that want one."""
    if protocol.lr is not None:
        said = replace(said, lr=None)
    return Judge(source, data, arch, protocol, device, said)


def _compared(task: Task, known: _Set, first: Judge, run: Run) -> Judged:
    """Measure Random in the room of a set, and say what the set was taken for."""
    cell, notes = task.cell, [*known.reading.notes, *first.notices]
    protocol = task.protocol
    if protocol.lr is None:
        name = f"{protocol.name}-lr{first.lr:.6g}"
        protocol = replace(protocol, name=name, lr=first.lr)
    kind = first.preprocessing.kind
    method = variant_name("random", {"data.preprocessing": kind})
    recipe = methods.resolve(method, cell.dataset, cell.ipc, "paper")
    drawn = Task(replace(cell, method=method, protocol=protocol.name), recipe, protocol, 1,
                 task.repeats)  # fmt: skip
    record = measure_claimed(drawn, run, measure, lambda: None, wait_for_others=True)
    random = record.accuracy if isinstance(record, Result) else None
    if record is not None and record.failure is not None:
        notes.append(f"Random was not measured: {record.failure.line}")
    return Judged(
        taken_for=known.reading.taken_for,
        files=known.files,
        notes=tuple(notes),
        random=random,
        random_cell=drawn.cell.id,
    )


def _budget(known: _Set, data: Dataset, num_images: int) -> Any:
    """Count what the first set stores."""
    first, dtype = known.reading.sets[0], "float32"
    if isinstance(first, ForeignSet) and first.stored is None:
        dtype = str(first.images.dtype).removeprefix("torch.")
    return budget_of(first.ledger(), data, known.ipc, num_images, dtype)


def _claimed_before(cell: Cell, run: Run) -> Claim | None:
    """Return what the record of a cell keeps of a claim: to judge more networks replaces it."""
    try:
        record = Store(run.results).read(cell.scale, cell.id)
    except DataCorrupt:
        return None  # said and set aside when the cell is measured
    judged = record.judged if isinstance(record, Result) else None
    return None if judged is None else judged.claimed


def _with_claim(record: Record, claimed: Claim | None, run: Run) -> Record:
    """Keep what is claimed in a record, if it is another claim than that in it."""
    if not isinstance(record, Result) or record.judged is None:
        return record
    if claimed is None or record.judged.claimed == claimed:
        return record
    judged = record.judged.model_copy(update={"claimed": claimed})
    record = record.model_copy(update={"judged": judged})
    Store(run.results).write(record)
    return record


def _bits(one: Artefact | ForeignSet) -> int:
    return one.ledger().stored_bits


def _sums(paths: Sequence[Path]) -> dict[str, str]:
    """Return the SHA-256 of files by name; of a folder that of the sums of all that is in it."""
    sums: dict[str, str] = {}
    for path in paths:
        if path.is_dir():
            inside = [file for file in sorted(path.rglob("*")) if file.is_file()]
            lines = [f"{file.relative_to(path)} {file_sum(file)}\n" for file in inside]
            value = content_sum("".join(lines).encode())
        else:
            value = file_sum(path)
        name = path.name if path.name not in sums else str(path)
        sums[name] = value
    return sums
