"""The cache: where it is, and what happens where it cannot be."""

import logging
from pathlib import Path

import pytest
import safetensors.torch
from PIL import Image
from safetensors import SafetensorError

from nsdbench import data
from nsdbench.data.fetching import cache as caching
from nsdbench.data.formats.decode import decode_all
from nsdbench.data.preprocess import fitting
from nsdbench.experts import default_root


@pytest.fixture
def no_home(monkeypatch):
    """Be a user that the system does not know, without variables that name a folder."""
    for variable in ("HOME", "NSDBENCH_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("pwd.getpwuid", {}.__getitem__)


@pytest.mark.parametrize(
    ("variables", "folder"),
    [
        ({"NSDBENCH_CACHE": "/c", "XDG_CACHE_HOME": "/x", "HOME": "/h"}, "/c"),
        ({"XDG_CACHE_HOME": "/x", "HOME": "/h"}, "/x/nsdbench"),
        ({"HOME": "/h"}, "/h/.cache/nsdbench"),
        ({"HOME": "/"}, "/.cache/nsdbench"),
        ({"HOME": "/h", "NSDBENCH_CACHE": "~/c"}, "/h/c"),
        ({"NSDBENCH_CACHE": "", "XDG_CACHE_HOME": "", "HOME": "/h"}, "/h/.cache/nsdbench"),
        ({"NSDBENCH_CACHE": "/c"}, "/c"),
        ({"XDG_CACHE_HOME": "/x"}, "/x/nsdbench"),
    ],
)
def test_where_the_cache_is(no_home, monkeypatch, variables, folder):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert data.cache_dir() == Path(folder) == caching.find_cache_dir()


def test_without_a_home_the_variable_is_named(no_home):
    assert caching.find_cache_dir() is None
    for ask in (data.cache_dir, default_root):
        with pytest.raises(ValueError, match="no home folder .* set NSDBENCH_CACHE to a folder"):
            ask()


def test_without_a_home_data_is_looked_for_elsewhere(no_home, tmp_path):
    assert data.locate("CIFAR10", tmp_path) is None
    assert data.locate("Digits16") is not None
    assert "nowhere: set NSDBENCH_CACHE" in data.how_to_get("CIFAR10", tmp_path)


def test_a_home_in_a_variable_that_nobody_knows_is_said(no_home, monkeypatch):
    monkeypatch.setenv("NSDBENCH_CACHE", "~/cache")
    with pytest.raises(ValueError, match="~/cache: .*; write the whole path"):
        data.cache_dir()


def pictures(folder: Path) -> list[Path]:
    files = [folder / f"{i}.png" for i in range(3)]
    for i, file in enumerate(files):
        Image.new("L", (4, 4), i).save(file)
    return files


def blocked(cache, monkeypatch):
    cache.write_text("a file where the folder should be")


def full(cache, monkeypatch):
    def save_file(*_, **__):
        raise SafetensorError("Error while serializing: I/O error: No space left on device")

    monkeypatch.setattr(safetensors.torch, "save_file", save_file)


def without_home(cache, monkeypatch):
    monkeypatch.setattr(fitting, "find_cache_dir", lambda: None)
    monkeypatch.setattr("nsdbench.data.formats.decode.find_cache_dir", lambda: None)


@pytest.mark.parametrize("fault", [blocked, full, without_home])
@pytest.mark.parametrize("what", ["pictures", "whitening"])
def test_a_cache_that_cannot_be_written_is_a_warning(
    cache, monkeypatch, caplog, tmp_path, what, fault
):
    fault(cache, monkeypatch)
    with caplog.at_level(logging.WARNING):
        if what == "pictures":
            images = decode_all(pictures(tmp_path), (1, 4, 4), is_resized=False)
            assert images[:, 0, 0, 0].tolist() == [0, 1, 2]
        else:
            kind = data.preprocessing("zca", data.load("synthetic:2x1x4x4@9+1"))
            assert kind.matrix.shape == (16, 16)
    assert len(caplog.messages) == 1
    assert "not kept for the next time" in caplog.text and "set NSDBENCH_CACHE" in caplog.text
    if cache.is_dir():
        assert [file for file in cache.rglob("*") if file.is_file()] == []


def test_a_folder_of_the_cache_that_cannot_be_made_names_the_variable(tmp_path):
    assert caching.make_folder(tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"file/b cannot be made \(Not a directory\); set NSDBENCH_C"):
        caching.make_folder(tmp_path / "file" / "b")


def test_a_folder_of_the_cache_that_cannot_be_written_names_the_variable(tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(OSError, match="cannot be written; set NSDBENCH_CACHE"):
        caching.make_folder(tmp_path)
