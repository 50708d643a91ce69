"""A user's own pictures: layouts, the spec made from them, and what can be wrong."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nsdbench import data
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
    assert image_folder.parse(f"folder:{folder}@16") == (folder, 16)


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
