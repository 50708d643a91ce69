"""A cell is one number of a table: distil or select its sets, train networks on them, record it.

Everything that takes time is kept as it is done: experts by epoch, distillation by checkpoint,
evaluation by network. A cell that was killed goes on where it was and ends with the same record.
"""

import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from glob import escape
from pathlib import Path
from typing import Any

import numpy
import torch
from filelock import FileLock

from nsdbench import coresets, methods, provenance, spread
from nsdbench.bench.cell import Cell
from nsdbench.bench.record import (
    Budget,
    Cost,
    Data,
    Distillation,
    Provenance,
    Record,
    Training,
    Work,
)
from nsdbench.bench.store import Store
from nsdbench.data import Dataset, load, preprocessing
from nsdbench.data.training import TrainingData
from nsdbench.distillation import distill
from nsdbench.errors import BudgetExceeded, DataCorrupt, DataMissing, Diverged
from nsdbench.evaluation import Evaluation, evaluate, protocols
from nsdbench.evaluation.protocols import Protocol
from nsdbench.experts import set_name, silent
from nsdbench.files import file_name, write_atomically
from nsdbench.sets import budget
from nsdbench.sets.artefact import Artefact, load_artefact

_PICTURES_PER_CLASS = 10
_PICTURED_CLASSES = 10
_FAILURE_KINDS = (
    (DataMissing, "data_missing"),
    (DataCorrupt, "data_corrupt"),
    (BudgetExceeded, "budget"),
    (Diverged, "diverged"),
    (MemoryError, "memory"),
    (torch.OutOfMemoryError, "memory"),
)


def run(
    cell: Cell,
    *,
    results: Path,
    seeds: int,
    repeats: int,
    data_root: str | os.PathLike | None = None,
    device: str = "cpu",
    command: str = "",
    progress: Callable[..., None] = silent,
) -> Record:
    """Measure a cell and return its record.

    Args:
        cell: what to measure.
        results: folder; unfinished work is kept in `work/`, distilled sets in `artefacts/`, small
            pictures in `images/`.
        seeds: distilled or drawn sets S.
        repeats: networks per set R.
        data_root: folder of the data set, see `nsdbench.data.load`.
        device: where networks are trained.
        command: the command line, for the record.
        progress: called as progress(phase, done, total, note).

    Returns:
        A record of status "done", or of status "failed" with the reason; only an interrupt from
        the keyboard and wrong arguments raise.
    """
    protocol = protocols.get(cell.protocol)
    recipe = methods.resolve(cell.method, cell.dataset, cell.ipc, cell.scale)
    asked: dict[str, Any] = {
        "recipe": recipe,
        "protocol": protocol,
        "seeds": seeds,
        "repeats": repeats,
    }
    begun = _now()
    provenance.reset_peak()
    started = time.perf_counter()
    try:
        parts = _measure(cell, recipe, protocol, results, seeds, repeats, data_root, device,
                         progress)  # fmt: skip
    except Exception as error:
        kind = next((name for cls, name in _FAILURE_KINDS if isinstance(error, cls)), "error")
        return Record.failed(
            cell,
            kind,
            f"{type(error).__name__}: {error}",
            traceback="" if kind == "data_missing" else traceback.format_exc()[-4000:],
            peak_bytes=provenance.peak_bytes(),
            cost=Cost(seconds={"total": time.perf_counter() - started}),
            provenance=_provenance(device, command, begun),
            **asked,
        )
    return Record.done(cell, **asked, **parts, provenance=_provenance(device, command, begun))


def _measure(
    cell: Cell,
    recipe: methods.Recipe,
    protocol: Protocol,
    results: Path,
    seeds: int,
    repeats: int,
    data_root: str | os.PathLike | None,
    device: str,
    progress: Callable[..., None],
) -> dict[str, Any]:
    """Return the measured part of the record."""
    data = load(cell.dataset, data_root)
    finished = _FinishedNetworks(
        results / "work" / f"{cell.scale}-{cell.id}.json",
        f"{recipe.hash} {protocol.hash} {data.checksum} {data.test.checksum} {device}",
    )
    seconds: dict[str, float] = {}  # of the experts, what this cell's distillation waited for
    sets: list[Artefact] = []
    for seed in range(seeds):
        for repeat in range(repeats):
            source, artefact = _source(cell, recipe, data, results, seed, repeat, device, progress)
            if artefact is not None and repeat == 0:
                sets.append(artefact)
            if finished.has(seed, repeat):
                continue
            evaluation = evaluate(
                source, data, cell.arch, protocol, 1, seed, device=device, first_repeat=repeat
            )
            finished.add(seed, repeat, evaluation)
            progress(
                "evaluate",
                seed * repeats + repeat + 1,
                seeds * repeats,
                f"{evaluation.accuracies[0]:.2f} %",
            )
    networks = [[finished.get(seed, r) for r in range(repeats)] for seed in range(seeds)]
    first = networks[0][0]
    for artefact in sets:
        for phase in ("experts", "distill"):
            cost = artefact.metadata.get("cost", {}).get(phase, 0.0)
            seconds[phase] = seconds.get(phase, 0.0) + cost
    seconds["evaluate"] = sum(network["seconds"] for row in networks for network in row)
    commits = [network["commit"] for row in networks for network in row]
    commits += [artefact.metadata["commit"] for artefact in sets]
    learned = sets[0].metadata.get("distillation") if sets else None
    code_path = {"evaluation": first["code_path"]}
    code_path |= {} if learned is None else {"unroll": learned["code_path"]}
    parts: dict[str, Any] = {
        "work": Work(
            commits=tuple(sorted({str(commit) for commit, _ in commits})),
            is_dirty=any(is_dirty is not False for _, is_dirty in commits),
        ),
        "accuracy": spread.summary([[n["accuracy"] for n in row] for row in networks]),
        "budget": _budget(cell, data, sets),
        "cost": Cost(seconds=seconds, peak_bytes=provenance.peak_bytes()),
        "training": Training(
            steps=first["steps"],
            lr=tuple(row[0]["lr"] for row in networks),
            num_images=first["num_images"],
            code_path=code_path,
        ),
        "data": Data(checksum=data.checksum, test_checksum=data.test.checksum),
    }
    if sets:
        _save_pictures(sets[0], data, Store(results).images_path(cell.scale, cell.id))
    return parts if learned is None else parts | {"distillation": Distillation(**learned)}


