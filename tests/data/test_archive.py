"""Unpacking: whole or not at all, regular files only, never outside the folder."""

import contextlib
import io
import tarfile
import zipfile

import pytest

from nsdbench import data
from nsdbench.data.fetching import archive
from nsdbench.errors import DataCorrupt

from . import published


def tar(path, members: dict[str, bytes]):
    with tarfile.open(path, "w:gz") as packed:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            packed.addfile(member, io.BytesIO(content))
    return path


def zipped(path, members: dict[str, bytes]):
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr(zipfile.ZipInfo("top/"), b"")
        for name, content in members.items():
            packed.writestr(name, content)
    return path


MEMBERS = {"top/a": b"1", "top/deep/b": b"22", "c": b"333"}
WRITERS = {"data.tar.gz": tar, "data.zip": zipped}


def contents(folder):
    files = (p for p in folder.rglob("*") if p.is_file() and p.name != ".lock")
    return {str(p.relative_to(folder)): p.read_bytes() for p in files}


@pytest.mark.parametrize("name", WRITERS)
def test_unpacks_everything(tmp_path, name):
    packed = WRITERS[name](tmp_path / name, MEMBERS)
    archive.unpack(packed, tmp_path / "out")
    assert contents(tmp_path / "out") == MEMBERS


@pytest.mark.parametrize("name", WRITERS)
def test_unpacking_again_replaces(tmp_path, name):
    packed = WRITERS[name](tmp_path / name, MEMBERS)
    (tmp_path / "out" / "top").mkdir(parents=True)
    (tmp_path / "out" / "top" / "left over").write_text("x")
    archive.unpack(packed, tmp_path / "out")
    assert contents(tmp_path / "out") == MEMBERS


@pytest.mark.parametrize("lost", [1, 12, 60])  # of gzip's 8 bytes of checksum and length, and more
@pytest.mark.parametrize("name", WRITERS)
def test_truncated_archive_leaves_nothing(tmp_path, name, lost):
    big = {"top/a": bytes(range(256)) * 999, "top/b": b"end"}
    packed = WRITERS[name](tmp_path / name, big)
    packed.write_bytes(packed.read_bytes()[:-lost])
    with pytest.raises(DataCorrupt, match=rf"{name}: expected a complete archive"):
        archive.unpack(packed, tmp_path / "out")
    assert contents(tmp_path / "out") == {}


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("member", ["../outside", "top/../../outside", "/tmp/outside"])
def test_members_outside_the_folder_are_refused(tmp_path, name, member):
    packed = WRITERS[name](tmp_path / name, {"a": b"1", member: b"2"})
    with pytest.raises(DataCorrupt, match="would land outside"):
        archive.unpack(packed, tmp_path / "deep" / "out")
    assert contents(tmp_path / "deep") == {}


def test_links_are_not_taken(tmp_path):
    with tarfile.open(tmp_path / "data.tar.gz", "w:gz") as packed:
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc"
        packed.addfile(link)
    archive.unpack(tmp_path / "data.tar.gz", tmp_path / "out")
    assert not (tmp_path / "out" / "link").is_symlink()


def test_what_a_killed_run_left_is_removed(tmp_path):
    left = tmp_path / "out" / ".unpacking-abc"
    left.mkdir(parents=True)
    (left / "half").write_text("x")
    archive.unpack(tar(tmp_path / "data.tar.gz", MEMBERS), tmp_path / "out")
    assert contents(tmp_path / "out") == MEMBERS


@pytest.mark.parametrize("name", WRITERS)
def test_content_out_of_all_proportion_is_refused(tmp_path, monkeypatch, name):
    monkeypatch.setattr(archive, "_SMALL_BYTES", 1000)
    with zipfile.ZipFile(tmp_path / "data.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("top/a", b"")
        packed.writestr("top/b", bytes(1_000_000))
    tar(tmp_path / "data.tar.gz", {"top/a": b"", "top/b": bytes(1_000_000)})
    with pytest.raises(DataCorrupt, match=rf"{name}: its content is more than 20 times as large"):
        archive.unpack(tmp_path / name, tmp_path / "out")
    assert contents(tmp_path / "out") == {}


@pytest.mark.parametrize("name", WRITERS)
def test_too_many_files_are_refused(tmp_path, monkeypatch, name):
    monkeypatch.setattr(archive, "_MOST_FILES", 3)
    archive.unpack(WRITERS[name](tmp_path / name, MEMBERS), tmp_path / "out")
    packed = WRITERS[name](tmp_path / name, {**MEMBERS, "d": b""})
    with pytest.raises(DataCorrupt, match="more than 3 files"):
        archive.unpack(packed, tmp_path / "other")


def test_an_encrypted_zip_is_refused(tmp_path):
    packed = zipped(tmp_path / "data.zip", {"a": b"1"})
    raw = bytearray(packed.read_bytes())
    for head, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # of every member
        start = raw.find(head)
        while start >= 0:
            raw[start + flags] |= 1
            start = raw.find(head, start + 1)
    packed.write_bytes(raw)
    with pytest.raises(DataCorrupt, match=r"data\.zip: .*encrypted"):
        archive.unpack(packed, tmp_path / "out")


@pytest.mark.parametrize("name", WRITERS)
def test_damage_anywhere_is_one_message(tmp_path, name):
    packed = WRITERS[name](tmp_path / name, MEMBERS)
    whole = packed.read_bytes()
    for place in range(0, len(whole), 7):
        packed.write_bytes(whole[:place] + bytes([whole[place] ^ 0x41]) + whole[place + 1 :])
        with contextlib.suppress(DataCorrupt):
            archive.unpack(packed, tmp_path / "out")


@pytest.fixture
def small(monkeypatch):
    packed = published.archive()
    remote = published.remote("https://data.invalid/small.tar.gz", packed)
    published.install(monkeypatch, downloads=(remote,))
    return packed


@pytest.mark.parametrize("place", ["small.tar.gz", "Small/small.tar.gz"])
def test_load_takes_the_archive_a_user_put_in_the_root(tmp_path, cache, small, place):
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / place).write_bytes(small)
    assert data.locate("Small", tmp_path) == tmp_path / place
    assert len(data.load("Small", tmp_path).train) == 12
    assert data.locate("Small", tmp_path) == cache / "datasets" / "Small" / "small-raw"


def test_archive_that_is_not_the_published_one(tmp_path, small):
    (tmp_path / "small.tar.gz").write_bytes(small[:-1])
    with pytest.raises(DataCorrupt, match=r"small\.tar\.gz: expected md5:.*, got something else"):
        data.load("Small", tmp_path)
