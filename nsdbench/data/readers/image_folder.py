"""A user's own images: one folder per class, named `folder:PATH[@SIZE][=NAME]`.

With =NAME they are a lossy copy of the data set NAME and stand for it. All pictures of both splits
are decoded when the training split is read, and those that stand for nothing are opened when the
folder is described, so that what is wrong with one is said before hours of work.
"""

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from nsdbench.data.description import (
    DSA_WITH_FLIP,
    IMAGENET_STATISTICS,
    DatasetSpec,
    Source,
    convnet_depth,
)
from nsdbench.data.readers.class_folders import (
    LAYOUT,
    Listing,
    folders,
    list_folder,
    list_part,
    pictures,
    test_folder,
)
from nsdbench.errors import DataCorrupt, DataMissing
from nsdbench.files import user_path

if TYPE_CHECKING:
    from torch import Tensor

    from nsdbench.data.split import Split

LARGEST_SIDE = 4096  # pixels; our choice, above it is a slip
_THREADS = 8  # files opened at a time; on a network each one waits


class FolderName(NamedTuple):
    """What `folder:PATH[@SIZE][=NAME]` says.

    Attributes:
        path: the folder.
        size: side of the images in pixels; None = that of the files.
        stands_for: the data set that the pictures are a copy of; empty = none.
    """

    path: Path
    size: int | None
    stands_for: str


def parse(name: str) -> FolderName:
    """Split the name of a folder.

    A folder that exists is that folder, though its own name ends like @SIZE or =NAME; one that does
    not exist yet and ends like =NAME needs a slash at its end.

    Raises:
        ValueError: SIZE is more than 4,096.
    """
    rest = name.removeprefix("folder:")
    head, _, stands_for = rest.rpartition("=")
    if not head or not stands_for or "/" in stands_for or user_path(rest).is_dir():
        head, stands_for = rest, ""
    path, at, size = head.rpartition("@")
    whole = user_path(head)
    if not (at and size.isascii() and size.isdigit() and int(size) > 0) or whole.is_dir():
        return FolderName(whole, None, stands_for)
    if int(size) > LARGEST_SIDE:
        raise ValueError(f"{name}: expected a side of at most {LARGEST_SIDE} pixels after the @")
    return FolderName(user_path(path), int(size), stands_for)


def describe_copy(name: str, original: DatasetSpec) -> DatasetSpec:
    """Describe a folder that stands for a data set, without looking at its files.

    Raises:
        ValueError: the data set is a copy itself, or has no fixed number of images for every class,
            or @SIZE is not the side of its images.
    """
    path, size, _ = parse(name)
    if original.stands_for:
        raise ValueError(
            f"{name}: {original.name} is a copy itself; take folder:PATH={original.stands_for}"
        )
    sizes = (original.train_size, original.test_size)
    if any(not total or total % original.num_classes for total in sizes):
        raise ValueError(
            f"{name}: no folder stands for {original.name}, whose classes have no fixed number of "
            f"images; take folder:{path}"
        )
    _, height, width = original.image_shape
    if size not in (None, height):
        raise ValueError(f"{name}: images of {original.name} have {width} pixels, got @{size}")
    return original.copy(
        name, f"pictures in {path}, a copy of {original.name}; constants: those of {original.name}"
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
    path, size, _ = parse(name)
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
    """Read one split of a user's folder.

    Labels follow the sorted class names; those of a copy are the labels of the data set it stands
    for. With the training split that of testing is decoded too, for the errors; the cache keeps it.

    Args:
        folder: unused, the name of the spec holds the path.
        spec: from `describe` or `describe_copy`.
        part: "train" or "test".

    Raises:
        DataMissing: a folder has gone.
        DataCorrupt: a picture does not decode, or has another size than the first (or the data set
            it stands for) and no @SIZE was given; a copy has other classes or numbers of images.
    """
    path, size, stands_for = parse(spec.name)
    if stands_for:
        split = read_copy(path, spec, part, is_resized=size is not None)
    else:
        split = _read_part(list_folder(path), spec, part, is_resized=size is not None)
    if part == "train":
        read(folder, spec, "test")
    return split


def _read_part(listing: Listing, spec: DatasetSpec, part: str, *, is_resized: bool) -> "Split":
    import torch

    from nsdbench.data.formats.decode import decode_all
    from nsdbench.data.split import Split

    files, labels = list_part(listing, part)
    images = decode_all(files, spec.image_shape, is_resized=is_resized, is_upright=True)
    return Split(images, torch.tensor(labels))


def read_copy(path: Path, spec: DatasetSpec, part: str, *, is_resized: bool = False) -> "Split":
    """Read one split of a copy from PATH/train/CLASS/ and PATH/test/CLASS/ (or val for test).

    Args:
        path: the folder.
        spec: of the copy; names and numbers its classes.
        part: "train" or "test".
        is_resized: take pictures of other sizes.

    Raises:
        DataMissing: the folder of the split is absent.
        DataCorrupt: a class is absent or unknown, or has another number of pictures, all of which
            the message names; or a picture does not decode.
    """
    from nsdbench.data.formats.decode import decode_all

    base = path / part if part == "train" else test_folder(path)
    if not base.is_dir():
        raise DataMissing(f"{base}: no such folder; expected {LAYOUT}")
    inside = {name: pictures(base / name) for name in folders(base)}
    check_counts(base, {name: len(files) for name, files in inside.items()}, spec, part)
    files = [file for name in spec.class_folders for file in inside[name]]
    return labelled(decode_all(files, spec.image_shape, is_resized=is_resized), spec)


def check_counts(where: Path, counts: Mapping[str, int], spec: DatasetSpec, part: str) -> None:
    """Refuse other classes than those of a data set, and other numbers of images.

    Args:
        where: as the message begins.
        counts: number of pictures by name of the class.
        spec: of a copy.
        part: "train" or "test".

    Raises:
        DataCorrupt: the message names every class that is wrong.
    """
    per_class = spec.size(part) // spec.num_classes
    expected = dict.fromkeys(spec.class_folders, per_class)
    wrong = [
        f"{name}: {counts.get(name, 'absent') if name in expected else 'unknown'}"
        for name in [*expected, *counts.keys() - expected.keys()]
        if counts.get(name) != expected.get(name)
    ]
    if wrong:
        raise DataCorrupt(
            f"{where}: expected {per_class} pictures in each of {', '.join(expected)}; got "
            f"{', '.join(wrong)}"
        )


def labelled(images: "Tensor", spec: DatasetSpec) -> "Split":
    """Label images that lie class by class, equally many of each."""
    import torch

    from nsdbench.data.split import Split

    labels = torch.arange(spec.num_classes).repeat_interleave(len(images) // spec.num_classes)
    return Split(images, labels)


SOURCE = Source(read, layout=LAYOUT)
