"""Unpack a published archive atomically."""

import errno
import gzip
import hashlib
import os
import shutil
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from filelock import FileLock

from nsdbench.data.fetching.cache import make_folder
from nsdbench.errors import DataCorrupt

_TEMPORARY = ".unpacking-"
# our choice: published archives unpack to two or three times their size
_LARGEST_GROWTH = 20
_SMALL_BYTES = 64 << 20  # below that nothing is asked
_MOST_FILES = 1_000_000


def is_intact(path: Path, checksum: str) -> bool:
    """Whether a file has the checksum "md5:..." or "sha256:..."."""
    kind, _, expected = checksum.partition(":")
    with path.open("rb") as file:
        return hashlib.file_digest(file, kind).hexdigest() == expected


def unpack(archive: Path, folder: Path) -> None:
    """Unpack into a temporary folder and rename what is at its top into `folder`.

    Only regular files are taken (no links, devices or permissions). Two processes may try at once:
    the second waits and finds the work done again. What a killed run left is removed.

    Args:
        archive: .tar.gz or .zip.
        folder: receives the top-level folders of the archive; made if need be.

    Raises:
        DataCorrupt: truncated, encrypted or not an archive, a member would land outside the
            folder, or the content is out of all proportion to the archive.
    """
    make_folder(folder)
    with FileLock(folder / ".lock"):
        for left in folder.glob(f"{_TEMPORARY}*"):
            shutil.rmtree(left, ignore_errors=True)
        temporary = Path(tempfile.mkdtemp(dir=folder, prefix=_TEMPORARY))
        try:
            allowed = max(_SMALL_BYTES, _LARGEST_GROWTH * archive.stat().st_size)
            for number, (name, content) in enumerate(_members(archive)):
                target = temporary / _checked(archive, name)
                target.parent.mkdir(parents=True, exist_ok=True)
                with content, target.open("wb") as file:
                    while allowed >= 0 and (block := content.read(1 << 20)):
                        allowed -= len(block)
                        file.write(block)
                if allowed < 0 or number >= _MOST_FILES:
                    raise DataCorrupt(
                        f"{archive}: its content is more than {_LARGEST_GROWTH} times as large as "
                        f"the archive, or more than {_MOST_FILES:,} files, which no archive of a "
                        "data set is; delete it and fetch it again"
                    )
            for top in list(temporary.iterdir()):
                destination = folder / top.name
                if destination.is_dir():
                    shutil.rmtree(destination)
                os.replace(top, destination)
        except Exception as error:  # damaged archives make their readers raise almost anything
            if isinstance(error, DataCorrupt) or _is_of_the_disk(error):
                raise
            raise DataCorrupt(
                f"{archive}: expected a complete archive, it does not unpack ({error}); delete it "
                "and fetch it again"
            ) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _members(archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """Yield name and content of each regular file, in archive order."""
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as packed:
            for entry in packed.infolist():
                if not entry.is_dir():
                    yield entry.filename, packed.open(entry)
        return
    with gzip.open(archive) as stream, tarfile.open(fileobj=stream, mode="r:") as unpacked:
        for member in unpacked:
            content = unpacked.extractfile(member) if member.isfile() else None
            if content is not None:
                yield member.name, content
        while stream.read(1 << 20):  # tar stops before the checksum at the end
            pass


def _is_of_the_disk(error: Exception) -> bool:
    """Tell a full or read-only disk from damage: a seek to nowhere is EINVAL, gzip has no errno."""
    return isinstance(error, OSError) and error.errno not in (None, errno.EINVAL)


def _checked(archive: Path, name: str) -> PurePosixPath:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name:
        raise DataCorrupt(f"{archive}: the member {name!r} would land outside the folder")
    return path
