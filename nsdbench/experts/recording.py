"""Train experts on real data, with one snapshot per epoch; a killed run resumes.

Every epoch draws from its own generator and starts from the stored snapshot, so a resumed
recording is bit-identical to an undisturbed one. (The velocity is not stored: with momentum, the
expert that was interrupted is trained anew from its start.)
"""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout
from torch.nn import functional as F

from nsdbench import models
from nsdbench.data import Dataset, Preprocessing, standardise_batch
from nsdbench.data.fetching.cache import make_folder
from nsdbench.errors import DataCorrupt, DataMissing, Diverged
from nsdbench.experts.buffer import (
    CORRECTNESS,
    TRAJECTORIES,
    ExpertBuffer,
    array_sum,
    create_arrays,
    default_root,
    open_arrays,
    write_correctness,
    write_snapshot,
)
from nsdbench.experts.buffer_manifest import MANIFEST, SCHEMA, read_manifest, write_manifest
from nsdbench.experts.gsam import redirect_gradients
from nsdbench.experts.recipe import ExpertRecipe, content_hash
from nsdbench.experts.run import AT_HOME, Progress, Run
from nsdbench.files import file_name, readable
from nsdbench.ops.transfer import to_device
from nsdbench.seeding import generator
from nsdbench.student import augment
from nsdbench.student.training_step import TrainingStep
from nsdbench.sums import set_aside

# our choice: training sets up to this size are preprocessed once, larger ones batch by batch
PREPARED_BYTES = 2 << 30
# our choice: clean training images on which a finished expert is measured
MEASURED_IMAGES = 2000


def record(
    dataset: Dataset,
    preprocessing: Preprocessing,
    arch_id: str,
    recipe: ExpertRecipe,
    *,
    seed: int,
    root: Path | str | None = None,
    run: Run = AT_HOME,
) -> ExpertBuffer:
    """Train experts, or open them if they have been trained before.

    The buffer is found by training data, preprocessing, architecture, recipe and seed. Two
    processes may ask for the same one: the second waits for the first. A finished one is only
    read; a damaged one is recorded anew.

    Args:
        dataset: its training split is used; the test split is sealed.
        preprocessing: maps its images to network inputs.
        arch_id: for example "convnet3-w128".
        recipe: how to train.
        seed: of the initial parameters, the order of images and the augmentation.
        root: folder for buffers; None is `cache_dir() / "experts"`.
        run: where to train, and who is told after every epoch.

    Raises:
        ValueError: no such architecture, or it has batch norm: a snapshot is a parameter vector.
        Diverged: a loss became NaN or infinite.
    """
    if models.parse_id(arch_id)[-1] == "batch_norm":
        raise _without_statistics(arch_id)
    dataset = dataset.without_test()
    identity = {
        "schema": SCHEMA,
        "kind": "recorded",
        "dataset": dataset.name,
        "dataset_checksum": dataset.checksum,
        "preprocessing": preprocessing.kind,
        "preprocessing_hash": preprocessing.hash,
        "arch": arch_id,
        "recipe": recipe.settings(),
        "seed": seed,
    }
    name = file_name(readable(dataset.name), arch_id, content_hash(identity)[:16])
    folder = Path(root or default_root()) / name
    total = recipe.num_experts * recipe.epochs
    with contextlib.suppress(DataMissing, DataCorrupt):
        return _open_finished(folder, identity)
    with _locked(folder, total, run.progress):
        model = models.for_dataset(arch_id, dataset).to(run.device)
        if list(model.buffers()):
            raise _without_statistics(arch_id)
        sizes = {"num_parameters": models.num_parameters(model)}
        if recipe.keeps_correctness:
            sizes["num_images"] = len(dataset.train)
        manifest = _open_manifest(folder, name, identity, sizes, recipe)
        if not manifest["complete"]:
            _train_experts(folder, manifest, model, dataset, preprocessing, recipe, run.progress)
    return ExpertBuffer(folder)


def _without_statistics(arch_id: str) -> ValueError:
    return ValueError(
        f"experts of {arch_id} cannot be recorded: snapshots hold parameters, not the running "
        "statistics of batch norm; choose a network without -bn"
    )


def _open_finished(folder: Path, identity: dict[str, Any]) -> ExpertBuffer:
    """Open a buffer that is finished and in its place; no lock, it may be somebody else's."""
    buffer = ExpertBuffer(folder)
    _check_identity(folder, buffer.manifest, identity)
    return buffer


def _check_identity(folder: Path, manifest: dict[str, Any], identity: dict[str, Any]) -> None:
    if any(manifest.get(key) != value for key, value in identity.items()):
        raise DataCorrupt(f"{folder / MANIFEST} is damaged: it is that of other experts")


