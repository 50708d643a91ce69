"""Sums of stored files: what is noticed, what is set aside, what is swept, what a failure says."""

import errno
import json
import os
import subprocess
import sys

import pytest

from nsdbench import files, sums
from nsdbench.errors import DataCorrupt

CONTENT = b"0123456789" * 20


def write(path, content=CONTENT):
    files.write_atomically(path, sums.sealed(path, lambda file: file.write(content)))


def read(path, old=b"PK"):
    with sums.open_sealed(path, "a thing", old=old) as file:
        return file.read()


def test_a_sealed_file_gives_back_what_was_written(tmp_path):
    for content in (CONTENT, b"", b"\n" * 100):
        write(tmp_path / "a", content)
        assert read(tmp_path / "a") == content
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_every_damaged_byte_of_a_sealed_file_is_noticed(tmp_path):
    path = tmp_path / "a"
    write(path)
    whole = path.read_bytes()
    for place in range(len(whole)):
        for damaged in (
            whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :],
            whole[:place],
            whole[:place] + b"x" + whole[place:],
            whole[:place] + whole[place + 1 :],
        ):
            if damaged == whole:
                continue
            path.write_bytes(damaged)
            with pytest.raises(DataCorrupt, match="/a "):
                read(path)


def test_a_sealed_file_in_the_place_of_another_is_damaged(tmp_path):
    write(tmp_path / "a")
    os.replace(tmp_path / "a", tmp_path / "b")
    with pytest.raises(DataCorrupt, match="b is damaged: its content has changed"):
        read(tmp_path / "b")


def test_files_of_an_older_version_are_read_with_one_notice(tmp_path, caplog):
    sums.notice_without_sum.cache_clear()
    path = tmp_path / "a"
    path.write_bytes(b"PK" + CONTENT)
    for _ in range(3):
        assert read(path) == b"PK" + CONTENT
    assert caplog.messages == [
        "a thing of an older version has no sum of its content: damage to it would not be seen"
    ]


def test_summed_json(tmp_path):
    path, content = tmp_path / "a.json", {"a": [1, 2.5, None], "b": {"c": "ü"}}
    sums.write_summed_json(path, content)
    assert sums.read_summed_json(path, "a thing") == content
    path.write_text(json.dumps(json.loads(path.read_text()), indent=5))
    assert sums.read_summed_json(path, "a thing") == content, "layout is no content"
    text = path.read_text()
    for damaged in (text.replace("2.5", "2.6"), text.replace('"c"', '"d"'), "[" * 10**5, "5", ""):
        path.write_text(damaged)
        with pytest.raises(DataCorrupt, match="a.json is damaged: "):
            sums.read_summed_json(path, "a thing")


def test_a_damaged_file_is_set_aside_with_a_notice(tmp_path, caplog):
    path = tmp_path / "a.pt"
    for content in ("1", "2"):
        path.write_text(content)
        sums.set_aside(path, f"{path} is damaged")
        assert not path.exists() and (tmp_path / "a.pt.damaged").read_text() == content
    assert caplog.messages[0] == f"{path} is damaged; it is set aside as a.pt.damaged and made anew"


def test_notices_of_a_command_are_warnings_on_stderr():
    code = "from nsdbench import sums; sums.show_notices(); sums.notice('100 %s [b] done')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "warning: 100 %s [b] done\n")


def test_only_partial_files_of_dead_processes_of_this_machine_are_swept(tmp_path):
    child = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"],
                           capture_output=True, text=True, check=True)  # fmt: skip
    machine = files._machine()
    gone = tmp_path / f".{child.stdout.strip()}@{machine}.a.json"
    kept = [
        tmp_path / f".{os.getpid()}@{machine}.a.json",
        tmp_path / f".{child.stdout.strip()}@00000000.a.json",
        tmp_path / f".{10**30}@{machine}.a.json",
        tmp_path / ".me@home",
        tmp_path / "a.json",
    ]
    for path in (gone, *kept):
        path.touch()
    files.sweep([tmp_path, tmp_path / "nothing", tmp_path / "a.json"])
    assert set(tmp_path.iterdir()) == set(kept)


@pytest.mark.parametrize(
    ("code", "cause", "remedy"),
    [
        (errno.ENOSPC, "No space left on device", "make room there"),
        (errno.EDQUOT, "Disk quota exceeded", "your quota is used up"),
        (errno.EROFS, "Read-only file system", "a disk that can be written"),
        (errno.EACCES, "Permission denied", "that you may write to"),
        (errno.EIO, "Input/output error", "check the folder"),
    ],
)
def test_what_cannot_be_written_names_file_cause_and_remedy(tmp_path, code, cause, remedy):
    path = tmp_path / "a.pt"
    path.write_text("before")

    def fail(partial):
        partial.write_text("half")
        raise OSError(code, os.strerror(code))

    with pytest.raises(OSError) as raised:
        files.write_atomically(path, fail)
    text = str(raised.value)
    assert text.startswith(f"{path} cannot be written: {cause}; ") and remedy in text
    assert "\n" not in text and isinstance(raised.value, type(OSError(code, "")))
    assert path.read_text() == "before" and list(tmp_path.iterdir()) == [path]
