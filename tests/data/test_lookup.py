"""Where data is looked for, in which order, and the message when it is nowhere."""

import re
from pathlib import Path

import pytest

from nsdbench import data
from nsdbench.errors import DataMissing

from . import published

REMOTE = published.remote("https://data.invalid/files/small.tar.gz", b"x" * 3_000_000)


def test_order_root_environment_cache_system(tmp_path, cache, monkeypatch):
    places = [
        tmp_path / "root" / "Small",
        tmp_path / "environment" / "Small",
        cache / "datasets" / "Small",
        tmp_path / "system",
    ]
    published.install(monkeypatch, system_folders=(places[3],), downloads=(REMOTE,))
    monkeypatch.setenv("NSDBENCH_DATA", str(tmp_path / "environment"))
    found = []
    for place in reversed(places):
        assert data.locate("Small", tmp_path / "root") == (found[-1] if found else None)
        published.write(place)
        found.append(place)
        assert data.locate("Small", tmp_path / "root") == place
        assert len(data.load("Small", tmp_path / "root").train) == 12


@pytest.mark.parametrize("folder", ["Small", "Small/small-raw", "."])
def test_folders_below_the_root(tmp_path, monkeypatch, folder):
    published.install(monkeypatch)
    published.write(tmp_path / folder)
    assert data.locate("Small", tmp_path) == tmp_path / folder
    assert data.locate("Small", str(tmp_path)) == tmp_path / folder
    assert data.locate("Small") is None


def test_incomplete_folder_is_passed_over_and_named(tmp_path, monkeypatch):
    published.install(monkeypatch)
    published.write(tmp_path / "Small")
    (tmp_path / "Small" / "t10k-labels-idx1-ubyte.gz").unlink()
    assert data.locate("Small", tmp_path) is None
    with pytest.raises(DataMissing) as error:
        data.load("Small", tmp_path)
    assert f"Incomplete: {tmp_path / 'Small'} lacks t10k-labels-idx1-ubyte.gz" in str(error.value)
    monkeypatch.setenv("NSDBENCH_DATA", str(tmp_path / "other"))
    published.write(tmp_path / "other")
    assert data.locate("Small", tmp_path) == tmp_path / "other"


def test_message_names_every_way(tmp_path, cache, monkeypatch):
    published.install(monkeypatch, system_folders=(Path("/usr/share/x"),), downloads=(REMOTE,))
    monkeypatch.setenv("NSDBENCH_DATA", str(tmp_path / "environment"))
    with pytest.raises(DataMissing) as error:
        data.load("Small", tmp_path / "root")
    lines = str(error.value).split("\n")
    assert lines == [
        "Small is not on this machine. Any one of these provides it:",
        "  1. --data-root DIR (in Python: root=DIR): DIR/Small with four idx files"
        f" [looked in {tmp_path / 'root'}]",
        "  2. the environment variable NSDBENCH_DATA=DIR: likewise"
        f" [looked in {tmp_path / 'environment'}]",
        f"  3. the cache: the same files in {cache / 'datasets' / 'Small'}",
        "  4. a system folder: /usr/share/x",
        "  5. download (3 MB): small.tar.gz from https://data.invalid/files/"
        " [forbidden by NSDBENCH_OFFLINE]",
        "  Note: a note for the user",
    ]


@pytest.mark.parametrize(
    "name", ["CIFAR10", "CIFAR100", "TinyImageNet", "ImageNette", "ImageYellow"]
)
def test_missing_published_datasets_say_so(tmp_path, name):
    with pytest.raises(DataMissing) as error:
        data.load(name, root=tmp_path)
    message = str(error.value)
    assert [n for n in "12345" if f"\n  {n}. " in message] == list("12345")
    assert message.startswith(f"{name} is not on this machine")
    assert "NSDBENCH_DATA" in message and str(tmp_path) in message
    is_offered = data.spec(name).is_downloadable
    assert ("not offered" in message) != is_offered
    assert ("image-net.org" in message) == name.startswith("Image")
    assert data.how_to_get(name, tmp_path, "forbidden by NSDBENCH_OFFLINE") == message


def test_fashion_mnist_message_names_the_debian_package():
    message = data.how_to_get("FashionMNIST")
    assert "/usr/share/datasets/fashion-mnist" in message and "dataset-fashion-mnist" in message


@pytest.mark.parametrize("name", ["Digits", "Digits64", "synthetic:2x1x8x8"])
def test_bundled_data_is_always_there(name):
    assert data.locate(name).is_file()
    assert "needs no files" in data.how_to_get(name)


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"NSDBENCH_CACHE": "/a/b"}, "/a/b"),
        ({"NSDBENCH_CACHE": "", "XDG_CACHE_HOME": "/c"}, "/c/nsdbench"),
        ({"NSDBENCH_CACHE": "", "XDG_CACHE_HOME": "", "HOME": "/h"}, "/h/.cache/nsdbench"),
        ({"NSDBENCH_CACHE": "~/x", "HOME": "/h"}, "/h/x"),
    ],
)
def test_cache_dir(monkeypatch, variables, expected):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert data.cache_dir() == Path(expected)
    assert not Path("/a/b").exists()


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match=re.escape("got 'EMNIST'")) as error:
        data.load("EMNIST")
    assert all(name in str(error.value) for name in data.names())