def set_back_damaged(folder: Path) -> None:
    """Have every recorded expert go on from before its first damaged snapshot.

    The next `record` trains what is then missing.
    """
    with _locked(folder, 0, AT_HOME.progress):
        manifest = read_manifest(folder)
        arrays = open_arrays(folder, manifest)
        for expert, entry in enumerate(manifest["experts"]):
            sums = {"snapshots": entry["snapshots"], "correctness": entry.get("correctness", [])}
            damaged = [
                epoch if name == "snapshots" else epoch + 1
                for name, array in arrays.items()
                for epoch, stated in enumerate(sums[name])
                if stated is not None and array_sum(array[expert, epoch]) != stated
            ]
            if damaged:
                done = max(0, min(damaged) - 1)
                entry["epochs_done"] = done
                entry["snapshots"] = entry["snapshots"][: done + 1] if min(damaged) else [None]
                for name in ("loss", "accuracy", "correctness"):
                    if name in entry:
                        del entry[name][done:]
                entry.pop("final_train_accuracy", None)
                manifest["complete"] = False
        write_manifest(folder, manifest)


def _open_manifest(
    folder: Path, name: str, identity: dict[str, Any], sizes: dict[str, int], recipe: ExpertRecipe
) -> dict[str, Any]:
    """Read how far an earlier run got, or start a new buffer."""
    files = [MANIFEST, TRAJECTORIES, *([CORRECTNESS] if recipe.keeps_correctness else [])]
    if all((folder / file).exists() for file in files):
        try:
            manifest = read_manifest(folder)
            _check_identity(folder, manifest, identity)
            open_arrays(folder, manifest)
            return manifest
        except DataCorrupt as damage:
            set_aside(folder / MANIFEST, damage)
    manifest = {
        **identity,
        "name": name,
        "recipe_hash": recipe.hash,
        "num_experts": recipe.num_experts,
        "num_epochs": recipe.epochs,
        **sizes,
        "complete": False,
        "experts": [],
    }
    create_arrays(folder, manifest)
    write_manifest(folder, manifest)
    return manifest


def _train_experts(
    folder: Path,
    manifest: dict[str, Any],
    model: models.AnyNetwork,
    dataset: Dataset,
    preprocessing: Preprocessing,
    recipe: ExpertRecipe,
    progress: Progress,
) -> None:
    """Train what the manifest says is missing; the manifest is rewritten after every epoch."""
    device = next(model.parameters()).device
    fetch = _network_inputs(dataset, preprocessing, device, recipe.standardises_batches)
    labels = dataset.train.labels.to(device)
    train = _training_step(model, recipe)
    entries, seed = manifest["experts"], manifest["seed"]
    total = recipe.num_experts * recipe.epochs
    for expert in range(recipe.num_experts):
        if expert == len(entries):
            entries.append({})
        entry = entries[expert]
        if entry and entry["epochs_done"] == recipe.epochs:
            continue
        if not _resume(folder, expert, entry, model, recipe):
            models.initialize(model, generator(seed, "experts", expert, "initialize"))
            start = write_snapshot(folder, expert, 0, models.flatten(model))
            entry.update(epochs_done=0, loss=[], accuracy=[], snapshots=[start])
            if recipe.keeps_correctness:
                entry["correctness"] = []
        train.optimiser = optimiser = _optimiser(model, recipe)
        for epoch in range(entry["epochs_done"], recipe.epochs):
            optimiser.param_groups[0]["lr"] = lr = recipe.lr_of_epoch(epoch)
            stream = generator(seed, "experts", expert, "epoch", epoch)
            loss, is_correct = _train_epoch(model, train, fetch, labels, recipe, stream)
            if not np.isfinite(loss):
                raise Diverged(
                    f"expert {expert} of {folder.name}: the training loss of epoch {epoch + 1} is "
                    f"{loss} at lr {lr:g}; lower it"
                )
            if recipe.keeps_correctness:
                row = write_correctness(folder, expert, epoch, is_correct)
                entry["correctness"].append(row)
            theta = models.flatten(model)
            entry["snapshots"].append(write_snapshot(folder, expert, epoch + 1, theta))
            entry["loss"].append(loss)
            entry["accuracy"].append(100 * float(is_correct.sum()) / len(labels))
            entry["epochs_done"] = epoch + 1
            if epoch + 1 == recipe.epochs:
                rows = torch.randperm(len(labels), generator=generator(seed, "experts", "measure"))
                entry["final_train_accuracy"] = _accuracy(
                    model, fetch, labels, rows[:MEASURED_IMAGES], recipe.batch_size
                )
                is_done = [e["epochs_done"] == recipe.epochs for e in entries]
                manifest["complete"] = is_done == [True] * recipe.num_experts
            write_manifest(folder, manifest)
            progress("experts", sum(e["epochs_done"] for e in entries), total)


