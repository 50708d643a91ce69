"""A user's own pictures: one folder per class, named `folder:PATH[@SIZE]`.

All pictures of both splits are opened when the folder is described, and decoded when its training
split is read, so that what is wrong with one is said before hours of work.
"""

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from nsdbench.data.description import (
    DSA_WITH_FLIP,
    IMAGENET_STATISTICS,
    DatasetSpec,
    Source,
    convnet_depth,
)
from nsdbench.data.shares import shares
from nsdbench.errors import DataCorrupt, DataMissing
from nsdbench.files import user_path

if TYPE_CHECKING:
    from nsdbench.data.split import Split

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".pgm", ".webp", ".tif", ".tiff"})
# Pictures all the same: leaving them out would train on a part of a class.
_OTHER_SUFFIXES = frozenset({".gif", ".heic", ".heif", ".avif", ".jfif", ".jp2", ".tga"})
_NO_CLASSES = frozenset({"__macosx", "@eadir", "lost+found"})  # systems and servers make them
_SPLITS = frozenset({"train", "training", "test", "testing", "val", "valid", "validation"})
TEST_FOLDERS = ("test", "val")
LARGEST_SIDE = 4096  # pixels; our choice, above it is a slip
_THREADS = 8  # files opened at a time; on a network each one waits

LAYOUT = (
    "PATH/train/CLASS/*.png and PATH/test/CLASS/*.png (or val for test), or PATH/CLASS/*.png, "
    "of which a fifth of every class becomes the test split"
)


def parse(name: str) -> tuple[Path, int | None]:
    """Split `folder:PATH[@SIZE]` into the path and the side in pixels (None: that of the files).

    A folder that exists and whose own name ends in @SIZE is that folder.

    Raises:
        ValueError: SIZE is more than 4,096.
    """
    rest = name.removeprefix("folder:")
    path, at, size = rest.rpartition("@")
    whole = user_path(rest)
    if not (at and size.isascii() and size.isdigit() and int(size) > 0) or whole.is_dir():
        return whole, None
    if int(size) > LARGEST_SIDE:
        raise ValueError(f"{name}: expected a side of at most {LARGEST_SIDE} pixels after the @")
    return user_path(path), int(size)


