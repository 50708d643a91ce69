"""A user's own pictures: layouts, the spec made from them, and what can be wrong."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nsdbench import data
from nsdbench.data.catalog import DATASETS
from nsdbench.data.description import DatasetSpec
from nsdbench.data.readers import image_folder
from nsdbench.errors import DataCorrupt, DataMissing


def write(folder: Path, classes: dict[str, int], mode: str = "RGB", size=(6, 5), suffix="png"):
    for label, (name, count) in enumerate(classes.items()):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            value = 50 * label + i
            color = value if mode == "L" else (value, 0, 255)
            Image.new(mode, size, color).save(folder / name / f"{i:03d}.{suffix}")


def test_train_and_test_folders(tmp_path):
    write(tmp_path / "train", {"cat": 4, "bee": 3})
    write(tmp_path / "val", {"cat": 2, "bee": 1})
    dataset = data.load(f"folder:{tmp_path}")
    spec = dataset.spec
    assert (spec.image_shape, spec.num_classes) == ((3, 5, 6), 2)
    assert (spec.train_size, spec.test_size) == (7, 3) == (len(dataset.train), len(dataset.test))
    assert dataset.train.labels.tolist() == [0, 0, 0, 1, 1, 1, 1]  # bee before cat
    assert dataset.train.images[:, 0, 0, 0].tolist() == [50, 51, 52, 0, 1, 2, 3]
    assert dataset.train.images[:, 2].min() == 255
    assert dataset.test.labels.tolist() == [0, 1, 1]


def test_classes_without_a_test_folder_give_a_fifth(tmp_path):
    write(tmp_path, {"a": 10, "b": 20})
    dataset = data.load(f"folder:{tmp_path}")
    assert dataset.test.labels.bincount().tolist() == [2, 4]
    assert dataset.train.labels.bincount().tolist() == [8, 16]
    values = sorted([*dataset.train.images[:, 0, 0, 0], *dataset.test.images[:, 0, 0, 0]])
    assert [int(v) for v in values] == sorted([*range(10), *range(50, 70)])


def test_grey_pictures_stay_grey(tmp_path):
    write(tmp_path, {"a": 5, "b": 5}, mode="L")
    spec = data.spec(f"folder:{tmp_path}")
    assert spec.image_shape == (1, 5, 6) and len(spec.mean) == len(spec.std) == 1


def test_resizing_to_a_square(tmp_path):
    write(tmp_path, {"a": 5, "b": 5})
    Image.new("RGB", (31, 9), (7, 0, 255)).save(tmp_path / "a" / "000.png")
    dataset = data.load(f"folder:{tmp_path}@8")
    assert dataset.train.images.shape[1:] == dataset.image_shape == (3, 8, 8)
    assert dataset.spec.default_depth == 1


def test_path_with_an_at_sign(tmp_path):
    folder = tmp_path / "me@home"
    write(folder, {"a": 5, "b": 5})
    assert data.spec(f"folder:{folder}").image_shape == (3, 5, 6)
    assert image_folder.parse(f"folder:{folder}@16") == (folder, 16, "")


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("folder:/a", ("/a", None, "")),
        ("folder:/a=CIFAR10", ("/a", None, "CIFAR10")),
        ("folder:/a@32=CIFAR10", ("/a", 32, "CIFAR10")),
        ("folder:/lr=0.1/a", ("/lr=0.1/a", None, "")),
        ("folder:/a/lr=0.1/", ("/a/lr=0.1", None, "")),
        ("folder:/a=b/c=CIFAR100", ("/a=b/c", None, "CIFAR100")),
        ("folder:/a@0", ("/a@0", None, "")),
        ("folder:/a@me=CIFAR10", ("/a@me", None, "CIFAR10")),
    ],
)
def test_parts_of_a_name(name, parts):
    path, *others = parts
    assert image_folder.parse(name) == (Path(path), *others)


def test_different_sizes_need_a_size(tmp_path):
    write(tmp_path / "train", {"a": 2, "b": 2})
    write(tmp_path / "test", {"a": 1, "b": 1}, size=(7, 7))
    dataset = data.load(f"folder:{tmp_path}")
    with pytest.raises(DataCorrupt, match=r"test/a/000\.png: expected 5 x 6 pixels, got 7 x 7"):
        dataset.test  # noqa: B018


def test_other_files_are_ignored(tmp_path):
    write(tmp_path, {"a": 5, "b": 5})
    (tmp_path / "a" / "notes.txt").write_text("x")
    (tmp_path / ".hidden").mkdir()
    assert data.spec(f"folder:{tmp_path}").num_classes == 2
    assert len(data.load(f"folder:{tmp_path}").train) == 8


@pytest.mark.parametrize("classes", [{}, {"only": 3}])
def test_too_few_classes(tmp_path, classes):
    write(tmp_path, classes)
    with pytest.raises(DataMissing, match="at least two class folders, .* PATH/train/CLASS"):
        data.spec(f"folder:{tmp_path}")


def test_one_picture_of_each_class_leaves_none_to_train_on(tmp_path):
    write(tmp_path, {"a": 1, "b": 1})
    with pytest.raises(ValueError, match="at least two pictures of a class"):
        data.spec(f"folder:{tmp_path}")


def test_no_such_folder(tmp_path):
    with pytest.raises(DataMissing, match="nowhere: no such folder"):
        data.load(f"folder:{tmp_path}/nowhere")
    assert data.locate(f"folder:{tmp_path}/nowhere") is None
    assert data.locate(f"folder:{tmp_path}@16") == tmp_path


def test_test_folder_lacks_a_class(tmp_path):
    write(tmp_path / "train", {"a": 2, "b": 2})
    write(tmp_path / "test", {"a": 2})
    with pytest.raises(DataMissing, match="test/b: no such folder"):
        data.spec(f"folder:{tmp_path}")


def test_train_folder_alone(tmp_path):
    write(tmp_path / "train", {"a": 2, "b": 2})
    with pytest.raises(DataMissing, match="neither test/ nor val/"):
        data.spec(f"folder:{tmp_path}")


def test_empty_class_folder(tmp_path):
    write(tmp_path, {"a": 5, "b": 0})
    with pytest.raises(DataCorrupt, match="b: expected pictures"):
        data.spec(f"folder:{tmp_path}")


def test_damaged_picture(tmp_path):
    write(tmp_path, {"a": 5, "b": 5})
    (tmp_path / "a" / "000.png").write_bytes(np.zeros(50, np.uint8).tobytes())
    with pytest.raises(DataCorrupt, match=r"a/00.\.png"):
        data.load(f"folder:{tmp_path}").test  # noqa: B018


@pytest.fixture
def four(monkeypatch) -> DatasetSpec:
    """Add a data set of four classes to the catalog: five training images and two test images."""
    described = DatasetSpec(
        "Four", (3, 6, 6), 4, 20, 8, (0.5,) * 3, (0.2,) * 3, "flip", 1, "standardise", True,
        classes=("elk", "ant", "dog", "cat"),
    )  # fmt: skip
    monkeypatch.setitem(DATASETS, "Four", (described, image_folder.SOURCE))
    return described


def write_four(folder: Path, train=5, test=2, size=(6, 6), classes=("ant", "cat", "dog", "elk")):
    write(folder / "train", dict.fromkeys(classes, train), size=size)
    write(folder / "val", dict.fromkeys(classes, test), size=size)


def test_a_copy_has_the_labels_and_constants_of_what_it_stands_for(tmp_path, four):
    write_four(tmp_path)
    name = f"folder:{tmp_path}=Four"
    dataset = data.load(name)
    assert dataset.spec == four.copy(name, dataset.spec.source)
    assert (dataset.spec.stands_for, dataset.spec.is_downloadable) == ("Four", False)
    assert data.locate(name) == tmp_path
    assert dataset.train.labels.tolist() == [0] * 5 + [1] * 5 + [2] * 5 + [3] * 5
    first = dataset.train.images[::5, 0, 0, 0].tolist()  # elk is the fourth in `write`
    assert first == [150, 0, 100, 50]
    assert dataset.test.images[::2, 0, 0, 0].tolist() == first
    held = data.load(f"{name}-holdout8-seed0")
    assert held.test.labels.bincount().tolist() == [2] * 4 and len(held.train) == 12


def test_classes_of_a_copy_may_be_numbers_where_no_names_are_known(tmp_path, monkeypatch, four):
    monkeypatch.setitem(DATASETS, "Four", (replace(four, classes=()), image_folder.SOURCE))
    write_four(tmp_path, classes="0123")
    assert data.load(f"folder:{tmp_path}=Four").train.images[::5, 0, 0, 0].tolist() == [
        0, 50, 100, 150,
    ]  # fmt: skip


def test_wrong_classes_and_counts_of_a_copy_are_all_named(tmp_path, four):
    write_four(tmp_path, classes=("ant", "cat", "dog", "eel"))
    (tmp_path / "train" / "dog" / "000.png").unlink()
    with pytest.raises(
        DataCorrupt,
        match="train: expected 5 pictures in each of elk, ant, dog, cat; got elk: absent, dog: 4, "
        "eel: unknown$",
    ):
        data.load(f"folder:{tmp_path}=Four")


def test_a_copy_without_a_test_folder_is_refused(tmp_path, four):
    write(tmp_path / "train", dict.fromkeys(four.classes, 5), size=(6, 6))
    with pytest.raises(DataMissing, match="neither test/ nor val/"):
        data.load(f"folder:{tmp_path}=Four").test  # noqa: B018
    with pytest.raises(DataMissing, match="train/train: no such folder; expected PATH/train/CLASS"):
        data.load(f"folder:{tmp_path}/train=Four")
    with pytest.raises(DataMissing, match="nowhere=Four: make the folder: PATH/train/CLASS"):
        data.load(f"folder:{tmp_path}/nowhere=Four")


def test_pictures_of_a_copy_have_its_size_unless_resized(tmp_path, four):
    write_four(tmp_path, size=(8, 8))
    with pytest.raises(DataCorrupt, match="expected 6 x 6 pixels, got 8 x 8"):
        data.load(f"folder:{tmp_path}=Four")
    assert data.load(f"folder:{tmp_path}@6=Four").image_shape == (3, 6, 6)
    with pytest.raises(ValueError, match="images of Four have 6 pixels, got @8"):
        data.spec(f"folder:{tmp_path}@8=Four")


@pytest.mark.parametrize("name", ["Digits", "ImageNette"])
def test_no_folder_stands_for_classes_of_no_fixed_size(name):
    with pytest.raises(ValueError, match=f"no folder stands for {name}, .* take folder:/a"):
        data.spec(f"folder:/a={name}")


def test_no_folder_stands_for_a_copy():
    with pytest.raises(ValueError, match="is a copy itself; take folder:PATH=CIFAR10$"):
        data.spec("folder:/a=CIFAR10-JPEG")


def test_a_folder_that_stands_for_nothing_known(tmp_path):
    with pytest.raises(ValueError, match="got 'CIFAR1O'; did you mean CIFAR10"):
        data.spec(f"folder:{tmp_path}=CIFAR1O")
