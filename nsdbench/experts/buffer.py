"""Expert buffers on disk: one memory-mapped array of snapshots and a manifest.

<folder>/trajectories.npy   float32 [num_experts, num_epochs + 1, P], read only once recorded
<folder>/correctness.npy    uint8 [num_experts, num_epochs, N], if the recipe keeps it: 1 where
                            an image was classified correctly when it was presented
<folder>/manifest.json      where the experts come from, and how far recording has got
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nsdbench import data
from nsdbench.errors import DataCorrupt, DataMissing
from nsdbench.experts.buffer_manifest import (
    MANIFEST,
    keeps_correctness,
    read_manifest,
    trajectories_shape,
)
from nsdbench.files import write_atomically, writing
from nsdbench.progress import Progress, silent
from nsdbench.sums import content_sum, notice, notice_without_sum

TRAJECTORIES = "trajectories.npy"
CORRECTNESS = "correctness.npy"


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


class ExpertsDamaged(DataCorrupt):
    """A snapshot, or what was classified correctly in an epoch, has changed since it was written.

    Attributes:
        folder: of the buffer.
        is_recorded: whether it can be made anew, see `recording.set_back_damaged`.
    """

    def __init__(self, text: str, folder: Path, is_recorded: bool) -> None:
        super().__init__(text)
        self.folder = folder
        self.is_recorded = is_recorded


class ExpertBuffer:
    """Read the snapshots of recorded or imported experts.

    Each is compared with its sum when it is first read.

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
        self._arrays = open_arrays(self.path, self.manifest)
        self._trajectories = self._arrays["snapshots"]
        self.num_experts, snapshots, self.num_parameters = self._trajectories.shape
        self.num_epochs = snapshots - 1
        self._compared: set[tuple[int, int]] = set()

    def snapshot(self, expert: int, epoch: int) -> torch.Tensor:
        """Copy the parameters [P] of an expert after a number of epochs; 0 is its start.

        Raises:
            ValueError: there is no such expert or epoch.
            ExpertsDamaged: the snapshot has changed since it was written.
        """
        if not (0 <= expert < self.num_experts and 0 <= epoch <= self.num_epochs):
            raise ValueError(
                f"expert {expert}, epoch {epoch}: {self.path} holds experts 0..."
                f"{self.num_experts - 1} and epochs 0...{self.num_epochs}"
            )
        values = np.array(self._trajectories[expert, epoch])
        if (expert, epoch) not in self._compared:
            stated = self.manifest["experts"][expert]["snapshots"][epoch]
            self._compare(stated, values, expert, f"snapshot {epoch}", TRAJECTORIES)
            self._compared.add((expert, epoch))
        return torch.from_numpy(values)

    def _compare(
        self, stated: str | None, values: np.ndarray, expert: int, what: str, name: str
    ) -> None:
        """Compare what was read of an expert with its sum."""
        if stated is None:
            notice_without_sum("an expert buffer")
        elif array_sum(values) != stated:
            is_recorded = self.manifest["kind"] == "recorded"
            raise ExpertsDamaged(
                f"{what} of expert {expert} in {self.path / name} does not match its checksum"
                + ("" if is_recorded else "; delete its folder and import it again"),
                self.path,
                is_recorded,
            )

    def correctness(self) -> torch.Tensor:
        """Copy which images were classified correctly when they were presented, before the update.

        Returns:
            [num_experts, num_epochs, N] bool, images in the order of the training split.

        Raises:
            ValueError: the experts were trained without keeping it.
            ExpertsDamaged: it has changed since it was written.
        """
        if not keeps_correctness(self.manifest):
            raise ValueError(
                f"the experts in {self.path} kept no record of the images they classified "
                "correctly: set experts.keeps_correctness = true, and no experts.buffer"
            )
        rows = self._arrays["correctness"]
        for expert, entry in enumerate(self.manifest["experts"]):
            for epoch, stated in enumerate(entry["correctness"]):
                self._compare(stated, rows[expert, epoch], expert, f"epoch {epoch}", CORRECTNESS)
        return torch.from_numpy(rows == 1)

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

    def verify(self, progress: Progress = silent) -> None:
        """Read everything and compare it with the sums of the manifest.

        Args:
            progress: told about every expert.

        Raises:
            ExpertsDamaged: something has changed since it was written.
        """
        for expert in range(self.num_experts):
            for epoch in range(self.num_epochs + 1):
                self.snapshot(expert, epoch)
            progress("verify", expert + 1, self.num_experts)
        if keeps_correctness(self.manifest):
            self.correctness()


