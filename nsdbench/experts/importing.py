"""Import expert buffers that MTT's reference code recorded (replay_buffer_*.pt).

Such a file is a list of experts, each a list of snapshots (start, then one an epoch), each a list
of the network's parameter tensors in the order of parameters().
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from nsdbench import models
from nsdbench.data import KINDS, DatasetSpec
from nsdbench.data.fetching.cache import make_folder
from nsdbench.data.formats import torch_file
from nsdbench.errors import DataCorrupt, DataMissing
from nsdbench.experts.buffer import (
    ExpertBuffer,
    create_arrays,
    default_root,
    write_snapshot,
)
from nsdbench.experts.buffer_manifest import MANIFEST, SCHEMA, write_manifest
from nsdbench.files import checked_name
from nsdbench.progress import Progress, silent
from nsdbench.sums import file_sum


def import_mtt(
    files: Sequence[Path | str],
    *,
    arch_id: str,
    spec: DatasetSpec,
    preprocessing: str,
    root: Path | str | None = None,
    name: str,
    progress: Progress = silent,
) -> ExpertBuffer:
    """Convert replay buffers of MTT (or FTD, DATM) to a buffer of this package.

    Args:
        files: replay_buffer_*.pt, in the order in which their experts shall be numbered. They are
            read without executing pickled code.
        arch_id: the network they were trained with, for example "convnet3-w128".
        spec: the dataset they were trained on; decides input and classifier sizes.
        preprocessing: kind of inputs they saw: "zca" or "standardise". MTT's CIFAR buffers are
            whitened unless their folder's name ends in _NO_ZCA.
        root: folder for buffers; None is `cache_dir() / "experts"`.
        name: name of the new buffer's folder.
        progress: told about every file that is checked, and every expert that is written.

    Raises:
        ValueError: no files, an unknown preprocessing, the name is taken, or the tensors are not
            those of the network.
        DataMissing: a file does not exist.
        DataCorrupt: a file is not a replay buffer, or holds a number that is not finite.
    """
    if preprocessing not in KINDS:
        raise ValueError(
            f"preprocessing: expected one of {', '.join(KINDS)}, got {preprocessing!r}"
        )
    paths = [Path(file) for file in files]
    if not paths:
        raise ValueError("files is empty: name at least one replay_buffer_*.pt")
    folder = Path(root or default_root()) / checked_name(name, "the name of a buffer")
    if (folder / MANIFEST).exists():
        raise ValueError(f"{folder} exists already: choose another name, or delete it")
    model = models.for_dataset(arch_id, spec)
    # Two passes over the files, one in memory at a time: the first checks and counts.
    lengths = []
    for count, path in enumerate(paths, 1):
        experts = enumerate(_experts(path))
        lengths += [_check_expert(path, number, expert, model) for number, expert in experts]
        progress("check", count, len(paths), path.name)
    if len(set(lengths)) > 1:
        raise ValueError(
            f"the experts have {min(lengths)} to {max(lengths)} snapshots; import files of equal "
            "length together"
        )
    manifest: dict[str, Any] = {
        "schema": SCHEMA,
        "kind": "imported",
        "name": name,
        "dataset": spec.name,
        "arch": arch_id,
        "preprocessing": preprocessing,
        "files": [{"name": path.name, "sha256": file_sum(path)} for path in paths],
        "num_experts": len(lengths),
        "num_epochs": lengths[0] - 1,
        "num_parameters": models.num_parameters(model),
        "complete": True,
        "experts": [],
    }
    create_arrays(make_folder(folder), manifest)
    checked = (expert for path in paths for expert in _experts(path))
    for number, expert in enumerate(checked):
        sums = []
        for epoch, snapshot in enumerate(expert):
            theta = torch.cat([tensor.float().reshape(-1) for tensor in snapshot])
            sums.append(write_snapshot(folder, number, epoch, theta))
        manifest["experts"].append({"epochs_done": len(expert) - 1, "snapshots": sums})
        progress("import", number + 1, len(lengths))
    write_manifest(folder, manifest)
    return ExpertBuffer(folder)


def _experts(path: Path) -> Iterator[list[list[torch.Tensor]]]:
    """Read the experts of one file."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise DataMissing(f"{path} does not exist: check the name of the replay buffer") from error
    except Exception as error:  # torch raises several types for files it cannot or may not read
        raise DataCorrupt(
            f"{path} cannot be read as a list of tensors ({torch_file.reason(error)}): it is "
            "damaged or not a replay buffer"
        ) from error
    if not isinstance(content, list) or not content:
        raise DataCorrupt(
            f"{path} holds a {type(content).__name__}, expected a list of experts: it is not a "
            "replay buffer of MTT"
        )
    yield from content


def _check_expert(path: Path, number: int, expert: object, model: torch.nn.Module) -> int:
    """Compare an expert's tensors with the network's parameters; return its snapshot count."""
    if not isinstance(expert, list) or len(expert) < 2:
        raise DataCorrupt(
            f"{path}, expert {number}: expected a list of at least 2 snapshots, got "
            f"{type(expert).__name__}"
        )
    expected = [(name, list(p.shape)) for name, p in model.named_parameters()]
    for epoch, snapshot in enumerate(expert):
        where = f"{path}, expert {number}, snapshot {epoch}"
        if not isinstance(snapshot, list) or not all(
            isinstance(tensor, torch.Tensor) for tensor in snapshot
        ):
            raise DataCorrupt(f"{where}: expected a list of tensors")
        if len(snapshot) != len(expected):
            raise ValueError(
                f"{where} has {len(snapshot)} tensors, the network has {len(expected)} parameters: "
                "check the architecture id"
            )
        for (name, shape), tensor in zip(expected, snapshot, strict=True):
            if list(tensor.shape) != shape:
                raise ValueError(
                    f"{where}: {name} is {list(tensor.shape)}, the network's is {shape}: check the "
                    "architecture id and the dataset"
                )
            if not tensor.float().isfinite().all():
                raise DataCorrupt(
                    f"{where}: {name} holds numbers that are not finite in float32: the expert "
                    "diverged or the file is damaged; leave it out, or record it again"
                )
    return len(expert)
