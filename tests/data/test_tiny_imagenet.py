"""TinyImageNet: its folder layout, label order, grey pictures, and wrong counts."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nsdbench import data
from nsdbench.data import catalog
from nsdbench.data.readers import tiny_imagenet
from nsdbench.errors import DataCorrupt

SPEC = replace(data.spec("TinyImageNet"), num_classes=3, train_size=6, test_size=5)
WNIDS = ["n02124075", "n01443537", "n04067472"]  # not sorted, as in the published file
LEVEL = {"n01443537": 40, "n02124075": 120, "n04067472": 200}  # one grey level per class


def jpeg(path: Path, level: int, mode: str = "RGB", size: int = 64) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    color = level if mode == "L" else (level, level, level)
    Image.new(mode, (size, size), color).save(path, "JPEG", quality=95)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "tiny-imagenet-200"
    root.mkdir()
    (root / "wnids.txt").write_text("\n".join(WNIDS) + "\n")
    for wnid in WNIDS:
        for i in range(2):
            mode = "L" if i == 0 else "RGB"  # some of the published pictures are grey
            jpeg(root / "train" / wnid / "images" / f"{wnid}_{i}.JPEG", LEVEL[wnid] + i, mode)
        (root / "train" / wnid / f"{wnid}_boxes.txt").write_text(f"{wnid}_0.JPEG\t0\t0\t62\t62\n")
    lines = []
    for i in range(5):
        wnid = WNIDS[i % 3]
        jpeg(root / "val" / "images" / f"val_{i}.JPEG", LEVEL[wnid] + 10 + i)
        lines.append(f"val_{i}.JPEG\t{wnid}\t0\t32\t44\t62\n")
    (root / "val" / "val_annotations.txt").write_text("".join(lines))
    return root


def levels(split) -> list[int]:
    pixels = split.images.flatten(1).numpy()
    assert np.array_equal(pixels, np.repeat(pixels[:, :1], pixels.shape[1], axis=1))
    return pixels[:, 0].tolist()


def test_train_labels_follow_the_sorted_class_ids(folder):
    split = tiny_imagenet.read(folder, SPEC, "train")
    assert split.images.shape == (6, 3, 64, 64)
    assert split.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert levels(split) == [40, 41, 120, 121, 200, 201]


@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_lists_of_any_editor_are_read(folder, start, end):
    for name in ("wnids.txt", "val/val_annotations.txt"):
        text = (folder / name).read_bytes().replace(b"\n", end)
        (folder / name).write_bytes(start + text)
    assert tiny_imagenet.read(folder, SPEC, "test").labels.tolist() == [1, 0, 2, 1, 0]


def test_validation_split_is_the_test_split(folder):
    split = tiny_imagenet.read(folder, SPEC, "test")
    assert split.labels.tolist() == [1, 0, 2, 1, 0]
    assert levels(split) == [130, 51, 212, 133, 54]


def test_loads_by_name_from_a_root(folder, monkeypatch):
    source = catalog.source("TinyImageNet")
    monkeypatch.setitem(catalog.DATASETS, "TinyImageNet", (SPEC, source))
    dataset = data.load("TinyImageNet", root=folder.parent)
    assert len(dataset.train) == 6 and len(dataset.test) == 5


def test_missing_training_image(folder):
    next((folder / "train" / WNIDS[0] / "images").iterdir()).unlink()
    with pytest.raises(DataCorrupt, match=rf"{WNIDS[0]}/images: expected 2 \.JPEG files, got 1"):
        tiny_imagenet.read(folder, SPEC, "train")


def test_truncated_image(folder):
    file = folder / "val" / "images" / "val_3.JPEG"
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(DataCorrupt, match=r"val_3\.JPEG"):
        tiny_imagenet.read(folder, SPEC, "test")


def test_image_of_another_size(folder):
    jpeg(folder / "val" / "images" / "val_3.JPEG", 5, size=63)
    with pytest.raises(DataCorrupt, match=r"val_3\.JPEG: expected 64 x 64 pixels, got 63 x 63"):
        tiny_imagenet.read(folder, SPEC, "test")


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda text: text.rsplit("\n", 2)[0] + "\n", "expected 5 lines, got 4"),
        (lambda text: text.replace(WNIDS[2], "n99999999"), "line 3: unknown class id 'n99999999'"),
        (
            lambda text: text.replace("val_4", "val_9"),
            r"val_9\.JPEG: named in .* line 5, but absent",
        ),
        (lambda text: text.replace("\t", " "), "line 1: unknown class id ''"),
    ],
)
def test_wrong_annotations(folder, edit, message):
    file = folder / "val" / "val_annotations.txt"
    file.write_text(edit(file.read_text()))
    with pytest.raises(DataCorrupt, match=message):
        tiny_imagenet.read(folder, SPEC, "test")


@pytest.mark.parametrize("ids", [WNIDS[:2], [*WNIDS[:2], WNIDS[0]], []])
def test_wrong_number_of_classes(folder, ids):
    (folder / "wnids.txt").write_text("".join(f"{wnid}\n" for wnid in ids))
    with pytest.raises(DataCorrupt, match=r"wnids\.txt: expected 3 different class ids"):
        tiny_imagenet.read(folder, SPEC, "train")


def test_unreadable_list(folder):
    (folder / "wnids.txt").unlink()
    with pytest.raises(DataCorrupt, match=r"wnids\.txt: .* cannot be read"):
        tiny_imagenet.read(folder, SPEC, "train")
