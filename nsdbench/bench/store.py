"""Records: one JSON a cell, written once by rename, safe under kill and under two processes.

    results/records/<scale>/<cell id>.json      the records
    results/work/locks/<scale>-<cell id>.lock   who works on a cell; a lock dies with its process

A reader sees the old record or the new one, never half of one. A failure is a record too; it does
not count as done. It never replaces a result of the same recipe and protocol, and one that only
says that data is missing replaces no result at all.
"""

import json
import math
import os
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from copy import deepcopy
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from nsdbench.errors import DataCorrupt
from nsdbench.files import write_atomically

SCHEMA = 1
STATUSES = ("done", "failed")
_REQUIRED = {
    "done": ("cell", "recipe_hash", "protocol_hash", "seeds", "repeats", "accuracy"),
    "failed": ("cell", "failure"),
}
_CELL_KEYS = ("dataset", "ipc", "method", "arch", "protocol", "scale", "id")
# What two runs of one cell may differ in: cost, and where, when and by which words they ran.
_VOLATILE = ("cost", "work")
_VOLATILE_PROVENANCE = ("started", "finished", "commit", "dirty", "command")


class Store:
    """The records below one results folder."""

    def __init__(self, results: Path | str) -> None:
        self.results = Path(results)

    def path(self, scale: str, cell_id: str) -> Path:
        """Return where the record of a cell is, whether it exists or not."""
        return self.results / "records" / scale / f"{cell_id}.json"

    def images_path(self, scale: str, cell_id: str) -> Path:
        """Return where a few decoded images of a cell are kept (npz: images, labels)."""
        return self.results / "images" / scale / f"{cell_id}.npz"

    def figure_path(self, scale: str, name: str) -> Path:
        """Return where the arrays of a figure that is not made of cells are kept (npz)."""
        return self.results / "figures" / scale / f"{name}.npz"

    def read(self, scale: str, cell_id: str) -> dict[str, Any] | None:
        """Read a cell's record; None if there is none.

        Raises:
            DataCorrupt: the file is not a record; the message names it.
        """
        path = self.path(scale, cell_id)
        return _read(path) if path.exists() else None

    def write(self, record: Mapping[str, Any]) -> Path:
        """Write a record by rename; numbers that are not finite become null.

        Returns:
            The file that now holds the cell's record. If `record` is a failure and a result of
            the same recipe and protocol is there, or any result and the data is missing, that
            result stays.

        Raises:
            ValueError: the record lacks a field or has an unknown status.
        """
        record = _finite({"schema": SCHEMA, **record})
        fault = _fault(record)
        if fault:
            raise ValueError(f"not a record: {fault}")
        path = self.path(record["cell"]["scale"], record["cell"]["id"])
        if record["status"] == "failed" and self._keeps_result(path, record):
            return path
        lines = [
            f"{json.dumps(key)}: {json.dumps(record[key], sort_keys=True, allow_nan=False)}"
            for key in sorted(record)
        ]
        text = "{\n" + ",\n".join(lines) + "\n}\n"  # a line a field: differences read well
        write_atomically(path, lambda partial: partial.write_text(text, encoding="utf-8"))
        return path

    def _keeps_result(self, path: Path, failure: Mapping[str, Any]) -> bool:
        """Say whether a result is at `path` that the failure must not replace."""
        try:
            there = _read(path) if path.exists() else None
        except DataCorrupt:
            return False
        if there is None or there["status"] != "done":
            return False
        asked = (failure.get("recipe_hash"), failure.get("protocol_hash"))
        # data that is missing here says nothing about the recipe
        return failure["failure"]["kind"] == "data_missing" or not change_since(there, *asked)

    def records(self, scale: str | None = None) -> tuple[list[dict[str, Any]], list[str]]:
        """Read all records, sorted by scale and cell id.

        Returns:
            The records, and one warning per file that is not a record.
        """
        found, warnings = [], []
        for path in sorted((self.results / "records").glob(f"{scale or '*'}/*.json")):
            if path.name.startswith("."):
                continue
            try:
                found.append(_read(path))
            except DataCorrupt as error:
                warnings.append(str(error))
        return found, warnings

    @contextmanager
    def lock(self, scale: str, cell_id: str, *, wait: bool = True) -> Iterator[bool]:
        """Hold a cell against other processes; yields False if another one has it and wait is off.

        Partial files that a killed process left are removed once the lock is held.
        """
        holder = self._holder_path(scale, cell_id)
        holder.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(holder.with_name(f"{scale}-{cell_id}.lock"))
        try:
            lock.acquire(timeout=-1 if wait else 0)
        except Timeout:
            yield False
            return
        try:
            with suppress(OSError):  # what it says is a courtesy
                holder.write_text(f"process {os.getpid()} on {platform.node()}", encoding="utf-8")
            path = self.path(scale, cell_id)
            for leftover in path.parent.glob(f".*.{path.name}"):
                leftover.unlink(missing_ok=True)
            yield True
        finally:
            with suppress(OSError):
                holder.unlink(missing_ok=True)
            lock.release()

    def holder(self, scale: str, cell_id: str) -> str:
        """Say who holds the lock of a cell: "process 4711 on host", or "another process"."""
        try:
            return self._holder_path(scale, cell_id).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            return "another process"

    def _holder_path(self, scale: str, cell_id: str) -> Path:
        # not in the lock itself: whoever asks for that empties it
        return self.results / "work" / "locks" / f"{scale}-{cell_id}.holder"


