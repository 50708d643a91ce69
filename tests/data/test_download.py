"""Downloads from a server on this machine: whole, broken off, resumed, altered, impossible."""

import socket
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from nsdbench import data
from nsdbench.data.fetching import download
from nsdbench.errors import DataCorrupt, DataMissing

from . import published

CONTENT = bytes(range(256)) * 4000  # about 1 MB: several blocks


@pytest.fixture(autouse=True)
def network(monkeypatch):
    monkeypatch.setenv("NSDBENCH_OFFLINE", "0")
    for name in ("http_proxy", "https_proxy", "all_proxy"):  # of whoever runs the tests
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def server():
    with published.serve() as running:
        running.contents["file.bin"] = CONTENT
        yield running


def fetch(server, folder, content=CONTENT, progress=lambda *_: None):
    files = (published.remote(f"{server.url}/file.bin", content),)
    download.fetch(files, folder, progress)
    return folder / "file.bin"


def visible(folder):
    """Names without the lock."""
    return sorted(p.name for p in folder.iterdir() if p.name != ".lock")


def test_fetches_and_reports_progress(server, tmp_path):
    steps = []
    file = fetch(server, tmp_path, progress=lambda *step: steps.append(step))
    assert file.read_bytes() == CONTENT
    assert visible(tmp_path) == ["file.bin"]
    assert steps[-1] == ("download file.bin", len(CONTENT), len(CONTENT))
    done = [step[1] for step in steps]
    assert len(done) > 1 and done == sorted(set(done))


def test_says_what_it_downloads_when_nobody_listens(server, tmp_path, capsys):
    fetch(server, tmp_path, progress=None)
    assert capsys.readouterr().err.splitlines() == [
        f"downloading {server.url}/file.bin (1.0 MB)", "download file.bin 0/1 MB",
    ]  # fmt: skip


def test_shows_a_bar_on_a_terminal(server, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert fetch(server, tmp_path, progress=None).read_bytes() == CONTENT
    assert "/1.0 MB" in capsys.readouterr().err


def test_two_at_once_fetch_once(server, tmp_path):
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda _: fetch(server, tmp_path).read_bytes(), range(2)))
    assert both == [CONTENT, CONTENT]
    assert len(server.asked) == 1


def test_complete_file_is_not_fetched_again(server, tmp_path):
    fetch(server, tmp_path)
    fetch(server, tmp_path)
    assert len(server.asked) == 1


def test_interrupted_download_leaves_nothing_under_the_real_name_and_goes_on(server, tmp_path):
    server.cut["file.bin"] = 700_000
    with pytest.raises(download.Unreachable):
        fetch(server, tmp_path)
    assert visible(tmp_path) == ["file.bin.part"]
    arrived = (tmp_path / "file.bin.part").stat().st_size
    assert 0 < arrived <= 700_000

    server.cut.clear()
    steps = []
    file = fetch(server, tmp_path, progress=lambda *step: steps.append(step))
    assert file.read_bytes() == CONTENT
    assert server.asked[1] == ("file.bin", f"bytes={arrived}-")
    assert steps[0][1] > arrived and steps[-1][1:] == (len(CONTENT), len(CONTENT))
    assert visible(tmp_path) == ["file.bin"]


def test_server_without_ranges_starts_again(server, tmp_path):
    server.has_ranges = False
    (tmp_path / "file.bin.part").write_bytes(CONTENT[:5000])
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert len(server.asked) == 1