def _resume(
    folder: Path,
    expert: int,
    entry: dict[str, Any],
    model: models.AnyNetwork,
    recipe: ExpertRecipe,
) -> bool:
    """Load an interrupted expert's last snapshot; False if it has to start again."""
    if not entry or recipe.momentum > 0:
        return False
    last = np.load(folder / TRAJECTORIES, mmap_mode="r")[expert, entry["epochs_done"]]
    if array_sum(last) != entry["snapshots"][-1]:
        return False
    models.load_flat(model, torch.from_numpy(np.array(last)))
    return True


def _optimiser(model: models.AnyNetwork, recipe: ExpertRecipe) -> torch.optim.SGD:
    return torch.optim.SGD(
        model.parameters(),
        lr=recipe.lr,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
        nesterov=recipe.nesterov,
    )


def _training_step(model: models.AnyNetwork, recipe: ExpertRecipe) -> TrainingStep:
    """Make the step of all experts: they are trained one after another in the same network."""

    def batch_loss(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits = model(x)
        return F.cross_entropy(logits, y), logits

    def redirect(x: torch.Tensor, y: torch.Tensor) -> None:
        redirect_gradients(
            model.parameters(), lambda: batch_loss(x, y)[0], recipe.rho, recipe.alpha
        )

    is_redirected = recipe.optimiser == "gsam"
    return TrainingStep(
        model, _optimiser(model, recipe), batch_loss, redirect if is_redirected else None
    )


def _train_epoch(
    model: models.AnyNetwork,
    train: TrainingStep,
    fetch: Callable[[torch.Tensor], torch.Tensor],
    labels: torch.Tensor,
    recipe: ExpertRecipe,
    stream: torch.Generator,
) -> tuple[float, torch.Tensor]:
    """Train one epoch on augmented batches.

    Returns:
        The mean loss, and [N] bool: which images were classified correctly, each before the update
        by the batch that presented it.
    """
    model.train()
    loss_sum = torch.zeros((), device=labels.device)
    is_correct = torch.zeros_like(labels, dtype=torch.bool)
    order = torch.randperm(len(labels), generator=stream)
    there = to_device(order, labels.device).split(recipe.batch_size)
    for rows, rows_there in zip(order.split(recipe.batch_size), there, strict=True):
        x, y = fetch(rows), labels[rows_there]
        x = augment.apply(x, augment.sample(recipe.dsa_strategy, len(x), model.image_shape, stream))
        loss, logits = train(x, y)
        loss_sum += loss.detach() * len(x)
        is_correct[rows_there] = logits.argmax(dim=1) == y
    return float(loss_sum) / len(labels), is_correct


@torch.no_grad()
def _accuracy(
    model: models.AnyNetwork,
    fetch: Callable[[torch.Tensor], torch.Tensor],
    labels: torch.Tensor,
    rows: torch.Tensor,
    batch_size: int,
) -> float:
    """Measure per cent correct on clean training images."""
    model.eval()
    correct = sum(
        int((model(fetch(part)).argmax(dim=1) == labels[part]).sum())
        for part in rows.split(batch_size)
    )
    return 100 * correct / len(rows)


def _network_inputs(
    dataset: Dataset, preprocessing: Preprocessing, device: torch.device, standardises: bool
) -> Callable[[torch.Tensor], torch.Tensor]:
    """Give access to batches of training images by row number, as network inputs on the device."""
    images = dataset.train.images
    is_large = 4 * images.numel() > PREPARED_BYTES
    prepared = None if is_large else _prepared(images, preprocessing, device)

    def fetch(rows: torch.Tensor) -> torch.Tensor:
        if prepared is None:
            x = to_device(preprocessing.apply(images[rows]), device)
        else:
            x = prepared[to_device(rows, device)]
        return standardise_batch(x) if standardises else x

    return fetch


def _prepared(
    images: torch.Tensor, preprocessing: Preprocessing, device: torch.device
) -> torch.Tensor:
    return torch.cat([preprocessing.apply(part).to(device) for part in images.split(1024)])


@contextlib.contextmanager
def _locked(folder: Path, total: int, progress: Progress) -> Iterator[None]:
    """Hold a buffer's lock; the system releases it when the process dies."""
    make_folder(folder)
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        progress("experts (waiting for another process)", 0, total)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
