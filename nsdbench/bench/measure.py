"""Measure a cell: distil or select its sets, train networks on them, record it.

Everything that takes time is kept as it is done: experts by epoch, distillation by checkpoint,
evaluation by network. A cell that was killed goes on where it was and ends with the same record.
"""

import sys
import time
import traceback
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import torch

from nsdbench import models, provenance, spread
from nsdbench.bench.artefacts import is_drawn_per_network, make_or_load
from nsdbench.bench.networks import FinishedNetworks
from nsdbench.bench.pictures import save_pictures
from nsdbench.bench.plan import Task
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
from nsdbench.data import Dataset, TrainingData, load, preprocessing
from nsdbench.errors import BudgetExceeded, DataCorrupt, DataMissing, Diverged
from nsdbench.evaluation import Judge
from nsdbench.experts import Run
from nsdbench.sets import Artefact, budget

_FAILURE_KINDS = (
    (DataMissing, "data_missing"),
    (DataCorrupt, "data_corrupt"),
    (BudgetExceeded, "budget"),
    (Diverged, "diverged"),
    (MemoryError, "memory"),
    (torch.OutOfMemoryError, "memory"),
)


def measure(task: Task, run: Run) -> Record:
    """Measure a cell and return its record.

    Args:
        task: the cell with its recipe, its protocol and the runs asked for.
        run: unfinished work is kept below its results folder in `work/`, distilled sets in
            `artefacts/`, small pictures in `images/`.

    Returns:
        A record of status "done", or of status "failed" with the reason; only an interrupt from
        the keyboard raises.
    """
    begun = _now()
    provenance.reset_peak()
    started = time.perf_counter()
    asked: dict[str, Any] = {
        "recipe": task.recipe,
        "protocol": task.protocol,
        "seeds": task.seeds,
        "repeats": task.repeats,
    }
    try:
        measured = _measure(task, run)
    except Exception as error:
        kind = next((name for cls, name in _FAILURE_KINDS if isinstance(error, cls)), "error")
        return Record.failed(
            task.cell,
            kind,
            f"{type(error).__name__}: {error}",
            traceback="" if kind == "data_missing" else traceback.format_exc()[-4000:],
            peak_bytes=provenance.peak_bytes(),
            cost=Cost(seconds={"total": time.perf_counter() - started}),
            provenance=_provenance(run, begun),
            **asked,
        )
    return Record.done(task.cell, **asked, **measured, provenance=_provenance(run, begun))


def _measure(task: Task, run: Run) -> dict[str, Any]:
    """Return the measured part of the record."""
    data = load(task.cell.dataset, run.data_root)
    judges = task.protocol.network(task.cell.arch)
    models.network_size(judges, data.image_shape, data.num_classes)  # or refuse before the work
    networks = _train_networks(task, data, run)
    flat = [network for row in networks for network in row]
    recipe = task.recipe
    sets = []
    if recipe.kind != "full":
        sets = [make_or_load(recipe, data, seed, 0, run) for seed in range(task.seeds)]
    seconds: dict[str, float] = {}  # of the experts, what this cell's distillation waited for
    for artefact in sets:
        cost = artefact.metadata.get("cost", {})
        for phase in ("experts", "distill"):
            seconds[phase] = seconds.get(phase, 0.0) + cost.get(phase, 0.0)
        if "prior" in cost:  # one for all sets and cells of a data set; all of it counts for each
            seconds["prior"] = cost["prior"]
    seconds["evaluate"] = sum(network["seconds"] for network in flat)
    commits = [network["commit"] for network in flat]
    commits += [artefact.metadata["commit"] for artefact in sets]
    learned = sets[0].metadata.get("distillation") if sets else None
    code_path = {"evaluation": flat[0]["code_path"]}
    measured: dict[str, Any] = {
        "work": Work(
            commits=tuple(sorted({str(commit) for commit, _ in commits})),
            is_dirty=any(is_dirty is not False for _, is_dirty in commits),
        ),
        "accuracy": spread.summary([[network["accuracy"] for network in row] for row in networks]),
        "budget": _budget(task, data, sets),
        "cost": Cost(seconds=seconds, peak_bytes=provenance.peak_bytes()),
        "data": Data(checksum=data.checksum, test_checksum=data.test.checksum),
    }
    if sets:
        cell = task.cell
        save_pictures(sets[0], data, Store(run.results).images_path(cell.scale, cell.id))
    if learned is not None:
        measured["distillation"] = Distillation(**learned)
        code_path["unroll"] = learned["code_path"]
    measured["training"] = Training(
        steps=flat[0]["steps"],
        lr=tuple(row[0]["lr"] for row in networks),
        num_images=flat[0]["num_images"],
        code_path=code_path,
    )
    return measured


def _train_networks(task: Task, data: Dataset, run: Run) -> list[list[dict]]:
    """Train and test the networks that are not finished yet; return all, [set][network]."""
    cell, recipe, protocol = task.cell, task.recipe, task.protocol
    networks = FinishedNetworks(
        run.results / "work" / f"{cell.scale}-{cell.id}.json",
        f"{recipe.hash} {protocol.hash} {data.checksum} {data.test.checksum} {run.device}",
    )

    @lru_cache(maxsize=1)  # one set at a time is prepared for training
    def judge(seed: int, draw: int) -> Judge:
        source: Artefact | TrainingData
        if recipe.kind == "full":
            kind = recipe.values["data"]["preprocessing"]
            source = TrainingData(data, preprocessing(kind, data), run.device)
        else:
            source = make_or_load(recipe, data, seed, draw, run)
        return Judge(source, data, cell.arch, protocol, run.device)

    total = task.seeds * task.repeats
    for seed in range(task.seeds):
        for repeat in range(task.repeats):
            if networks.has(seed, repeat):
                continue
            draw = repeat if is_drawn_per_network(recipe) else 0
            evaluation = judge(seed, draw).network(seed, repeat)
            networks.add(seed, repeat, evaluation)
            number = seed * task.repeats + repeat + 1
            run.progress("evaluate", number, total, f"{evaluation.accuracies[0]:.2f} %")
    return [[networks.get(s, r) for r in range(task.repeats)] for s in range(task.seeds)]


def _budget(task: Task, data: Dataset, sets: list[Artefact]) -> Budget | None:
    """Count what the first set stores; None for the full data."""
    if not sets:
        return None
    ledger = sets[0].ledger()
    return Budget(
        **ledger.as_dict(),
        limit_bits=budget.limit_bits(data.image_shape, data.num_classes, task.cell.ipc),
        strict_ipc=budget.strict_ipc(ledger.stored_bits, data.image_shape, data.num_classes),
        decoded_images=sets[0].parameterization.num_images,
        storage_dtype="float32",
    )


def _provenance(run: Run, started: str) -> Provenance:
    commit, dirty = provenance.commit()
    return Provenance(
        commit=commit,
        dirty=dirty,
        **provenance.machine(run.device),
        command=run.command or " ".join(sys.argv),
        started=started,
        finished=_now(),
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
