"""Expert buffers on disk: one memory-mapped array of snapshots and a manifest.

<folder>/trajectories.npy   float32 [num_experts, num_epochs + 1, P], read only once recorded
<folder>/correctness.npy    uint8 [num_experts, num_epochs, N], if the recipe keeps it: 1 where
                            an image was classified correctly when it was presented
<folder>/manifest.json      where the experts come from, and how far recording has got
"""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nsdbench import data
from nsdbench.errors import DataCorrupt, DataMissing
from nsdbench.files import write_atomically

TRAJECTORIES = "trajectories.npy"
CORRECTNESS = "correctness.npy"
MANIFEST = "manifest.json"
SCHEMA = 1


@dataclass(frozen=True)
class ExpertSegment:
    """A piece of one expert's trajectory.

    Attributes:
        theta_start: [P] float32 parameters after `start` epochs.
        theta_target: [P] float32 parameters `expert_epochs` epochs later.
        expert: number of the expert.
        start: epoch at which the segment starts.
    """

    theta_start: torch.Tensor
    theta_target: torch.Tensor
    expert: int
    start: int


class ExpertBuffer:
    """Read the snapshots of recorded or imported experts.

    Attributes:
        path: folder of the buffer.
        manifest: where the experts come from; `manifest["experts"]` has the loss and accuracy of
            every epoch, measured on training data.
        num_experts, num_epochs, num_parameters: sizes; there are num_epochs + 1 snapshots.
    """

    def __init__(self, path: Path | str) -> None:
        """Open a finished buffer.

        Raises:
            DataMissing: there is no buffer, or its recording has not finished.
            DataCorrupt: the array is not what the manifest says.
        """
        self.path = Path(path)
        self.manifest = read_manifest(self.path)
        if not self.manifest["complete"]:
            raise DataMissing(
                f"the experts in {self.path} are not finished: run the command that records them "
                "again, it goes on where it stopped"
            )
        shape = trajectories_shape(self.manifest)
        self._trajectories = _open_array(self.path / TRAJECTORIES, shape, np.float32)
        self.num_experts, snapshots, self.num_parameters = shape
        self.num_epochs = snapshots - 1

    def snapshot(self, expert: int, epoch: int) -> torch.Tensor:
        """Copy the parameters [P] of an expert after a number of epochs; 0 is its start."""
        if not (0 <= expert < self.num_experts and 0 <= epoch <= self.num_epochs):
            raise ValueError(
                f"expert {expert}, epoch {epoch}: {self.path} holds experts 0..."
                f"{self.num_experts - 1} and epochs 0...{self.num_epochs}"
            )
        return torch.from_numpy(np.array(self._trajectories[expert, epoch]))

    def correctness(self) -> torch.Tensor:
        """Copy which images were classified correctly when they were presented, before the update.

        Returns:
            [num_experts, num_epochs, N] bool, images in the order of the training split.

        Raises:
            ValueError: the experts were trained without keeping it.
        """
        if not keeps_correctness(self.manifest):
            raise ValueError(
                f"the experts in {self.path} kept no record of the images they classified "
                "correctly: set experts.keeps_correctness = true, and no experts.buffer"
            )
        shape = (self.num_experts, self.num_epochs, self.manifest["num_images"])
        return torch.from_numpy(_open_array(self.path / CORRECTNESS, shape, np.uint8) == 1)

    def sample(
        self, generator: torch.Generator, *, max_start_epoch: int, expert_epochs: int
    ) -> ExpertSegment:
        """Draw an expert and a start epoch, both uniformly.

        Args:
            generator: a CPU generator; it is advanced.
            max_start_epoch: the start lies in [0, max_start_epoch), as in MTT.
            expert_epochs: epochs between start and target.

        Raises:
            ValueError: the latest target lies beyond the last recorded epoch.
        """
        last = max_start_epoch - 1 + expert_epochs
        if max_start_epoch < 1 or expert_epochs < 1 or last > self.num_epochs:
            raise ValueError(
                f"max_start_epoch {max_start_epoch} and expert_epochs {expert_epochs} reach epoch "
                f"{last}; both must be at least 1 and {self.path} has {self.num_epochs} epochs: "
                "record longer experts or start earlier"
            )
        expert = int(torch.randint(self.num_experts, (), generator=generator))
        start = int(torch.randint(max_start_epoch, (), generator=generator))
        return ExpertSegment(
            self.snapshot(expert, start),
            self.snapshot(expert, start + expert_epochs),
            expert,
            start,
        )

    def verify(self) -> None:
        """Read everything and compare it with the checksums of the manifest.

        Raises:
            DataCorrupt: an expert's snapshots have changed since they were written.
        """
        for expert, entry in enumerate(self.manifest["experts"]):
            if snapshot_hash(self._trajectories[expert, self.num_epochs]) != entry["sha256"]:
                raise DataCorrupt(
                    f"expert {expert} in {self.path / TRAJECTORIES} does not match its checksum: "
                    "delete the folder and record again"
                )


