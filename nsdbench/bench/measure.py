"""Measure a cell: distil or select its sets, train networks on them, record it.

Everything that takes time is kept as it is done: experts by epoch, distillation by checkpoint,
evaluation by network. A cell that was killed goes on where it was and ends with the same record.
"""

import sys
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from nsdbench import models, provenance, spread
from nsdbench.bench.artefacts import is_drawn_per_network, make_or_load
from nsdbench.bench.facts import Budget, Cost, Data, Distillation, Provenance, Training, Work
from nsdbench.bench.kept import networks_path
from nsdbench.bench.memory import there_is, what_fits
from nsdbench.bench.networks import FinishedNetworks
from nsdbench.bench.pictures import save_pictures
from nsdbench.bench.plan import Task
from nsdbench.bench.record import Record
from nsdbench.bench.store import Store
from nsdbench.data import Dataset, TrainingData, load, preprocessing
from nsdbench.errors import BudgetExceeded, DataCorrupt, DataMissing, Diverged
from nsdbench.evaluation import Judge
from nsdbench.experts import Run
from nsdbench.files import pictures_name, portable_command
from nsdbench.ops.precision import computing_in
from nsdbench.sets import Artefact, Ledger, budget

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
    return recorded(task, run, lambda: _measure(task, run))


def recorded(task: Task, run: Run, measured: Callable[[], dict[str, Any]]) -> Record:
    """Record what a function measures, or why it fails; arguments and result as of `measure`.

    Args:
        measured: returns the fields of a `Result` that are measured.
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
        with computing_in(run.precision) if run.has_gpu else nullcontext():
            fields = measured()
    except Exception as error:
        kind = next((name for cls, name in _FAILURE_KINDS if isinstance(error, cls)), "error")
        advice = what_fits(task, there_is(run.device)) if kind == "memory" else ""
        return Record.failed(
            task.cell,
            kind,
            f"{type(error).__name__}: {'; '.join(filter(None, (advice, str(error))))}",
            traceback="" if kind == "data_missing" else traceback.format_exc()[-4000:],
            peak_bytes=provenance.peak_bytes(),
            cost=Cost(seconds={"total": time.perf_counter() - started}),
            provenance=_provenance(run, begun),
            **asked,
        )
    return Record.done(task.cell, **asked, **fields, provenance=_provenance(run, begun))


def _measure(task: Task, run: Run) -> dict[str, Any]:
    """Return the measured part of the record."""
    data = load(task.cell.dataset, run.data_root)
    judges = task.protocol.network(task.cell.arch)
    models.network_size(judges, data.image_shape, data.num_classes)  # or refuse before the work
    networks = _train_networks(task, data, run)
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
    learned = sets[0].metadata.get("distillation") if sets else None
    unroll = {} if learned is None else {"unroll": learned["code_path"]}
    commits = [artefact.metadata["commit"] for artefact in sets]
    measured = of_networks(networks, data, seconds, commits, unroll)
    measured["budget"] = None
    if sets:
        num_images = sets[0].parameterization.num_images
        measured["budget"] = budget_of(sets[0].ledger(), data, task.cell.ipc, num_images)
        name = pictures_name(recipe.dataset, recipe.ipc, recipe.method, recipe.hash)
        save_pictures(sets[0], data, Store(run.results).images_path(task.cell.scale, name))
    if learned is not None:
        measured["distillation"] = Distillation(**{**learned, **_other_runaways(sets)})
    return measured


def _other_runaways(sets: list[Artefact]) -> dict[str, Any]:
    """Return what ran away in sets behind the first as a field of a `Distillation`, if any did."""
    learned = [Distillation(**artefact.metadata["distillation"]) for artefact in sets]
    found = {str(i): one.runaway for i, one in enumerate(learned, 1) if i > 1 and one.runaway}
    return {"other_runaways": found} if found else {}


def of_networks(
    networks: list[list[dict]],
    data: Dataset,
    seconds: dict[str, float] | None = None,
    commits: Iterable[tuple[str | None, bool | None]] = (),
    code_path: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return the fields of a `Result` that finished networks [set][network] give.

    Args:
        networks: as `train_networks` returns them.
        data: what they were tested on.
        seconds, commits, code_path: of the work on the sets.
    """
    flat = [network for row in networks for network in row]
    commits = [*(network["commit"] for network in flat), *commits]
    spent = {**(seconds or {}), "evaluate": sum(network["seconds"] for network in flat)}
    return {
        "work": Work(
            commits=tuple(sorted({str(commit) for commit, _ in commits})),
            is_dirty=any(is_dirty is not False for _, is_dirty in commits),
        ),
        "accuracy": spread.summary([[network["accuracy"] for network in row] for row in networks]),
        "cost": Cost(seconds=spent, peak_bytes=provenance.peak_bytes()),
        "data": Data(checksum=data.checksum, test_checksum=data.test.checksum),
        "training": Training(
            steps=flat[0]["steps"],
            lr=tuple(row[0]["lr"] for row in networks),
            num_images=flat[0]["num_images"],
            code_path={"evaluation": flat[0]["code_path"], **(code_path or {})},
        ),
    }


