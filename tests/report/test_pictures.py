"""Drawings of distilled images: what they show, and what becomes of damaged files."""

import io
import re
from zipfile import ZipFile

import numpy as np
import pytest

from nsdbench.bench import tables
from nsdbench.report.pictures import draw_images, draw_small, what_is_drawn
from nsdbench.report.writers import write
from tests.report.records import entry_of, record_of


def test_pictures_are_drawn_and_linked(tmp_path):
    entry = entry_of("table6", "smoke", "MTT", ipc=1)
    record = record_of(entry, [50.0])
    stem = record.pictures_name
    (tmp_path / "in").mkdir()
    images = np.zeros((3, 3, 8, 8), dtype=np.uint8)
    np.savez_compressed(tmp_path / "in" / f"{stem}.npz", images=images, labels=np.array([0, 1, 1]))
    out = tmp_path / "out"
    text = write(["table6"], "smoke", [record], "markdown", tmp_path / "in", out)
    assert f"]({out}/{stem}.png)" in text
    png = (out / f"{stem}.png").read_bytes()
    assert png.startswith(b"\x89PNG")
    write(["table6"], "smoke", [record], "markdown", tmp_path / "in", out)
    assert (out / f"{stem}.png").read_bytes() == png


def test_a_set_that_several_networks_judge_is_drawn_once(tmp_path):
    cells = [entry for entry in tables.load("table4").entries("smoke") if entry.row.label == "MTT"]
    records = [record_of(entry, [50.0]) for entry in cells]
    records.append(record_of(cells[0], [50.0], recipe_hash="0" * 64))  # of an older recipe
    assert len(records) > 3 and len({record.pictures_name for record in records}) == 2
    images = np.zeros((1, 1, 8, 8), dtype=np.uint8)
    for record in records:
        np.savez(tmp_path / f"{record.pictures_name}.npz", images=images, labels=np.array([0]))
    for records_shown, count in ((records[:-1], 1), (records[1:], 2)):
        text = write(["table4"], "smoke", records_shown, "markdown", tmp_path, tmp_path / "out")
        shown = re.findall(r"!\[(.*?)\]\((.*?)\)", text)
        assert len({path for _, path in shown}) == len(shown) == count
        assert {caption.partition(":")[0] for caption, _ in shown} == {"MTT, Digits32, ipc 10"}


def test_a_damaged_picture_is_a_note_and_the_report_stays(tmp_path):
    record = record_of(entry_of("table6", "smoke", "MTT", ipc=1), [50.0])
    source = tmp_path / f"{record.pictures_name}.npz"
    source.write_bytes(b"PK")
    text = write(["table6"], "smoke", [record], "markdown", tmp_path, tmp_path / "out")
    assert "50.0" in text and f"No picture of {source.stem}: {source} does not" in text
    assert not list((tmp_path / "out").iterdir())


def test_a_drawing_has_a_column_a_class(tmp_path):
    from PIL import Image

    images = np.arange(3, dtype=np.uint8)[:, None, None, None] * np.full((1, 3, 32, 32), 50, "u1")
    np.savez(tmp_path / "x.npz", images=images, labels=np.array([7, 2, 7]))
    pixels = np.array(Image.open(io.BytesIO(draw_images(tmp_path / "x.npz"))))
    assert pixels.shape == (2 * 67, 2 * 67, 3), "two images, three gaps, enlarged by 2"
    middles = pixels[[33, 99]][:, [33, 99], 0]
    assert middles.tolist() == [[50, 0], [255, 100]], "class 2 is on the left, white where none is"


def test_a_small_drawing_takes_some_of_each_class(tmp_path):
    from PIL import Image

    shades = np.array([200, 30, 110, 60], dtype=np.uint8)
    images = shades[:, None, None, None] * np.ones((1, 3, 32, 32), dtype=np.uint8)
    np.savez(tmp_path / "x.npz", images=images, labels=np.array([1, 1, 1, 2]))
    picture = Image.open(io.BytesIO(draw_small(tmp_path / "x.npz", 2)))
    assert picture.format == "WEBP" and picture.size == (67, 67), "two images, three gaps"
    middles = np.array(picture).astype(int)[[16, 50]][:, [16, 50], 1]
    assert np.abs(middles - [[200, 60], [30, 255]]).max() <= 4, "the first two of class 1"


def test_captions_say_whether_images_are_clipped(tmp_path):
    arrays = {"images": np.zeros((2, 1, 4, 4), dtype=np.uint8), "labels": np.zeros(2, dtype=int)}
    np.savez(tmp_path / "older.npz", **arrays)
    np.savez(tmp_path / "newer.npz", range=np.array([[0.0, 1.0]] * 2), **arrays)
    (tmp_path / "damaged.npz").write_bytes(b"PK")
    said = {name: what_is_drawn(tmp_path / f"{name}.npz") for name in ("older", "newer", "damaged")}
    assert said["older"].endswith("beyond black or white are clipped")
    assert said["newer"].endswith("beyond black or white have their own contrast")
    assert said["damaged"] == said["older"]


def test_a_drawing_shows_the_pixels(tmp_path):
    from PIL import Image

    def share_of_black(value):
        path = tmp_path / f"{value}.npz"
        images = np.full((4, 1, 8, 8), value, dtype=np.uint8)
        np.savez_compressed(path, images=images, labels=np.array([0, 0, 1, 1]))
        picture = Image.open(io.BytesIO(draw_images(path))).convert("L")
        return (np.array(picture) < 10).mean()

    assert share_of_black(0) > 0.25 > 0.05 > share_of_black(255)


@pytest.mark.parametrize(
    "content",
    ["nothing", "cut", "huge", "nameless", "other", "empty", "shape", "count", "words", "table"],
)
def test_files_that_hold_no_pictures_are_named(tmp_path, content):
    path = tmp_path / "cell.npz"
    images, labels = np.zeros((2, 1, 4, 4)), np.zeros(2, dtype=int)
    if content == "nothing":
        path.write_bytes(b"not an archive")
    elif content == "cut":
        np.savez_compressed(path, images=images, labels=labels)
        path.write_bytes(path.read_bytes()[:-30])
    elif content == "huge":  # a header that promises 40 GB
        header = io.BytesIO()
        described = {"descr": "|u1", "fortran_order": False, "shape": (10**7, 1, 64, 64)}
        np.lib.format.write_array_header_1_0(header, described)
        with ZipFile(path, "w") as archive:
            archive.writestr("images.npy", header.getvalue())
            archive.writestr("labels.npy", header.getvalue())
    elif content == "nameless":
        with path.open("wb") as file:
            np.save(file, images)
    elif content == "other":
        with ZipFile(path, "w") as archive:
            archive.writestr("images.npy", b"text")
            archive.writestr("labels.npy", b"text")
    elif content == "words":
        np.savez(path, images=images, labels=np.array(["a", "b"]))
    elif content == "table":
        np.savez(path, images=images, labels=labels[:, None])
    elif content == "empty":
        np.savez(path, images=images[:0], labels=labels[:0])
    elif content == "shape":
        np.savez(path, images=images[0], labels=labels)
    else:
        np.savez(path, images=images, labels=labels[:1])
    with pytest.raises(ValueError, match=re.escape(str(path))):
        draw_images(path)