def default_root() -> Path:
    """The folder that holds buffers unless the caller names one."""
    return data.cache_dir() / "experts"


def list_buffers(root: Path | str | None = None) -> list[dict[str, Any]]:
    """Describe every buffer below a folder, finished or not.

    Returns:
        One dict a buffer, by name: path, name, kind ("recorded" or "imported"), dataset, arch,
        num_experts, num_epochs, epochs_done (over all experts), complete, num_bytes. A damaged one
        is left out with a notice.
    """
    found = []
    for path in sorted(Path(root or default_root()).glob(f"*/{MANIFEST}")):
        try:
            manifest = read_manifest(path.parent)
        except (DataCorrupt, OSError) as error:
            notice(str(error))
            continue
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


def create_arrays(folder: Path, manifest: dict[str, Any]) -> None:
    """Make the array files a manifest describes, all zeros and sparse where the disk can."""
    for name, shape, dtype in _arrays(manifest).values():
        _create_array(folder / name, shape, dtype)


def open_arrays(folder: Path, manifest: dict[str, Any]) -> dict[str, np.ndarray]:
    """Map the array files a manifest describes, read-only: "snapshots", perhaps "correctness".

    Raises:
        DataCorrupt: one is not what the manifest says.
    """
    return {
        key: _open_array(folder / name, shape, dtype)
        for key, (name, shape, dtype) in _arrays(manifest).items()
    }


def _arrays(manifest: dict[str, Any]) -> dict[str, tuple[str, tuple[int, ...], type]]:
    """List file, shape and type of the arrays a manifest describes."""
    arrays: dict[str, tuple[str, tuple[int, ...], type]] = {
        "snapshots": (TRAJECTORIES, trajectories_shape(manifest), np.float32)
    }
    if keeps_correctness(manifest):
        shape = (manifest["num_experts"], manifest["num_epochs"], manifest["num_images"])
        arrays["correctness"] = (CORRECTNESS, shape, np.uint8)
    return arrays


def write_snapshot(folder: Path, expert: int, epoch: int, theta: torch.Tensor) -> str:
    """Write one snapshot [P] to disk and return its sum."""
    return _write_row(folder / TRAJECTORIES, expert, epoch, theta.detach().cpu().numpy())


def write_correctness(folder: Path, expert: int, epoch: int, is_correct: torch.Tensor) -> str:
    """Write which of the N images were classified correctly in an epoch, from 0; return its sum."""
    values = is_correct.cpu().numpy().astype(np.uint8)
    return _write_row(folder / CORRECTNESS, expert, epoch, values)


def array_sum(values: np.ndarray) -> str:
    """Return the SHA-256 of the values of an array, hex."""
    return content_sum(np.ascontiguousarray(values).data)


def _create_array(file: Path, shape: tuple[int, ...], dtype: type) -> None:
    def create(path: Path) -> None:
        np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape).flush()

    write_atomically(file, create)


def _open_array(file: Path, shape: tuple[int, ...], dtype: type) -> np.ndarray:
    """Map a file read-only; DataCorrupt if it is not what the manifest says."""
    try:
        array = np.lib.format.open_memmap(file, mode="r")
    except Exception as error:  # a damaged header makes numpy raise almost anything
        raise DataCorrupt(
            f"{file} cannot be read ({error}): delete its folder and record again"
        ) from error
    if array.shape != shape or array.dtype != dtype:
        raise DataCorrupt(
            f"{file} holds {array.dtype} {list(array.shape)}, its manifest says "
            f"{np.dtype(dtype)} {list(shape)}: delete its folder and record again"
        )
    return array


def _write_row(file: Path, expert: int, epoch: int, values: np.ndarray) -> str:
    """Write array[expert, epoch] to disk and return its sum.

    Plain writes, not the mapping: a full disk is then an OSError instead of a killed process.
    """
    array = np.load(file, mmap_mode="r")
    row = expert * array.shape[1] + epoch
    with writing(file), open(file, "r+b") as stream:
        stream.seek(array.offset + row * values.nbytes)
        stream.write(values.tobytes())
        stream.flush()
        os.fsync(stream.fileno())  # before the manifest claims it
    return array_sum(values)
