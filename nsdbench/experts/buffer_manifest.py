"""The manifest of an expert buffer: where its experts come from, and how far recording has got.

It holds a sum of itself, and of every snapshot and every row of correctness.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from nsdbench.errors import DataCorrupt, DataMissing, checked
from nsdbench.registry import Settings
from nsdbench.sums import read_summed_json, write_summed_json

MANIFEST = "manifest.json"
SCHEMA = 1

_Size = Annotated[int, Field(ge=1, le=10**12)]
_Sum = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
_Loss = float
_Percent = Annotated[float, Field(ge=0, le=100)]


class _Expert(Settings):
    """One expert; a sum is None where an older version kept none, or must be made anew."""

    epochs_done: Annotated[int, Field(ge=0)]
    snapshots: list[_Sum | None]
    correctness: list[_Sum | None] = []
    loss: list[_Loss] = []
    accuracy: list[_Percent] = []
    final_train_accuracy: _Percent | None = None

    @model_validator(mode="after")
    def _is_whole(self) -> "_Expert":
        if len(self.snapshots) != self.epochs_done + 1:
            raise ValueError(f"{len(self.snapshots)} snapshots after {self.epochs_done} epochs")
        return self


class _File(Settings):
    name: str
    sha256: _Sum


class _Manifest(Settings):
    schema_number: Literal[1] = Field(alias="schema")
    kind: Literal["recorded", "imported"]
    name: str
    dataset: str
    dataset_checksum: str | None = None
    preprocessing: str
    preprocessing_hash: str | None = None
    arch: str
    recipe: dict[str, Any] = {}
    recipe_hash: str | None = None
    seed: int | None = None
    files: list[_File] = []
    num_experts: _Size
    num_epochs: _Size
    num_parameters: _Size
    num_images: _Size | None = None
    complete: bool
    experts: list[_Expert]

    @model_validator(mode="after")
    def _is_whole(self) -> "_Manifest":
        done = [expert.epochs_done for expert in self.experts]
        if len(done) > self.num_experts or max(done, default=0) > self.num_epochs:
            raise ValueError(f"there are more experts or epochs than {self.num_experts} experts of "
                             f"{self.num_epochs} epochs")  # fmt: skip
        if self.complete and done != [self.num_epochs] * self.num_experts:
            raise ValueError("it says to be complete, and is not")
        return self


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read a buffer's manifest.

    Raises:
        DataMissing: there is none.
        DataCorrupt: it is not a manifest of this version, or has changed since it was written.
    """
    file = folder / MANIFEST
    try:
        manifest = read_summed_json(file, "a manifest of experts")
    except FileNotFoundError as error:
        raise DataMissing(f"no experts in {folder}: record or import them first") from error
    except DataCorrupt as error:
        raise DataCorrupt(f"{error}: delete its folder and record again") from error
    if manifest.get("schema") != SCHEMA:
        raise DataCorrupt(
            f"{file} has schema {manifest.get('schema')}, this version reads {SCHEMA}: record again"
        )
    try:
        _fill_old_entries(manifest)
        checked(_Manifest, manifest, str(file))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataCorrupt(
            f"{file} is damaged ({error}): delete its folder and record again"
        ) from error
    return manifest


def _fill_old_entries(manifest: dict[str, Any]) -> None:
    """Give entries of older versions, which kept the last sum alone, a place for every sum."""
    for entry in manifest["experts"]:
        if "snapshots" not in entry:
            if not 0 <= entry["epochs_done"] <= manifest["num_epochs"] <= 10**6:
                raise ValueError(f"{entry['epochs_done']} epochs of {manifest['num_epochs']}")
            entry["snapshots"] = [None] * entry["epochs_done"] + [entry.pop("sha256")]
            if keeps_correctness(manifest):
                entry["correctness"] = [None] * entry["epochs_done"]


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """Replace a buffer's manifest in one step."""
    write_summed_json(folder / MANIFEST, manifest, indent=1)


def trajectories_shape(manifest: dict[str, Any]) -> tuple[int, int, int]:
    """(num_experts, num_epochs + 1, P) of the array a manifest describes."""
    return manifest["num_experts"], manifest["num_epochs"] + 1, manifest["num_parameters"]


def keeps_correctness(manifest: dict[str, Any]) -> bool:
    """Say whether a buffer has the file of correctly classified images."""
    return manifest.get("recipe", {}).get("keeps_correctness", False)
