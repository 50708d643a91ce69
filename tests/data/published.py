"""A small published dataset in the FashionMNIST format, and a local server that has it."""

import contextlib
import gzip
import hashlib
import io
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from nsdbench import data
from nsdbench.data import catalog
from nsdbench.data.description import RemoteFile, Source
from nsdbench.data.readers.idx import FILES, read

from .test_idx import idx

SPEC = replace(
    data.spec("FashionMNIST"), name="Small", image_shape=(1, 3, 2), train_size=12, test_size=5
)


def files() -> dict[str, bytes]:
    """The four files; train labels are 0, 1, ..., 9, 0, 1."""
    random = np.random.default_rng(0)
    contents = {}
    for part, count in (("train", 12), ("test", 5)):
        images, labels = FILES[part]
        contents[f"{images}.gz"] = idx(random.integers(0, 256, (count, 3, 2), dtype=np.uint8))
        contents[f"{labels}.gz"] = idx(np.arange(count, dtype=np.uint8) % 10)
    return {name: gzip.compress(content, mtime=0) for name, content in contents.items()}


def write(folder: Path, contents: dict[str, bytes] | None = None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in (contents or files()).items():
        (folder / name).write_bytes(content)


def archive(top: str = "small-raw") -> bytes:
    """The four files in a .tar.gz below one folder."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, content in files().items():
            member = tarfile.TarInfo(f"{top}/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def remote(url: str, content: bytes) -> RemoteFile:
    return RemoteFile(url, f"md5:{hashlib.md5(content).hexdigest()}", len(content))


def install(monkeypatch: pytest.MonkeyPatch, **changes: object) -> None:
    """Make the dataset known as `Small`, for one test."""
    entry = Source(
        partial(read, checksums={}),
        layout="four idx files",
        folders=("Small", "Small/small-raw", "."),
        markers=(tuple(files()),),
        note="a note for the user",
    )
    monkeypatch.setitem(catalog.DATASETS, "Small", (SPEC, replace(entry, **changes)))


@dataclass
class Server:
    """What the server has, how it misbehaves, and what it was asked.

    Attributes:
        contents: by path without the leading slash.
        cut: bytes after which a connection is dropped, by path.
        has_ranges: whether it serves parts.
        asked: (path, Range header or None) of every request.
    """

    url: str
    contents: dict[str, bytes] = field(default_factory=dict)
    cut: dict[str, int] = field(default_factory=dict)
    has_ranges: bool = True
    asked: list[tuple[str, str | None]] = field(default_factory=list)


@contextlib.contextmanager
def serve() -> Iterator[Server]:
    """Serve on 127.0.0.1 until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.lstrip("/")
            part = self.headers.get("Range")
            server.asked.append((path, part))
            content = server.contents.get(path)
            if content is None:
                self.send_error(404)
                return
            start = int(part.removeprefix("bytes=").rstrip("-")) if part else 0
            if part and server.has_ranges and start >= len(content):
                self.send_error(416)
                return
            if part and server.has_ranges:
                self.send_response(206)
                self.send_header(
                    "Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}"
                )
                content = content[start:]
            else:
                self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: server.cut.get(path, len(content))])

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        server = Server(f"http://127.0.0.1:{http.server_port}")
        thread = threading.Thread(target=http.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            http.shutdown()
            thread.join()
