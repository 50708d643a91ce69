"""Manifests of experts for version control: everything except their parameters.

    results/experts/<buffer>.json     recipe, data, accuracy by epoch, size and hash of the array

The accuracy on training data was measured while the experts were trained. Experts of a hold-out are
tested on the images that were set aside too, at every snapshot; the test split of a whole data set
is for evaluation alone, so its experts are not tested.
"""

import json
from pathlib import Path
from typing import Any

from nsdbench import data, models
from nsdbench.data.holdout import parse
from nsdbench.experts import ExpertBuffer
from nsdbench.experts.buffer import TRAJECTORIES
from nsdbench.files import write_atomically
from nsdbench.progress import Progress, silent
from nsdbench.sums import file_sum


def write_expert_manifest(
    buffer: ExpertBuffer,
    results: Path,
    *,
    data_root: Path | None = None,
    device: str = "cpu",
    progress: Progress = silent,
) -> Path:
    """Describe a buffer in a file of its name below `results/experts`, and return the file.

    Args:
        buffer: a finished buffer; it is compared with its checksums first.
        results: folder of results.
        data_root: folder of the data set, see `nsdbench.data.load`.
        device: where the experts of a hold-out are tested.
        progress: told about every expert that is compared with its checksums, or tested.

    Raises:
        DataCorrupt: a snapshot has changed since it was written.
        DataMissing: the experts are those of a hold-out whose data is not on this machine.
        ValueError: the hold-out of this name has other images than the experts were trained on.
    """
    buffer.verify(progress)
    manifest = {key: value for key, value in buffer.manifest.items() if key != "complete"}
    file = buffer.path / TRAJECTORIES
    manifest["file"] = {"name": file.name, "bytes": file.stat().st_size, "sha256": file_sum(file)}
    manifest["experts"] = [_without_sums(entry) for entry in manifest["experts"]]
    if parse(manifest["dataset"]):
        tested = _holdout_accuracy(buffer, data_root, device, progress)
        manifest["experts"] = [
            {**entry, "holdout_accuracy": values}
            for entry, values in zip(manifest["experts"], tested, strict=True)
        ]
    text = json.dumps(manifest, indent=1, sort_keys=True) + "\n"
    path = results / "experts" / f"{buffer.path.name}.json"
    write_atomically(path, lambda partial: partial.write_text(text, encoding="utf-8"))
    return path


def _without_sums(entry: dict[str, Any]) -> dict[str, Any]:
    """Return the entry of an expert with the sum of its last snapshot alone."""
    rest = {key: value for key, value in entry.items() if key not in ("snapshots", "correctness")}
    return {**rest, "sha256": entry["snapshots"][-1]}


def _holdout_accuracy(
    buffer: ExpertBuffer, data_root: Path | None, device: str, progress: Progress
) -> list[list[float]]:
    """Test every snapshot on the images set aside: [expert][epoch], in per cent."""
    manifest: dict[str, Any] = buffer.manifest
    held = data.load(manifest["dataset"], data_root)
    if manifest.get("dataset_checksum", held.checksum) != held.checksum:
        raise ValueError(
            f"{buffer.path} was trained on {manifest['dataset']} with the checksum "
            f"{manifest['dataset_checksum'][:12]}, here it has {held.checksum[:12]}; give the same "
            "data, or record the experts again"
        )
    model = models.for_dataset(manifest["arch"], held).to(device)
    transform = data.preprocessing(manifest["preprocessing"], held)
    images, labels = held.test.images, held.test.labels
    found: list[list[float]] = []
    for expert in range(buffer.num_experts):
        found.append([])
        for epoch in range(buffer.num_epochs + 1):
            models.load_flat(model, buffer.snapshot(expert, epoch))
            found[-1].append(models.accuracy(model, images, labels, transform.apply, device))
        progress("test", expert + 1, buffer.num_experts)
    return found