def is_done(
    record: Mapping[str, Any] | None,
    cell: Mapping[str, Any],
    recipe_hash: str,
    protocol_hash: str,
    seeds: int,
    repeats: int,
) -> bool:
    """Say whether a record is a result of this cell, recipe and protocol with enough runs."""
    return (
        record is not None
        and record["status"] == "done"
        and all(record["cell"].get(key) == value for key, value in cell.items())
        and not change_since(record, recipe_hash, protocol_hash)
        and record["seeds"] >= seeds
        and record["repeats"] >= repeats
    )


def change_since(
    record: Mapping[str, Any], recipe_hash: str | None, protocol_hash: str | None
) -> str:
    """Say what has changed since a done record was made; empty if it is of these hashes."""
    if record["recipe_hash"] != recipe_hash:
        return "its recipe has changed since"
    if record["protocol_hash"] != protocol_hash:
        return "its protocol has changed since"
    return ""


def comparable(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record without what two runs of one cell may differ in: costs, times, commit."""
    kept = deepcopy({key: value for key, value in record.items() if key not in _VOLATILE})
    for key in _VOLATILE_PROVENANCE:
        kept.get("provenance", {}).pop(key, None)
    return kept


def failure_record(
    cell: Mapping[str, Any], kind: str, reason: str, **fields: Any
) -> dict[str, Any]:
    """Make the record of a cell that could not even start or whose process died."""
    failure = {"kind": kind, "reason": reason, "traceback": "", "peak_bytes": None}
    return {
        "schema": SCHEMA,
        "status": "failed",
        "cell": dict(cell),
        "failure": failure,
        **fields,
    }


def _read(path: Path) -> dict[str, Any]:
    """Read one file and check that it is a record of this schema."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataCorrupt(f"{path} is not valid JSON ({error}); run the cell again") from error
    fault = _fault(record)
    if fault:
        raise DataCorrupt(f"{path} is not a record: {fault}; run the cell again")
    if path.stem != record["cell"]["id"]:
        raise DataCorrupt(f"{path} holds the record of {record['cell']['id']}; run the cell again")
    return record


def _fault(record: Any) -> str | None:
    """Return what keeps a value from being a record, or None."""
    if not isinstance(record, dict):
        return "expected an object"
    if record.get("schema") != SCHEMA:
        return f"schema {record.get('schema')!r}, this version reads {SCHEMA}"
    if record.get("status") not in STATUSES:
        return f"status {record.get('status')!r}, expected {' or '.join(STATUSES)}"
    missing = [key for key in _REQUIRED[record["status"]] if key not in record]
    missing += [f"cell.{key}" for key in _CELL_KEYS if key not in record.get("cell", {})]
    return f"{', '.join(missing)} missing" if missing else None


def _finite(value: Any) -> Any:
    """Replace numbers that JSON cannot hold by None, in a copy; tuples become lists."""
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
