"""ImageNet subsets: the class lists, both folder layouts, the resize and impossible counts."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nsdbench import data
from nsdbench.data import catalog
from nsdbench.data.readers import imagenet
from nsdbench.errors import DataCorrupt, DataMissing

from .test_decode import bilinear

# The lists of the spec, in label order (MTT, utils.py).
INDICES = {
    "ImageNette": "0 217 482 491 497 566 569 571 574 701",
    "ImageWoof": "193 182 258 162 155 167 159 273 207 229",
    "ImageMeow": "281 282 283 284 285 291 292 290 289 287",
    "ImageSquawk": "84 130 88 144 145 22 96 9 100 89",
    "ImageFruit": "953 954 949 950 951 957 952 945 943 948",
    "ImageYellow": "309 986 954 951 987 779 599 291 72 11",
}
SPEC = replace(data.spec("ImageWoof"), test_size=20)
FEW = (1, 3)


def test_subsets_are_those_of_the_catalog():
    assert set(imagenet.SUBSETS) == {n for n in data.names() if n.startswith("Image")}


@pytest.mark.parametrize("name", INDICES)
def test_class_indices_in_label_order(name):
    assert list(imagenet.SUBSETS[name]) == [int(n) for n in INDICES[name].split()]
    assert len(set(imagenet.wnids(name))) == 10


def test_index_and_class_id_are_one_to_one_and_in_the_same_order():
    pairs = sorted({pair for subset in imagenet.SUBSETS.values() for pair in subset.items()})
    indices, ids = zip(*pairs, strict=True)
    # banana, lemon and lion are in two subsets each
    assert len(pairs) == len(set(indices)) == len(set(ids)) == 57
    assert list(ids) == sorted(ids)


def test_well_known_classes():
    """Indices of the two public subsets, as fast.ai publishes their class ids."""
    assert imagenet.wnids("ImageNette") == [
        "n01440764", "n02102040", "n02979186", "n03000684", "n03028079",
        "n03394916", "n03417042", "n03425413", "n03445777", "n03888257",
    ]  # fmt: skip
    assert sorted(imagenet.wnids("ImageWoof")) == [
        "n02086240", "n02087394", "n02088364", "n02089973", "n02093754",
        "n02096294", "n02099601", "n02105641", "n02111889", "n02115641",
    ]  # fmt: skip


def level(label: int) -> int:
    return 20 * label + 10


def flat(path: Path, value: int, size: tuple[int, int] = (30, 20)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value, value, value)).save(path, "JPEG", quality=95)


def write_train(root: Path) -> None:
    for label, wnid in enumerate(imagenet.wnids("ImageWoof")):
        flat(root / "train" / wnid / f"{wnid}_10.JPEG", level(label))
        flat(root / "train" / wnid / f"{wnid}_9.JPEG", level(label) + 1, (500, 375))


def write_validation(root: Path, is_flat: bool) -> None:
    number = 0
    lines = ["ImageId,PredictionString"]
    for label, wnid in enumerate(imagenet.wnids("ImageWoof")):
        for i in range(2):
            number += 1
            name = f"ILSVRC2012_val_{number:08d}"
            folder = root / "val" if is_flat else root / "val" / wnid
            flat(folder / f"{name}.JPEG", level(label) + 2 + i)
            lines.append(f"{name},{wnid} 1 2 3 4 {wnid} 5 6 7 8 ")
    flat(root / "val" / "n01440764" / "ILSVRC2012_val_00009999.JPEG", 0)  # another class
    lines.append("ILSVRC2012_val_00009999,n01440764 1 2 3 4 ")
    if is_flat:
        (root / "val" / "n01440764" / "ILSVRC2012_val_00009999.JPEG").rename(
            root / "val" / "ILSVRC2012_val_00009999.JPEG"
        )
        (root / "val" / "n01440764").rmdir()
        random = np.random.default_rng(0).permutation(lines[1:])
        (root / "LOC_val_solution.csv").write_text("\n".join([lines[0], *random]) + "\n")


def levels(split) -> list[int]:
    return split.images.flatten(1).double().mean(1).round().int().tolist()


def test_train_split(tmp_path):
    write_train(tmp_path)
    split = imagenet.read(tmp_path, SPEC, "train", FEW)
    assert split.images.shape == (20, 3, 128, 128)
    assert split.labels.tolist() == [label for label in range(10) for _ in range(2)]
    # sorted by file name: _10 before _9
    assert levels(split) == [level(n) + i for n in range(10) for i in range(2)]


@pytest.mark.parametrize("is_flat", [False, True])
def test_validation_split_is_the_test_split(tmp_path, is_flat):
    write_validation(tmp_path, is_flat)
    split = imagenet.read(tmp_path, SPEC, "test")
    assert split.labels.tolist() == [label for label in range(10) for _ in range(2)]
    assert levels(split) == [level(n) + 2 + i for n in range(10) for i in range(2)]


def test_resize_keeps_no_aspect_and_does_not_antialias(tmp_path):
    write_train(tmp_path)
    wnid = imagenet.wnids("ImageWoof")[0]
    file = tmp_path / "train" / wnid / f"{wnid}_10.JPEG"
    noise = np.random.default_rng(0).integers(0, 256, (150, 300, 3), dtype=np.uint8)
    Image.fromarray(noise).save(file, "JPEG", quality=90)
    with Image.open(file) as picture:
        decoded = np.array(picture)
    got = imagenet.read(tmp_path, SPEC, "train", FEW).images[0].numpy()
    for channel in range(3):
        error = got[channel] - bilinear(decoded[..., channel], 128, 128)
        assert np.abs(error).max() <= 0.5 + 1e-9  # rounded once, to the nearest level


def test_loads_by_name_from_kaggles_folders(tmp_path, monkeypatch):
    folder = tmp_path / "ILSVRC" / "Data" / "CLS-LOC"
    write_train(folder)
    write_validation(folder, is_flat=True)
    (folder / "LOC_val_solution.csv").rename(tmp_path / "LOC_val_solution.csv")
    monkeypatch.setitem(catalog.DATASETS, "ImageWoof", (SPEC, catalog.source("ImageWoof")))
    monkeypatch.setattr(imagenet.read, "__defaults__", (FEW,))
    assert data.locate("ImageWoof", tmp_path) == folder
    dataset = data.load("ImageWoof", root=tmp_path)
    assert len(dataset.train) == 20 and len(dataset.test) == 20
    assert data.locate("ImageNette", tmp_path) is None


def test_folders_with_other_splits_are_refused(tmp_path):
    write_train(tmp_path)
    with pytest.raises(
        DataCorrupt, match=r"expected 732\.\.1300 train images of n02096294 .* got 2"
    ):
        imagenet.read(tmp_path, SPEC, "train")
    write_validation(tmp_path, is_flat=False)
    with pytest.raises(DataCorrupt, match=r"expected 50 test images of n02096294 .* got 2"):
        imagenet.read(tmp_path, data.spec("ImageWoof"), "test")


def test_missing_class_folder(tmp_path):
    write_train(tmp_path)
    wnid = imagenet.wnids("ImageWoof")[3]
    (tmp_path / "train" / wnid).rename(tmp_path / "train" / "elsewhere")
    with pytest.raises(DataMissing, match=rf"train/{wnid}: no such folder"):
        imagenet.read(tmp_path, SPEC, "train", FEW)


@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("has_header", [True, False])
def test_a_solution_of_any_editor_is_read(tmp_path, start, end, has_header):
    write_validation(tmp_path, is_flat=True)
    solution = tmp_path / "LOC_val_solution.csv"
    lines = solution.read_bytes().splitlines()[0 if has_header else 1 :]
    solution.write_bytes(start + end.join(lines))
    assert imagenet.read(tmp_path, SPEC, "test").labels.bincount().tolist() == [2] * 10


def test_a_solution_of_other_encodings_is_refused(tmp_path):
    write_validation(tmp_path, is_flat=True)
    solution = tmp_path / "LOC_val_solution.csv"
    solution.write_bytes(solution.read_text().encode("utf-16"))
    with pytest.raises(DataCorrupt, match="solution.csv: not a CSV file in UTF-8"):
        imagenet.read(tmp_path, SPEC, "test")


def test_missing_validation_file(tmp_path):
    write_validation(tmp_path, is_flat=True)
    (tmp_path / "val" / "ILSVRC2012_val_00000007.JPEG").unlink()
    with pytest.raises(DataCorrupt, match=r"00000007\.JPEG: named in .*LOC_val_solution\.csv"):
        imagenet.read(tmp_path, SPEC, "test")