def _train_networks(task: Task, data: Dataset, run: Run) -> list[list[dict]]:
    """Train and test the networks of a cell of a table."""
    recipe = task.recipe

    def judge(seed: int, draw: int) -> Judge:
        source: Artefact | TrainingData
        if recipe.kind == "full":
            kind = recipe.values["data"]["preprocessing"]
            source = TrainingData(data, preprocessing(kind, data), run.device)
        else:
            source = make_or_load(recipe, data, seed, draw, run)
        return Judge(source, data, task.cell.arch, task.protocol, run.device)

    return train_networks(task, data, run, judge)


def train_networks(
    task: Task, data: Dataset, run: Run, judge: Callable[[int, int], Judge]
) -> list[list[dict]]:
    """Train and test the networks that are not finished yet; return all, [set][network].

    A set that is drawn for one network counts as a set.

    Args:
        task: the cell.
        data: what the networks are tested on.
        run: finished networks are kept below its results folder.
        judge: called as judge(set, draw); prepares a set. Sets with one number differ by draw only
            where a recipe draws one for every network.
    """
    cell, recipe = task.cell, task.recipe
    networks = FinishedNetworks(
        networks_path(run.results, cell.scale, cell.id),
        f"{recipe.hash} {task.protocol.hash} {data.checksum} {data.test.checksum} "
        f"{run.device.partition(':')[0]}"
        f"{run.suffix}",
    )
    judge = lru_cache(maxsize=1)(judge)  # one set at a time is prepared for training
    total = task.seeds * task.repeats
    for seed in range(task.seeds):
        missing = [repeat for repeat in range(task.repeats) if not networks.has(seed, repeat)]
        is_drawn = is_drawn_per_network(recipe)
        groups = [[repeat] for repeat in missing] if is_drawn else [missing] if missing else []
        for group in groups:
            judged = judge(seed, group[0] if is_drawn else 0).networks(seed, group)
            for repeat, evaluation in zip(group, judged, strict=True):
                networks.add(seed, repeat, evaluation)
                number = seed * task.repeats + repeat + 1
                run.progress("evaluate", number, total, f"{evaluation.accuracies[0]:.2f} %")
    found = [[networks.get(s, r) for r in range(task.repeats)] for s in range(task.seeds)]
    return [[one] for row in found for one in row] if is_drawn_per_network(recipe) else found


def budget_of(
    ledger: Ledger, data: Dataset, ipc: int, num_images: int, dtype: str = "float32"
) -> Budget:
    """Count what a set stores against the room of `ipc` images a class.

    Args:
        ledger: of the set.
        data: has images and classes.
        ipc: images per class.
        num_images: images that the set decodes to.
        dtype: of what is stored.
    """
    return Budget(
        **ledger.as_dict(),
        limit_bits=budget.limit_bits(data.image_shape, data.num_classes, ipc),
        strict_ipc=budget.strict_ipc(ledger.stored_bits, data.image_shape, data.num_classes),
        decoded_images=num_images,
        storage_dtype=dtype,
    )


def _provenance(run: Run, started: str) -> Provenance:
    commit, dirty = provenance.commit()
    facts = provenance.machine(run.device)
    if run.has_gpu:
        facts["precision"] = run.precision
    return Provenance(
        commit=commit,
        dirty=dirty,
        **facts,
        command=run.command or portable_command(Path(sys.argv[0]).name, sys.argv[1:]),
        started=started,
        finished=_now(),
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
