"""What a record holds of a cell, a class each: budget, cost, training, provenance, failure ..."""

import math
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from nsdbench.bench.divergence import runaway
from nsdbench.spread import Summary


def _finite(value: Any) -> Any:
    """Replace a number that JSON cannot hold by None."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


_Count = Annotated[int, Field(ge=0, lt=2**63)]
_Number = Annotated[float | None, BeforeValidator(_finite)]  # None where it was not finite


class Facts(BaseModel):
    """Frozen fields of a record: unknown ones and numbers that JSON cannot hold are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class StoredTensor(Facts):
    """A tensor that counts: what it is for, its name in the file, its shape and its bits."""

    kind: str
    name: str
    shape: tuple[int, ...]
    bits: _Count


class Budget(Facts):
    """What the first set stores, against Eq. 3 of the paper.

    Attributes:
        limit_bits: the right-hand side of Eq. 3.
        strict_ipc: images per class that uncompressed storage of the same size would hold.
        decoded_images: images that the networks are trained on.
        listed: what the file holds besides and Eq. 3 does not count, one phrase each.
    """

    stored_bits: _Count
    limit_bits: Annotated[_Count, Field(gt=0)]
    strict_ipc: float | None = None
    decoded_images: _Count | None = None
    storage_dtype: str = "float32"
    entries: tuple[StoredTensor, ...] = ()
    listed: tuple[str, ...] = ()

    @property
    def percent(self) -> float:
        """Return the share of the budget that is stored, in per cent."""
        return 100 * self.stored_bits / self.limit_bits

    @property
    def is_exceeded(self) -> bool:
        """Say whether more is stored than Eq. 3 allows, which only a recipe that says so may."""
        return self.stored_bits > self.limit_bits


class Cost(Facts):
    """Seconds by phase (prior, experts, distill, evaluate; total of a failure), peak memory."""

    seconds: dict[str, float] = {}
    peak_bytes: _Count | None = None

    @property
    def total_seconds(self) -> float | None:
        """Return the time of all phases together, None where no phase was timed."""
        return sum(self.seconds.values()) if self.seconds else None


class Training(Facts):
    """How one network was trained: optimiser steps, learning rate of every set, images, code."""

    steps: _Count | None = None
    num_images: _Count | None = None
    lr: tuple[float, ...] = ()
    code_path: dict[str, str] = {}


class Data(Facts):
    """SHA-256 of the training and of the test split."""

    checksum: str
    test_checksum: str


class Work(Facts):
    """The commits whose code did the work, and whether one of them had local changes."""

    commits: tuple[str, ...]
    is_dirty: bool


class Distillation(Facts):
    """How the first set was learned; objectives add facts of their own.

    `other_runaways` says what ran away in other sets, by their number.
    """

    model_config = ConfigDict(extra="allow")

    iterations: int
    loss_first: _Number = None
    loss_last: _Number = None
    images_moved: _Number = None
    curve: tuple[tuple[int, _Number], ...] = ()
    code_path: str = ""
    other_runaways: dict[str, str] = {}

    @property
    def runaway(self) -> str:
        """Say what ran away, in the first set or else in another; empty if nothing did."""
        others = (f"in set {number} {what}" for number, what in self.other_runaways.items())
        return runaway(self.curve, self.images_moved) or next(others, "")


class Claim(Facts):
    """An accuracy that somebody claims for a set, in per cent; std of the population."""

    mean: Annotated[float, Field(ge=0, le=100)]
    std: Annotated[float, Field(ge=0, le=100)] | None = None


class Judged(Facts):
    """Whose set was judged, and what it is compared with.

    Attributes:
        taken_for: the format of its files, in words.
        files: SHA-256 by name.
        notes: what its owner should know, a sentence each.
        random: accuracies of random real images in the same room, under the same protocol and
            preprocessing; None if there are none, see `notes`.
        random_cell: id of their record.
        claimed: what somebody claims for it.
    """

    taken_for: str
    files: dict[str, str]
    notes: tuple[str, ...] = ()
    random: Summary | None = None
    random_cell: str = ""
    claimed: Claim | None = None


class Provenance(Facts):
    """Where a record comes from: code, machine, command, and when (ISO 8601, UTC).

    `precision` is how a GPU rounded (`ops.precision`), None for a CPU and in records of before.
    """

    commit: str | None = None
    dirty: bool | None = None
    versions: dict[str, str] = {}
    device: str | None = None
    precision: str | None = None
    threads: int | None = None
    build: dict[str, Any] = {}
    seed: int | None = None
    command: str = ""
    started: str = ""
    finished: str = ""


class Failure(Facts):
    """Why there is no number.

    Attributes:
        kind: "data_missing", "data_corrupt", "budget", "diverged", "memory", "time" or "error".
        traceback: its end, empty where there is none.
    """

    kind: str
    reason: str
    traceback: str = ""
    peak_bytes: _Count | None = None

    @property
    def line(self) -> str:
        """Return the first line of the reason, or the kind where there is no reason."""
        return next(iter(self.reason.splitlines()), self.kind)