@dataclass(frozen=True)
class Listing:
    """The pictures of a folder by class, in the order of `classes`.

    Attributes:
        path: the folder.
        classes: sorted names.
        train: pictures of each class; all of them where no folder train/ is there.
        test: pictures of each class; empty where a fifth of `train` is taken.
    """

    path: Path
    classes: tuple[str, ...]
    train: tuple[tuple[Path, ...], ...]
    test: tuple[tuple[Path, ...], ...]

    @property
    def files(self) -> list[Path]:
        """All pictures."""
        return [file for inside in (*self.train, *self.test) for file in inside]

    def test_shares(self) -> list[int]:
        """Return how many pictures of each class are in the test split: a fifth or one at least."""
        counts = [len(inside) for inside in self.test or self.train]
        if self.test:
            return counts
        parts = shares(counts, max(len(counts), sum(counts) // 5))
        return [min(max(part, 1), n - 1) for part, n in zip(parts, counts, strict=True)]


def list_folder(path: Path) -> Listing:
    """List the class folders and the pictures in them.

    Raises:
        ValueError: a class has too few pictures to be in both splits.
        DataMissing: the folder does not exist, has no class folders, or train/ without test/.
        DataCorrupt: the classes of train/ and test/ differ, or a class folder holds no picture, or
            something that only looks like one.
    """
    if not (path / "train").is_dir():
        classes = class_names(path)
        if splits := [name for name in classes if name.lower() in _SPLITS]:
            raise DataMissing(f"{path}: {', '.join(splits)} beside no train/; expected {LAYOUT}")
        train = _list_classes(path, classes)
        for name, inside in zip(classes, train, strict=True):
            if len(inside) < 2:
                raise ValueError(
                    f"{path / name}: class {name!r} has 1 picture; expected at least two pictures "
                    "of a class, one to train on and one to test"
                )
        return Listing(path, tuple(classes), train, ())
    classes = class_names(path / "train")
    base = next((path / name for name in TEST_FOLDERS if (path / name).is_dir()), None)
    if base is None:
        raise DataMissing(f"{path}: there is train/ but neither test/ nor val/; expected {LAYOUT}")
    others = _folders(base)
    for has, lacks, where, names in (
        ("train", base.name, base, [name for name in classes if name not in others]),
        (base.name, "train", path / "train", [name for name in others if name not in classes]),
    ):
        if names:
            raise DataCorrupt(
                f"{where / names[0]}: no such folder; {has}/ has the class {names[0]!r}, {lacks}/ "
                "lacks it; both need the same classes"
            )
    return Listing(
        path, tuple(classes), _list_classes(path / "train", classes), _list_classes(base, classes)
    )


def describe(name: str) -> DatasetSpec:
    """Make the spec of a folder by listing it and opening all its pictures.

    Without @SIZE all pictures must have the size of the first; with it they are resized to a
    square of that many pixels. They are RGB if any picture is, else grey. Standardisation uses the
    ImageNet constants (their average over channels for grey), our choice: a user's data has no
    published ones. DSA includes flips.

    Raises:
        ValueError: a class has too few pictures to be in both splits, or SIZE is too large.
        DataMissing: the folder does not exist or has no class folders.
        DataCorrupt: a picture does not open or cannot be used, or train and test differ in classes.
    """
    path, size = parse(name)
    listing = list_folder(path)
    channels, height, width = _shape(tuple(map(_state, listing.files)), size)
    mean, std = (
        constants if channels == 3 else (round(sum(constants) / 3, 3),)
        for constants in IMAGENET_STATISTICS
    )
    test_size = sum(listing.test_shares())
    return DatasetSpec(
        name=name,
        image_shape=(channels, height, width),
        num_classes=len(listing.classes),
        train_size=sum(map(len, listing.train)) - (0 if listing.test else test_size),
        test_size=test_size,
        mean=mean,
        std=std,
        dsa_strategy=DSA_WITH_FLIP,
        default_depth=convnet_depth(min(height, width)),
        source=f"pictures in {path}; constants: those of ImageNet, our choice",
    )


def _state(file: Path) -> tuple[str, int, int]:
    """Identify what a file holds by its path, size and time of change."""
    try:
        status = os.stat(file)
    except OSError as error:
        raise DataCorrupt(f"{file}: expected a picture, got {error.strerror}") from error
    return os.fspath(file), status.st_size, status.st_mtime_ns


@lru_cache(maxsize=8)
def _shape(states: tuple[tuple[str, int, int], ...], size: int | None) -> tuple[int, int, int]:
    """Open all pictures and return the shape of the data set: channels, height, width."""
    from nsdbench.data.formats.picture import examine

    with ThreadPoolExecutor(_THREADS) as pool:
        headers = list(pool.map(lambda state: examine(Path(state[0])), states))
    channels = max(header[0] for header in headers)
    if size:
        return channels, size, size
    height, width = headers[0][1:]
    for (file, *_), header in zip(states, headers, strict=True):
        if header[1:] != (height, width):
            raise DataCorrupt(
                f"{file}: expected {height} x {width} pixels as in {states[0][0]}, got "
                f"{header[1]} x {header[2]}; write @SIZE behind the folder to have all pictures "
                "resized to a square of that many pixels"
            )
    return channels, height, width


def read(folder: Path, spec: DatasetSpec, part: str) -> "Split":
    """Read one split of a user's folder; labels follow the sorted class names.

    With the training split that of testing is decoded too, for the errors; the cache keeps it.

    Args:
        folder: unused, the name of the spec holds the path.
        spec: from `describe`.
        part: "train" or "test".

    Raises:
        DataMissing: a folder has gone.
        DataCorrupt: a picture does not decode.
    """
    import torch

    from nsdbench.data.formats.decode import decode_all
    from nsdbench.data.split import Split

    path, size = parse(spec.name)
    listing = list_folder(path)

    def decoded(part: str) -> Split:
        files, labels = list_part(listing, part)
        images = decode_all(files, spec.image_shape, is_resized=size is not None, is_upright=True)
        return Split(images, torch.tensor(labels))

    if part == "train":
        decoded("test")
    return decoded(part)


def class_names(base: Path) -> list[str]:
    """The sorted names of the class folders in a folder."""
    if not base.is_dir():
        raise DataMissing(f"{base}: no such folder; expected {LAYOUT}")
    names = _folders(base)
    if len(names) < 2:
        raise DataMissing(
            f"{base}: expected at least two class folders, got {names or 'none'}; expected {LAYOUT}"
        )
    return names


def _folders(base: Path) -> list[str]:
    return sorted(path.name for path in base.iterdir() if path.is_dir() and _is_ours(path.name))


def list_part(listing: Listing, part: str) -> tuple[list[Path], list[int]]:
    """List the files and labels of one split, by class and then by name."""
    files, labels = _flat(listing.test if listing.test and part == "test" else listing.train)
    if listing.test:
        return files, labels
    import torch

    from nsdbench.data.split import split_by_shares

    train, test = split_by_shares(torch.tensor(labels), listing.test_shares(), seed=0)
    rows = (train if part == "train" else test).tolist()
    return [files[row] for row in rows], [labels[row] for row in rows]


def list_classes(base: Path, classes: list[str]) -> tuple[list[Path], list[int]]:
    """List the pictures of base/CLASS/ for each class in turn, sorted by name within a class.

    Returns:
        Files and labels.

    Raises:
        DataMissing: a class folder is absent.
        DataCorrupt: a class folder holds no picture, or pictures that are not read.
    """
    return _flat(_list_classes(base, classes))


def _flat(by_class: Iterable[tuple[Path, ...]]) -> tuple[list[Path], list[int]]:
    pairs = [(file, label) for label, inside in enumerate(by_class) for file in inside]
    return [file for file, _ in pairs], [label for _, label in pairs]


def _list_classes(base: Path, classes: list[str]) -> tuple[tuple[Path, ...], ...]:
    for name in classes:
        if not (base / name).is_dir():
            raise DataMissing(f"{base / name}: no such folder; expected one for each of {classes}")
    return tuple(_pictures(base / name) for name in classes)


def _pictures(folder: Path) -> tuple[Path, ...]:
    """List the pictures of a class, sorted by name."""
    names = []
    with os.scandir(folder) as entries:
        for entry in entries:
            suffix = os.path.splitext(entry.name)[1].lower()
            if not _is_ours(entry.name):
                continue
            if entry.is_dir():
                raise DataCorrupt(
                    f"{entry.path}: a folder inside a class; put its pictures into {folder} itself"
                )
            if suffix in _OTHER_SUFFIXES:
                raise DataCorrupt(
                    f"{entry.path}: pictures of this kind are not read; convert it to PNG or JPEG, "
                    "or remove it"
                )
            if suffix in SUFFIXES:
                names.append(entry.name)
    if not names:
        raise DataCorrupt(f"{folder}: expected pictures ({', '.join(sorted(SUFFIXES))}), got 0")
    return tuple(folder / name for name in sorted(names))


def _is_ours(name: str) -> bool:
    """Say whether a file or folder may be the user's; systems leave theirs beside them."""
    return not name.startswith(".") and name.lower() not in _NO_CLASSES


SOURCE = Source(read, layout=LAYOUT)
