"""Fetch published files: checked, resumable, and visible under their names only when complete."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pooch
import requests
from filelock import FileLock

from nsdbench.data.description import RemoteFile
from nsdbench.data.fetching.cache import make_folder
from nsdbench.errors import DataCorrupt
from nsdbench.progress import Bars, has_live

# seconds; a dead host must not hold up a run, a slow one may take its time between blocks
CONNECT_TIMEOUT_SECONDS = 5
READ_TIMEOUT_SECONDS = 30
_BLOCK_BYTES = 1 << 18

Progress = Callable[[str, int, int], None]


class Unreachable(Exception):
    """A download did not come through; the message says why."""


def fetch(files: tuple[RemoteFile, ...], folder: Path, progress: Progress | None = None) -> None:
    """Bring files into a folder.

    Each file is kept once it is complete and its checksum is right. A download that stops leaves
    NAME.part, from which the next one goes on (HTTP range requests; a server without them starts
    again). Nothing is ever visible under the real name before its checksum was compared.

    Args:
        files: what to fetch.
        folder: made if need be; one process at a time works in it.
        progress: called with (phase, bytes done, bytes in all); default: a bar on a terminal.

    Raises:
        Unreachable: no network, a dead host, an HTTP error, or the connection broke.
        DataCorrupt: a server sent something else than what was published.
    """
    pooch.get_logger().setLevel("WARNING")
    try:
        make_folder(folder)
        with FileLock(folder / ".lock"):
            for file in files:
                if progress is not None:
                    _fetch_one(file, folder, progress)
                    continue
                with _bar(file) as report:
                    _fetch_one(file, folder, report)
    except (requests.RequestException, OSError) as error:
        # urllib3 wraps what happened in a sentence about retries
        cause = getattr(error.args[0], "reason", error) if error.args else error
        raise Unreachable(f"{type(cause).__name__}: {cause}") from error


def _fetch_one(file: RemoteFile, folder: Path, progress: Progress) -> None:
    part = folder / f"{file.name}.part"
    is_resumed = part.is_file()
    try:
        pooch.retrieve(
            file.url, file.checksum, file.name, folder, downloader=_Download(part, progress)
        )
    except requests.RequestException:  # some of them are ValueErrors, too
        raise
    except ValueError as error:  # pooch: the checksum is another
        if is_resumed:  # the file changed between the two parts; the part is gone now
            _fetch_one(file, folder, progress)
            return
        raise DataCorrupt(
            f"{file.url}: expected {file.checksum} ({file.num_bytes} bytes), the server sent "
            "something else; it was thrown away. Fetch the file by other means, or try later"
        ) from error


class _Download:
    """Download one file into a .part file, going on from what is there (pooch's downloader)."""

    def __init__(self, part: Path, progress: Progress) -> None:
        self.part = part
        self.progress = progress

    def __call__(self, url: str, output: str, _pooch: object) -> None:
        start = self.part.stat().st_size if self.part.is_file() else 0
        # identity: a server must not compress what already is
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
        timeout = (CONNECT_TIMEOUT_SECONDS, READ_TIMEOUT_SECONDS)
        with requests.get(url, stream=True, headers=headers, timeout=timeout) as answer:
            if answer.status_code == requests.codes.requested_range_not_satisfiable:
                # the part is complete already, or too long: the checksum decides
                self.part.replace(output)
                return
            answer.raise_for_status()
            if answer.status_code != requests.codes.partial_content:
                start = 0
            total = start + int(answer.headers.get("Content-Length", 0))
            done = start
            with self.part.open("ab" if start else "wb") as file:
                for block in answer.iter_content(_BLOCK_BYTES):
                    file.write(block)
                    done += len(block)
                    self.progress(f"download {self.part.stem}", done, total)
        self.part.replace(output)


@contextmanager
def _bar(file: RemoteFile) -> Iterator[Progress]:
    """Show where a file comes from, and a bar, or now and then a line, with the time left."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TimeRemainingColumn
    from rich.progress import Progress as Live

    print(f"downloading {file.url} ({file.num_bytes / 1e6:.1f} MB)", file=sys.stderr)
    console = Console(stderr=True)
    if not has_live(console):
        with Bars(console) as bars:
            yield lambda phase, done, total: bars(phase, done // 10**6, total // 10**6, "MB")
        return
    columns = (BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Live(*columns, console=console, transient=True) as bar:
        task = bar.add_task(file.name, total=file.num_bytes)
        yield lambda phase, done, total: bar.update(task, completed=done)
