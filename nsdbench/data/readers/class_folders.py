"""Folders of pictures: one folder per class, in train/ and test/ or to be split.

Nothing is opened here; what systems leave beside pictures is skipped, and what would be left out of
a class without a word is an error.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from nsdbench.data.shares import shares
from nsdbench.errors import DataCorrupt, DataMissing

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".pgm", ".webp", ".tif", ".tiff"})
# Pictures all the same: leaving them out would train on a part of a class.
_OTHER_SUFFIXES = frozenset({".gif", ".heic", ".heif", ".avif", ".jfif", ".jp2", ".tga"})
_NO_CLASSES = frozenset({"__macosx", "@eadir", "lost+found"})  # systems and servers make them
_SPLITS = frozenset({"train", "training", "test", "testing", "val", "valid", "validation"})
TEST_FOLDERS = ("test", "val")

LAYOUT = (
    "PATH/train/CLASS/*.png and PATH/test/CLASS/*.png (or val for test), or PATH/CLASS/*.png, "
    "of which a fifth of every class becomes the test split"
)


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
            raise DataMissing(
                f"{path}: {', '.join(splits)} would be a class, as there is no train/; expected "
                f"{LAYOUT}"
            )
        train = _list_classes(path, classes)
        for name, inside in zip(classes, train, strict=True):
            if len(inside) < 2:
                raise ValueError(
                    f"{path / name}: class {name!r} has 1 picture; expected at least two pictures "
                    "of a class, one to train on and one to test"
                )
        return Listing(path, tuple(classes), train, ())
    classes = class_names(path / "train")
    base = test_folder(path)
    others = folders(base)
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


def test_folder(path: Path) -> Path:
    """Find the folder of the test split."""
    base = next((path / name for name in TEST_FOLDERS if (path / name).is_dir()), None)
    if base is None:
        raise DataMissing(f"{path}: there is train/ but neither test/ nor val/; expected {LAYOUT}")
    return base


def class_names(base: Path) -> list[str]:
    """The sorted names of the class folders in a folder."""
    if not base.is_dir():
        raise DataMissing(f"{base}: no such folder; expected {LAYOUT}")
    names = folders(base)
    if len(names) < 2:
        raise DataMissing(
            f"{base}: expected at least two class folders, got {names or 'none'}; expected {LAYOUT}"
        )
    return names


def list_classes(base: Path, classes: list[str]) -> tuple[list[Path], list[int]]:
    """List the pictures of base/CLASS/ for each class in turn, sorted by name within a class.

    Returns:
        Files and labels.

    Raises:
        DataMissing: a class folder is absent.
        DataCorrupt: a class folder holds no picture, or pictures that are not read.
    """
    return _flat(_list_classes(base, classes))


def folders(base: Path) -> list[str]:
    """Name the folders in a folder, sorted, but those that systems make."""
    return sorted(path.name for path in base.iterdir() if path.is_dir() and _is_ours(path.name))


def pictures(folder: Path) -> tuple[Path, ...]:
    """List the pictures of a class, sorted by name.

    Raises:
        DataCorrupt: there is a folder, or a picture that is not read; it would be left out.
    """
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
    return tuple(folder / name for name in sorted(names))


def _list_classes(base: Path, classes: list[str]) -> tuple[tuple[Path, ...], ...]:
    by_class = []
    for name in classes:
        folder = base / name
        if not folder.is_dir():
            raise DataMissing(f"{folder}: no such folder; expected one for each of {classes}")
        by_class.append(pictures(folder))
        if not by_class[-1]:
            raise DataCorrupt(f"{folder}: expected pictures ({', '.join(sorted(SUFFIXES))}), got 0")
    return tuple(by_class)


def _flat(by_class: Iterable[tuple[Path, ...]]) -> tuple[list[Path], list[int]]:
    pairs = [(file, label) for label, inside in enumerate(by_class) for file in inside]
    return [file for file, _ in pairs], [label for _, label in pairs]


def _is_ours(name: str) -> bool:
    """Say whether a file or folder may be the user's; systems leave theirs beside them."""
    return not name.startswith(".") and name.lower() not in _NO_CLASSES
