"""Records: one JSON per cell, written once by rename; safe if killed and with two processes.

    results/records/<scale>/<cell id>.json      the records
    results/work/locks/<scale>-<cell id>.lock   who works on a cell; a lock dies with its process

A reader sees the old record or the new one, never half of one. A failure is a record too; it does
not count as done. It never replaces a result of the same recipe and protocol, and one that only
says that data is missing replaces no result at all.
"""

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from nsdbench.bench.record import Record
from nsdbench.errors import DataCorrupt
from nsdbench.files import write_atomically


class Store:
    """The records below one results folder."""

    def __init__(self, results: Path | str) -> None:
        self.results = Path(results)

    def path(self, scale: str, cell_id: str) -> Path:
        """Return where the record of a cell is, whether it exists or not."""
        return self.results / "records" / scale / f"{cell_id}.json"

    def images_path(self, scale: str, name: str) -> Path:
        """Return where a few decoded images of a set are kept (npz: images, labels).

        Args:
            scale: of its cells.
            name: as `files.pictures_name` makes it.
        """
        return self.results / "images" / scale / f"{name}.npz"

    def figure_path(self, scale: str, name: str) -> Path:
        """Return where the arrays of a figure that is not made of cells are kept (npz)."""
        return self.results / "figures" / scale / f"{name}.npz"

    def read(self, scale: str, cell_id: str) -> Record | None:
        """Read a cell's record; None if there is none.

        Raises:
            DataCorrupt: the file is not a record; the message names file and fault.
        """
        path = self.path(scale, cell_id)
        return _read(path) if path.exists() else None

    def write(self, record: Record) -> Path:
        """Write a record by rename.

        Returns:
            The file that now holds the cell's record. If `record` is a failure and a result of
            the same recipe and protocol is there, or any result and the data is missing, that
            result stays.
        """
        path = self.path(record.cell.scale, record.cell.id)
        if not self._keeps_result(record):
            text = record.text()
            write_atomically(path, lambda partial: partial.write_text(text, encoding="utf-8"))
        return path

    def _keeps_result(self, record: Record) -> bool:
        """Say whether a record is a failure that must not replace the result that is there."""
        if record.failure is None:
            return False
        try:
            former = self.read(record.cell.scale, record.cell.id)
        except DataCorrupt:
            return False
        if former is None or former.failure is not None:
            return False
        # data that is missing here says nothing about the recipe
        return record.failure.kind == "data_missing" or not former.change_since(
            record.recipe_hash, record.protocol_hash
        )

    def records(self, scale: str | None = None) -> tuple[list[Record], list[str]]:
        """Read all records, sorted by scale and cell id.

        Returns:
            The records, and one warning per file that is not a record.
        """
        records, warnings = [], []
        for path in sorted((self.results / "records").glob(f"{scale or '*'}/*.json")):
            if path.name.startswith("."):
                continue
            try:
                records.append(_read(path))
            except DataCorrupt as error:
                warnings.append(str(error))
        return records, warnings

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


def _read(path: Path) -> Record:
    """Read one file and check that it is the record of the cell that its name says."""
    try:
        record = Record.parse(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DataCorrupt(f"{path} is not a record: {error}; run the cell again") from None
    if path.stem != record.cell.id:
        raise DataCorrupt(f"{path} holds the record of {record.cell.id}; run the cell again")
    return record
