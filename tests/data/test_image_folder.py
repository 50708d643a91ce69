"""A user's own pictures: layouts, the spec made from them, and what can be wrong."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nsdbench import data
from nsdbench.data.catalog import DATASETS
from nsdbench.data.description import DatasetSpec
from nsdbench.data.formats.decode import decode_all
from nsdbench.data.readers import image_folder
from nsdbench.errors import DataCorrupt, DataMissing


def write(folder: Path, classes: dict[str, int], mode: str = "RGB", size=(6, 5), suffix="png"):
    for label, (name, count) in enumerate(classes.items()):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            value = (50 * label + i) % 256
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


@pytest.mark.parametrize("part", ["train", "test"])
def test_different_sizes_need_a_size(tmp_path, part):
    write(tmp_path / "train", {"a": 2, "b": 2})
    write(tmp_path / "test", {"a": 1, "b": 1})
    Image.new("RGB", (30, 45)).save(tmp_path / part / "b" / "odd.png")
    message = (
        r"/b/odd\.png: expected 5 x 6 pixels as in .*000\.png, got 45 x 30; write @SIZE behind"
    )
    for ask in (data.spec, data.load):
        with pytest.raises(DataCorrupt, match=part + message):
            ask(f"folder:{tmp_path}")
    assert data.load(f"folder:{tmp_path}@8").test.images.shape[2:] == (8, 8)


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


# Pictures of each class, and how many of them are to test.
AUTOMATIC_SPLITS = [
    ((60, 2), (12, 1)), ((2, 60), (1, 12)), ((2, 2), (1, 1)), ((2, 2, 2), (1, 1, 1)),
    ((80, 2), (16, 1)), ((3, 3), (1, 1)), ((5, 5), (1, 1)), ((10, 20), (2, 4)),
    ((200, 2, 2), (39, 1, 1)), ((4, 6), (1, 1)), ((2, 3, 100), (1, 1, 20)),
    ((40, 2, 2, 2), (8, 1, 1, 1)),
]  # fmt: skip


@pytest.mark.parametrize(("counts", "expected"), AUTOMATIC_SPLITS)
def test_every_class_is_on_both_sides_of_an_automatic_split(tmp_path, counts, expected):
    write(tmp_path, {f"class {i}": count for i, count in enumerate(counts)}, size=(1, 1), mode="L")
    dataset = data.load(f"folder:{tmp_path}")
    assert tuple(dataset.test.labels.bincount().tolist()) == expected
    left = [count - part for count, part in zip(counts, expected, strict=True)]
    assert dataset.train.labels.bincount().tolist() == left
    assert (dataset.spec.train_size, dataset.spec.test_size) == (sum(left), sum(expected))


@pytest.mark.parametrize("counts", [(1, 1), (80, 1), (1, 80), (2, 1, 2)])
def test_a_class_of_one_picture_cannot_be_split(tmp_path, counts):
    write(tmp_path, {f"class {i}": count for i, count in enumerate(counts)}, size=(1, 1), mode="L")
    lonely = counts.index(1)
    with pytest.raises(ValueError, match=rf"class {lonely}: class 'class {lonely}' has 1 picture"):
        data.load(f"folder:{tmp_path}")


@pytest.mark.parametrize(("size", "word"), [(1, "to test; hold out more"), (3, "to train on")])
def test_a_holdout_that_loses_a_class_is_refused(tmp_path, size, word):
    write(tmp_path / "train", {"a": 2, "b": 2})
    write(tmp_path / "test", {"a": 1, "b": 1})
    with pytest.raises(ValueError, match=f"a hold-out of {size} images .* leaves class .*{word}"):
        data.load(f"folder:{tmp_path}-holdout{size}-seed0")


@pytest.mark.parametrize("name", ["pets@2024", "pets@16", "a@1@2", "pets-holdout5-seed0"])
def test_a_folder_that_exists_is_a_folder(tmp_path, name):
    write(tmp_path / name, {"a": 5, "b": 5})
    dataset = data.load(f"folder:{tmp_path / name}")
    assert dataset.image_shape == (3, 5, 6) and dataset.name == f"folder:{tmp_path / name}"
    assert data.locate(dataset.name) == tmp_path / name
    assert data.spec(f"{dataset.name}@8").image_shape == (3, 8, 8)
    assert data.load(f"{dataset.name}@8-holdout2-seed1").test.images.shape == (2, 3, 8, 8)


@pytest.mark.parametrize("end", ["@0", "@\u00b2", "@\u0661", "@-1", "@1.5", "@"])
def test_what_is_no_size_is_part_of_the_path(tmp_path, end):
    write(tmp_path / "set", {"a": 5, "b": 5})
    with pytest.raises(DataMissing, match="no such folder"):
        data.spec(f"folder:{tmp_path}/set{end}")


def test_absurd_sizes_are_refused(tmp_path):
    with pytest.raises(ValueError, match="at most 4096 pixels"):
        data.spec(f"folder:{tmp_path}@1000000")


@pytest.mark.parametrize("splits", [("Train", "Test"), ("test", "val"), ("cat", "dog", "val")])
def test_a_split_is_not_taken_for_a_class(tmp_path, splits):
    write(tmp_path, dict.fromkeys(splits, 3))
    with pytest.raises(DataMissing, match=f"{max(splits)} would be a class"):
        data.spec(f"folder:{tmp_path}")


def test_no_such_folder(tmp_path):
    with pytest.raises(DataMissing, match="nowhere: no such folder"):
        data.load(f"folder:{tmp_path}/nowhere")
    assert data.locate(f"folder:{tmp_path}/nowhere") is None
    assert data.locate(f"folder:{tmp_path}@16") == tmp_path


def test_test_folder_lacks_a_class(tmp_path):
    write(tmp_path / "train", {"a": 2, "b": 2})
    write(tmp_path / "test", {"a": 2})
    with pytest.raises(DataCorrupt, match="test/b: no such folder; train/ has the class 'b'"):
        data.spec(f"folder:{tmp_path}")


def test_train_folder_lacks_a_class(tmp_path):
    write(tmp_path / "train", {"a": 2, "b": 2})
    write(tmp_path / "val", {"a": 2, "b": 2, "c": 1})
    with pytest.raises(DataCorrupt, match="train/c: no such folder; val/ has the class 'c'"):
        data.spec(f"folder:{tmp_path}")


def test_train_folder_alone(tmp_path):
    write(tmp_path / "train", {"a": 2, "b": 2})
    with pytest.raises(DataMissing, match="neither test/ nor val/"):
        data.spec(f"folder:{tmp_path}")


def test_empty_class_folder(tmp_path):
    write(tmp_path, {"a": 5, "b": 0})
    with pytest.raises(DataCorrupt, match="b: expected pictures"):
        data.spec(f"folder:{tmp_path}")


# What systems and programs leave beside pictures.
LEFTOVERS = [
    "a/._000.png", "a/.DS_Store", "a/Thumbs.db", "a/desktop.ini", "b/.hidden.jpg", "b/.nfs0001.png",
    "__MACOSX/a/._000.png", "__MACOSX/._a", ".git/x.png", ".thumbnails/a.png", "@eaDir/a.png",
    "a/@eaDir/000.png", "a/.ipynb_checkpoints/000.png", "._a/x.png", "lost+found/x.png",
    "labels.csv", "a/notes.txt",
]  # fmt: skip


@pytest.mark.parametrize("base", ["", "train"])
def test_what_systems_leave_is_skipped(tmp_path, base):
    write(tmp_path / base, {"a": 5, "b": 5})
    if base:
        write(tmp_path / "test", {"a": 1, "b": 1})
    for name in LEFTOVERS:
        (tmp_path / base / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / base / name).write_bytes(b"no picture")
    dataset = data.load(f"folder:{tmp_path}")
    assert dataset.num_classes == 2
    assert len(dataset.train) == (10 if base else 8)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a/more/000.png", r"a/more: a folder inside a class"),
        ("a/fun.gif", r"a/fun\.gif: pictures of this kind are not read; convert it"),
        ("b/IMG_1.HEIC", r"b/IMG_1\.HEIC: pictures of this kind are not read; convert it"),
        ("b/x.avif", r"b/x\.avif: pictures of this kind are not read; convert it"),
    ],
)
def test_pictures_that_would_be_left_out_are_said(tmp_path, name, message):
    write(tmp_path, {"a": 5, "b": 5})
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(DataCorrupt, match=message):
        data.spec(f"folder:{tmp_path}")


def test_a_link_to_nowhere_is_named(tmp_path):
    write(tmp_path, {"a": 5, "b": 5})
    (tmp_path / "a" / "link.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(DataCorrupt, match=r"a/link\.png: expected a picture, got No such file"):
        data.spec(f"folder:{tmp_path}")


def pixel_of(tmp_path, save, **options):
    """Read a folder whose class a holds pictures of ours; returns [C] of the first pixel."""
    write(tmp_path / "train", {"a": 0, "b": 2}, **options)
    write(tmp_path / "test", {"a": 1, "b": 1}, **options)
    save(tmp_path / "train" / "a")
    return data.load(f"folder:{tmp_path}").train.images[0, :, 0, 0].tolist()


# Kinds of pictures that are read: how one is made, and the pixel it must give beside RGB ones.
READ = {
    "grey": (lambda: Image.new("L", (6, 5), 70), {}, "png", [70, 70, 70]),
    "black and white": (lambda: Image.new("1", (6, 5), 1), {}, "png", [255, 255, 255]),
    "palette": (lambda: Image.new("RGB", (6, 5), (9, 8, 7)).quantize(4), {}, "png", [9, 8, 7]),
    "opaque": (lambda: Image.new("RGBA", (6, 5), (9, 8, 7, 255)), {}, "png", [9, 8, 7]),
    "grey and opaque": (lambda: Image.new("LA", (6, 5), (9, 255)), {}, "png", [9, 9, 9]),
    "CMYK": (lambda: Image.new("CMYK", (6, 5), (255, 0, 0, 0)), {}, "tif", [0, 255, 255]),
    "capital suffix": (lambda: Image.new("RGB", (6, 5), (9, 8, 7)), {}, "PNG", [9, 8, 7]),
    "bitmap": (lambda: Image.new("RGB", (6, 5), (9, 8, 7)), {}, "bmp", [9, 8, 7]),
    "webp": (lambda: Image.new("RGB", (6, 5), (9, 8, 7)), {"lossless": True}, "webp", [9, 8, 7]),
    "photograph with small copies": (
        lambda: Image.new("RGB", (6, 5), (90, 90, 90)),
        {"format": "MPO", "save_all": True, "append_images": [Image.new("RGB", (3, 2))]},
        "jpg",
        [90, 90, 90],
    ),
    "unused colour that is transparent": (
        lambda: Image.new("RGB", (6, 5), (9, 8, 7)),
        {"transparency": (1, 2, 3)},
        "png",
        [9, 8, 7],
    ),
}


@pytest.mark.parametrize("kind", READ)
def test_pictures_of_many_kinds_are_read(tmp_path, kind):
    make, options, suffix, expected = READ[kind]
    assert pixel_of(tmp_path, lambda f: make().save(f / f"0.{suffix}", **options)) == expected


def _deep():
    return Image.fromarray(np.full((5, 6), 40_000, dtype=np.uint16))


# Kinds that cannot be used: how one is made, and what the message says.
REFUSED = {
    "16 bits": (_deep, {}, "png", "mode I;16; convert it to 8 bits a channel"),
    "32 bits": (lambda: Image.new("I", (6, 5)), {}, "tif", "mode I; convert it"),
    "floating": (lambda: Image.new("F", (6, 5)), {}, "tif", "mode F; convert it"),
    "Lab": (lambda: Image.new("LAB", (6, 5)), {}, "tif", "mode LAB; convert it"),
    "transparent": (lambda: Image.new("RGBA", (6, 5), (9, 8, 7, 254)), {}, "png", "transparent"),
    "grey and transparent": (lambda: Image.new("LA", (6, 5), (9, 0)), {}, "png", "transparent"),
    "transparent colour": (
        lambda: Image.new("RGB", (6, 5), (9, 8, 7)), {"transparency": (9, 8, 7)}, "png",
        "transparent pixels, whose colour nobody sees; lay the picture on a background",
    ),
    "transparent palette": (
        lambda: Image.new("P", (6, 5), 0), {"transparency": 0}, "png", "transparent pixels",
    ),
    "animated PNG": (
        lambda: Image.new("RGB", (6, 5)),
        {"save_all": True, "append_images": [Image.new("RGB", (6, 5), "red")]}, "png",
        "2 frames; keep one in a file",
    ),
    "animated webp": (
        lambda: Image.new("RGB", (6, 5)),
        {"save_all": True, "append_images": [Image.new("RGB", (6, 5), "red")]}, "webp",
        "2 frames; keep one in a file",
    ),
    "pages": (
        lambda: Image.new("RGB", (6, 5)),
        {"save_all": True, "append_images": [Image.new("RGB", (6, 5), "red")]}, "tiff",
        "2 frames; keep one in a file",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_pictures_that_cannot_be_used_are_named(tmp_path, kind):
    make, options, suffix, message = REFUSED[kind]
    with pytest.raises(DataCorrupt, match=rf"train/a/0\.{suffix}: .*{message}"):
        pixel_of(tmp_path, lambda f: make().save(f / f"0.{suffix}", **options))


@pytest.mark.parametrize(("orientation", "corner"), [(1, 0), (3, 3), (6, 2), (8, 1)])
@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
def test_photographs_are_turned_as_viewers_turn_them(tmp_path, suffix, orientation, corner):
    """Four corners 0 1 / 2 3 of a wide picture; turned on its side it is high."""
    pixels = np.zeros((5, 6), dtype=np.uint8)
    pixels[:2, 3:], pixels[2:, :3], pixels[2:, 3:] = 80, 160, 240
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = Image.fromarray(np.stack([pixels] * 3, 2))
    options = {"lossless": True} if suffix == "webp" else {}
    size = (5, 6) if orientation >= 5 else (6, 5)
    got = pixel_of(
        tmp_path, lambda f: picture.save(f / f"0.{suffix}", exif=exif, **options), size=size
    )
    assert got == [80 * corner] * 3


def test_published_pictures_are_not_turned(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 3
    pixels = np.arange(30, dtype=np.uint8).reshape(5, 6)
    Image.fromarray(pixels).save(tmp_path / "x.png", exif=exif)
    for is_upright, first in ((False, 0), (True, 29)):  # one cache serves both
        images = decode_all(
            [tmp_path / "x.png"], (1, 5, 6), is_resized=False, is_upright=is_upright
        )
        assert images[0, 0, 0, 0] == first


@pytest.mark.parametrize("grey_file", ["train/a/000.png", "train/b/001.png", "test/a/000.png"])
def test_one_grey_picture_leaves_the_others_in_colour(tmp_path, grey_file):
    write(tmp_path / "train", {"a": 2, "b": 2})
    write(tmp_path / "test", {"a": 1, "b": 1})
    Image.new("L", (6, 5), 9).save(tmp_path / grey_file)
    dataset = data.load(f"folder:{tmp_path}")
    assert dataset.image_shape == (3, 5, 6) and len(dataset.spec.mean) == 3
    assert (dataset.train.images[:, 2] == 255).any()


def test_one_picture_in_colour_among_grey_ones_is_enough(tmp_path):
    write(tmp_path / "train", {"a": 2, "b": 2}, mode="L")
    write(tmp_path / "test", {"a": 1, "b": 1}, mode="L")
    Image.new("RGB", (6, 5), (1, 2, 3)).save(tmp_path / "test" / "b" / "000.png")
    assert data.load(f"folder:{tmp_path}").test.images[1, :, 0, 0].tolist() == [1, 2, 3]


def test_a_picture_that_changes_is_opened_again(tmp_path):
    write(tmp_path / "train", {"a": 2, "b": 2}, mode="L")
    write(tmp_path / "test", {"a": 1, "b": 1}, mode="L")
    assert data.spec(f"folder:{tmp_path}").image_shape == (1, 5, 6)
    Image.new("RGB", (6, 5)).save(tmp_path / "train" / "b" / "001.png")
    assert data.spec(f"folder:{tmp_path}").image_shape == (3, 5, 6)


def test_pictures_are_opened_once_in_a_process(tmp_path, monkeypatch):
    write(tmp_path, {"a": 5, "b": 5})
    data.spec(f"folder:{tmp_path}")
    monkeypatch.setattr(Image, "open", None)
    assert data.spec(f"folder:{tmp_path}").image_shape == (3, 5, 6)


@pytest.mark.parametrize("keep", [0, 20, 0.5, 0.9])
@pytest.mark.parametrize("suffix", ["png", "jpg"])
@pytest.mark.parametrize("part", ["train", "test"])
def test_a_torn_picture_is_found_before_the_work(tmp_path, part, suffix, keep):
    write(tmp_path / "train", {"a": 2, "b": 2}, size=(60, 50), suffix=suffix)
    write(tmp_path / "test", {"a": 1, "b": 1}, size=(60, 50), suffix=suffix)
    torn = tmp_path / part / "b" / f"000.{suffix}"
    noise = np.random.default_rng(0).integers(0, 256, (50, 60, 3), dtype=np.uint8)
    Image.fromarray(noise).save(torn)
    whole = torn.read_bytes()
    torn.write_bytes(whole[: keep if keep == 20 else int(keep * len(whole))])
    with pytest.raises(DataCorrupt, match=rf"{part}/b/000\.{suffix}: expected a complete 8-bit"):
        data.load(f"folder:{tmp_path}")  # nobody has asked for the test split


def test_pictures_of_absurd_size_are_refused(tmp_path, monkeypatch):
    write(tmp_path, {"a": 5, "b": 5}, size=(60, 50))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(DataCorrupt, match=r"\.png: .*decompression bomb"):
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


def test_a_torn_test_picture_of_a_copy_is_found_before_the_work(tmp_path, four):
    write_four(tmp_path)
    (tmp_path / "val" / "dog" / "001.png").write_bytes(b"torn")
    with pytest.raises(DataCorrupt, match=r"val/dog/001\.png: expected a complete 8-bit"):
        data.load(f"folder:{tmp_path}=Four")


def test_what_systems_leave_in_a_copy_is_skipped(tmp_path, four):
    write_four(tmp_path)
    for name in ("train/__MACOSX/._x.png", "train/dog/._000.png", "val/cat/Thumbs.db"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"no picture")
    assert len(data.load(f"folder:{tmp_path}=Four").train) == 20


def test_a_folder_that_exists_stands_for_nothing_by_its_name(tmp_path, four):
    write(tmp_path / "x@8=Four", {"a": 5, "b": 5})
    assert image_folder.parse(f"folder:{tmp_path}/x@8=Four") == (tmp_path / "x@8=Four", None, "")
    assert data.load(f"folder:{tmp_path}/x@8=Four").num_classes == 2