def test_part_that_is_already_complete(server, tmp_path):
    (tmp_path / "file.bin.part").write_bytes(CONTENT)
    assert fetch(server, tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("left", [b"x" * 5000, b"x" * (len(CONTENT) + 7)])
def test_part_of_another_file_is_thrown_away(server, tmp_path, left):
    (tmp_path / "file.bin.part").write_bytes(left)
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert visible(tmp_path) == ["file.bin"]


def test_wrong_checksum_leaves_nothing(server, tmp_path):
    server.contents["file.bin"] = CONTENT[:-1] + b"\x00"
    with pytest.raises(DataCorrupt, match=r"file\.bin: expected md5:.* something else"):
        fetch(server, tmp_path)
    assert visible(tmp_path) == []


def test_damaged_file_in_the_cache_is_fetched_again(server, tmp_path):
    (tmp_path / "file.bin").write_bytes(CONTENT[:100])
    assert fetch(server, tmp_path).read_bytes() == CONTENT


def test_http_error_is_unreachable(server, tmp_path):
    server.contents.clear()
    with pytest.raises(download.Unreachable, match="404"):
        fetch(server, tmp_path)
    assert visible(tmp_path) == []


def test_files_that_came_through_are_kept(server, tmp_path):
    server.contents["second.bin"] = b"short"
    files = (
        published.remote(f"{server.url}/file.bin", CONTENT),
        published.remote(f"{server.url}/second.bin", b"short"),
        published.remote(f"{server.url}/third.bin", b"absent"),
    )
    with pytest.raises(download.Unreachable):
        download.fetch(files, tmp_path, lambda *_: None)
    assert visible(tmp_path) == ["file.bin", "second.bin"]
    server.contents["third.bin"] = b"absent"
    download.fetch(files, tmp_path, lambda *_: None)
    assert [path for path, _ in server.asked].count("file.bin") == 1
    assert visible(tmp_path) == ["file.bin", "second.bin", "third.bin"]


def install(monkeypatch, server):
    contents = published.files()
    server.contents.update(contents)
    remote = tuple(published.remote(f"{server.url}/{n}", c) for n, c in contents.items())
    published.install(monkeypatch, downloads=remote)


def test_load_downloads_into_the_cache(server, cache, monkeypatch):
    install(monkeypatch, server)
    assert data.locate("Small") is None
    dataset = data.load("Small", progress=lambda *_: None)
    assert dataset.train.labels.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]
    assert len(dataset.test) == 5
    assert data.locate("Small") == cache / "datasets" / "Small"
    asked = len(server.asked)
    assert data.load("Small").checksum == dataset.checksum
    assert len(server.asked) == asked == 4


def test_load_downloads_and_unpacks_an_archive(server, cache, monkeypatch):
    server.contents["small.tar.gz"] = packed = published.archive()
    remote = published.remote(f"{server.url}/small.tar.gz", packed)
    published.install(monkeypatch, downloads=(remote,))
    dataset = data.load("Small", progress=lambda *_: None)
    assert len(dataset.train) == 12 and len(dataset.test) == 5
    assert data.locate("Small") == cache / "datasets" / "Small" / "small-raw"


def test_offline_asks_nobody(server, monkeypatch):
    install(monkeypatch, server)
    monkeypatch.setenv("NSDBENCH_OFFLINE", "1")
    with pytest.raises(DataMissing, match="forbidden by NSDBENCH_OFFLINE"):
        data.load("Small")
    assert server.asked == []


def test_broken_download_is_missing_data_with_the_reason(server, monkeypatch):
    install(monkeypatch, server)
    server.contents.pop("t10k-labels-idx1-ubyte.gz")
    with pytest.raises(DataMissing, match=r"Any one of these(.|\n)*failed: HTTPError: 404"):
        data.load("Small", progress=lambda *_: None)


def test_dead_host_is_missing_data_within_seconds(monkeypatch):
    """It is asked once, and given so many seconds to answer."""
    asked, get = [], requests.get
    monkeypatch.setattr(requests, "get", lambda *a, **how: asked.append(how) or get(*a, **how))
    with socket.socket() as unused:  # bound but not listening: connections are refused
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/small.tar.gz"
        published.install(monkeypatch, downloads=(published.remote(url, b"x"),))
        with pytest.raises(DataMissing, match="failed: NewConnectionError"):
            data.load("Small", progress=lambda *_: None)
    limits = (download.CONNECT_TIMEOUT_SECONDS, download.READ_TIMEOUT_SECONDS)
    assert [how["timeout"] for how in asked] == [limits] and limits[0] < 10


def test_unknown_host_is_missing_data(monkeypatch):
    def resolve(*_, **__):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    remote = published.remote("http://data.invalid/small.tar.gz", b"x")
    published.install(monkeypatch, downloads=(remote,))
    with pytest.raises(DataMissing, match="failed: NameResolutionError: .*data.invalid"):
        data.load("Small", progress=lambda *_: None)


def test_read_only_cache_is_missing_data(server, cache, monkeypatch):
    install(monkeypatch, server)
    cache.write_text("a file where the folder should be")
    with pytest.raises(DataMissing, match=r"failed: OSError: .* made .* set NSDBENCH_CACHE"):
        data.load("Small", progress=lambda *_: None)