def _source(
    cell: Cell,
    recipe: methods.Recipe,
    data: Dataset,
    results: Path,
    seed: int,
    repeat: int,
    device: str,
    progress: Callable[..., None],
) -> tuple[Path | TrainingData, Artefact | None]:
    """Return what network `repeat` of set `seed` is trained on, making it if need be.

    A random coreset is drawn anew for every network; a distilled set serves all of them, and all
    cells that differ only in architecture or protocol.
    """
    if recipe.kind == "full":
        kind = recipe.values["data"]["preprocessing"]
        return TrainingData(data, preprocessing(kind, data), device), None
    is_drawn = recipe.kind == "coreset" and recipe.values["coreset"]["draw_per_network"]
    draw = repeat if is_drawn else 0
    name = f"{set_name(recipe, data, cell.ipc, seed)}-draw{draw}"
    path = results / "artefacts" / f"{name}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f"{name}.lock")):
        if not path.exists():
            if recipe.kind == "coreset":
                coresets.select(
                    cell.method,
                    data,
                    cell.ipc,
                    cell.scale,
                    seed=seed,
                    draw=draw,
                    out=path,
                    device=device,
                    progress=progress,
                )
            else:
                distill(
                    cell.method,
                    data,
                    cell.ipc,
                    cell.scale,
                    seed=seed,
                    out=path,
                    work=results / "work",
                    device=device,
                    progress=progress,
                )
    return path, load_artefact(path)


def has_sets(cell: Cell, recipe: methods.Recipe, results: Path, seeds: int) -> bool:
    """Say whether the sets of a cell are there already, as far as one can know without its data."""
    prefix = file_name(f"{recipe.method}-{cell.dataset}-ipc{cell.ipc}-{recipe.hash[:12]}-")
    found = (results / "artefacts").glob(f"{escape(prefix)}*-draw0.safetensors")
    return len({path.stem.split("-seed")[-1] for path in found}) >= seeds


class _FinishedNetworks:
    """The networks of a cell that are done, on disk after each of them.

    Args:
        path: the file.
        key: what the numbers depend on; a file of another key is of no use and is replaced.
    """

    def __init__(self, path: Path, key: str):
        self._path = path
        self._content = {"key": key, "networks": {}}
        if path.exists():
            content = json.loads(path.read_text())
            if content["key"] == key:
                self._content = content

    def has(self, seed: int, repeat: int) -> bool:
        return f"{seed}/{repeat}" in self._content["networks"]

    def get(self, seed: int, repeat: int) -> dict:
        return self._content["networks"][f"{seed}/{repeat}"]

    def add(self, seed: int, repeat: int, evaluation: Evaluation) -> None:
        self._content["networks"][f"{seed}/{repeat}"] = {
            "accuracy": evaluation.accuracies[0],
            "lr": evaluation.lr,
            "steps": evaluation.steps,
            "num_images": evaluation.num_images,
            "seconds": evaluation.seconds,
            "code_path": evaluation.code_path,
            "commit": provenance.commit(),
        }
        text = json.dumps(self._content)
        write_atomically(self._path, lambda partial: partial.write_text(text))


def _budget(cell: Cell, data: Dataset, sets: list[Artefact]) -> Budget | None:
    """Count what the first set stores; None for the full data."""
    if not sets:
        return None
    ledger = sets[0].ledger()
    return Budget(
        **ledger.as_dict(),
        limit_bits=budget.limit_bits(data.image_shape, data.num_classes, cell.ipc),
        strict_ipc=budget.strict_ipc(ledger.stored_bits, data.image_shape, data.num_classes),
        decoded_images=sets[0].parameterization.num_images,
        storage_dtype="float32",
    )


def _save_pictures(artefact: Artefact, data: Dataset, path: Path) -> None:
    """Keep a few decoded images per class as uint8 pictures [n, C, H, W] with their labels."""
    labels = artefact.labels()
    rows = torch.cat(
        [
            torch.nonzero(labels == c).flatten()[:_PICTURES_PER_CLASS]
            for c in range(min(_PICTURED_CLASSES, data.num_classes))
        ]
    )
    transform = preprocessing(artefact.metadata["preprocessing"], data)
    pictures = transform.invert(artefact.images()[rows]).clamp(0, 1)
    arrays = {
        "images": (pictures * 255).round().to(torch.uint8).numpy(),
        "labels": labels[rows].numpy(),
    }

    def write(partial: Path) -> None:
        with open(partial, "wb") as file:
            numpy.savez_compressed(file, **arrays)

    write_atomically(path, write)


def _provenance(device: str, command: str, started: str) -> Provenance:
    commit, dirty = provenance.commit()
    return Provenance(
        commit=commit,
        dirty=dirty,
        **provenance.machine(device),
        seed=0,
        command=command or " ".join(sys.argv),
        started=started,
        finished=_now(),
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
