"""A folder of pictures, one subfolder a class."""

import numpy as np
import pytest
import torch
from PIL import Image

from nsdbench.errors import DataCorrupt


@pytest.fixture(autouse=True)
def no_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("NSDBENCH_CACHE", str(tmp_path / "cache"))


def draw(folder, names, side=8):
    pixels = np.random.default_rng(0).integers(0, 256, (len(names), side, side, 3), dtype=np.uint8)
    for picture, name in zip(pixels, names, strict=True):
        path = folder / "set" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path)
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)


def test_reads_class_folders(read, tmp_path):
    names = ["0/a.png", "0/b.png", "2/a.png", "3/a.bmp"]
    pixels = draw(tmp_path, names)
    reading = read("set")
    (one,) = reading.sets
    assert reading.taken_for == "a folder of 4 pictures"
    assert torch.equal(one.images, pixels) and one.labels.tolist() == [0, 0, 2, 3]
    assert one.meaning.pixels == "raw"
    assert one.ledger().stored_bits == 8 * pixels.numel()


def test_what_is_wrong_is_one_line(read, tmp_path):
    (tmp_path / "set").mkdir()
    for names, message in (
        ([], r"holds folders \(none\); expected some of those of the classes of synthetic"),
        (["0/a.png", "cat/a.png"], "holds folders 0, cat; expected some"),
    ):
        draw(tmp_path, names)
        with pytest.raises(DataCorrupt, match=message):
            read("set")
    (tmp_path / "set" / "cat" / "a.png").unlink()
    (tmp_path / "set" / "cat").rename(tmp_path / "set" / "1")
    with pytest.raises(DataCorrupt, match="1: expected pictures"):
        read("set")
    draw(tmp_path, ["1/large.png"], side=9)
    with pytest.raises(DataCorrupt, match="large.png: expected 8 x 8 pixels, got 9 x 9"):
        read("set")