def default_root() -> Path:
    """The folder that holds buffers unless the caller names one."""
    return data.cache_dir() / "experts"


def list_buffers(root: Path | str | None = None) -> list[dict[str, Any]]:
    """Describe every buffer below a folder, finished or not.

    Returns:
        One dict a buffer, by name: path, name, kind ("recorded" or "imported"), dataset, arch,
        num_experts, num_epochs, epochs_done (over all experts), complete, num_bytes.
    """
    found = []
    for path in sorted(Path(root or default_root()).glob(f"*/{MANIFEST}")):
        manifest = read_manifest(path.parent)
        num_experts, snapshots, num_parameters = trajectories_shape(manifest)
        found.append(
            {
                "path": path.parent,
                **{key: manifest[key] for key in ("name", "kind", "dataset", "arch", "complete")},
                "num_experts": num_experts,
                "num_epochs": snapshots - 1,
                "epochs_done": sum(entry["epochs_done"] for entry in manifest["experts"]),
                "num_bytes": 4 * num_experts * snapshots * num_parameters,
            }
        )
    return found


def trajectories_shape(manifest: dict[str, Any]) -> tuple[int, int, int]:
    """(num_experts, num_epochs + 1, P) of the array a manifest describes."""
    return manifest["num_experts"], manifest["num_epochs"] + 1, manifest["num_parameters"]


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read a buffer's manifest.

    Raises:
        DataMissing: there is none.
        DataCorrupt: it is not a manifest of this version.
    """
    file = folder / MANIFEST
    try:
        manifest = json.loads(file.read_text())
    except FileNotFoundError as error:
        raise DataMissing(f"no experts in {folder}: record or import them first") from error
    except ValueError as error:
        raise DataCorrupt(f"{file} is not JSON: delete its folder and record again") from error
    if manifest.get("schema") != SCHEMA:
        raise DataCorrupt(
            f"{file} has schema {manifest.get('schema')}, this version reads {SCHEMA}: record again"
        )
    return manifest


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """Replace a buffer's manifest in one step."""
    text = json.dumps(manifest, indent=1)
    write_atomically(folder / MANIFEST, lambda path: path.write_text(text))


def keeps_correctness(manifest: dict[str, Any]) -> bool:
    """Say whether a buffer has the file of correctly classified images."""
    return manifest.get("recipe", {}).get("keeps_correctness", False)


def create_arrays(folder: Path, manifest: dict[str, Any]) -> None:
    """Make the array files a manifest describes, all zeros and sparse where the disk can."""
    _create_array(folder / TRAJECTORIES, trajectories_shape(manifest), np.float32)
    if keeps_correctness(manifest):
        shape = (manifest["num_experts"], manifest["num_epochs"], manifest["num_images"])
        _create_array(folder / CORRECTNESS, shape, np.uint8)


def write_snapshot(folder: Path, expert: int, epoch: int, theta: torch.Tensor) -> str:
    """Write one snapshot [P] to disk and return its checksum."""
    values = theta.detach().cpu().numpy()
    _write_row(folder / TRAJECTORIES, expert, epoch, values)
    return snapshot_hash(values)


def write_correctness(folder: Path, expert: int, epoch: int, is_correct: torch.Tensor) -> None:
    """Write to disk which of the N images were classified correctly in an epoch, from 0."""
    _write_row(folder / CORRECTNESS, expert, epoch, is_correct.cpu().numpy().astype(np.uint8))


def snapshot_hash(values: np.ndarray) -> str:
    """Identify a snapshot (sha256, hex)."""
    return hashlib.sha256(np.ascontiguousarray(values).data).hexdigest()


def _create_array(file: Path, shape: tuple[int, ...], dtype: type) -> None:
    def create(path: Path) -> None:
        np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape).flush()

    write_atomically(file, create)


def _open_array(file: Path, shape: tuple[int, ...], dtype: type) -> np.ndarray:
    """Map a file read-only; DataCorrupt if it is not what the manifest says."""
    try:
        array = np.load(file, mmap_mode="r")
    except (OSError, ValueError) as error:
        raise DataCorrupt(
            f"{file} cannot be read ({error}): delete its folder and record again"
        ) from error
    if array.shape != shape or array.dtype != dtype:
        raise DataCorrupt(
            f"{file} holds {array.dtype} {list(array.shape)}, its manifest says "
            f"{np.dtype(dtype)} {list(shape)}: delete its folder and record again"
        )
    return array


def _write_row(file: Path, expert: int, epoch: int, values: np.ndarray) -> None:
    """Write array[expert, epoch] to disk.

    Plain writes, not the mapping: a full disk is then an OSError instead of a killed process.
    """
    array = np.load(file, mmap_mode="r")
    row = expert * array.shape[1] + epoch
    with open(file, "r+b") as stream:
        stream.seek(array.offset + row * values.nbytes)
        stream.write(values.tobytes())
        stream.flush()
        os.fsync(stream.fileno())  # before the manifest claims it
