"""A user's own images: one folder per class, named `folder:PATH[@SIZE][=NAME]`.

With =NAME they are a lossy copy of the data set NAME and stand for it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from nsdbench.data.description import (
    DSA_WITH_FLIP,
    IMAGENET_STATISTICS,
    DatasetSpec,
    Source,
    convnet_depth,
)
from nsdbench.errors import DataCorrupt, DataMissing

if TYPE_CHECKING:
    from torch import Tensor

    from nsdbench.data.split import Split

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".pgm", ".webp", ".tif", ".tiff"})
TEST_FOLDERS = ("test", "val")

LAYOUT = (
    "PATH/train/CLASS/*.png and PATH/test/CLASS/*.png (or val for test), or PATH/CLASS/*.png, "
    "of which a fifth of every class becomes the test split"
)


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
    """Split the name of a folder; a path that ends like =NAME itself needs a slash at its end."""
    rest = name.removeprefix("folder:")
    head, _, stands_for = rest.rpartition("=")
    if not head or not stands_for or "/" in stands_for:
        head, stands_for = rest, ""
    path, at, size = head.rpartition("@")
    if at and size.isdigit() and int(size) > 0:
        return FolderName(Path(path).expanduser(), int(size), stands_for)
    return FolderName(Path(head).expanduser(), None, stands_for)


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
    """Make the spec of a folder by listing it and opening its first picture.

    Without @SIZE all pictures must have the size of the first; with it they are resized to a
    square of that many pixels. The first picture decides between grey and RGB. Standardisation
    uses the ImageNet constants (their average over channels for grey), our choice: a user's data
    has no published ones. DSA includes flips.

    Raises:
        ValueError: one folder holds all pictures, and only one of each class.
        DataMissing: the folder does not exist or has no class folders.
        DataCorrupt: the first picture does not open.
    """
    from PIL import Image, UnidentifiedImageError

    path, size, _ = parse(name)
    classes = class_names(path)
    if (path / "train").is_dir():
        files, _ = list_part(path, "train")
        test_size = len(list_part(path, "test")[0])
        train_size = len(files)
    else:
        files, _ = list_classes(path, classes)
        test_size = _test_share(len(files), len(classes))
        train_size = len(files) - test_size
        if train_size < 1:
            raise ValueError(f"{path}: expected at least two pictures of a class, got one of each")
    try:
        with Image.open(files[0]) as picture:
            channels = 1 if picture.mode in ("1", "L") else 3
            height, width = (size, size) if size else (picture.height, picture.width)
    except (OSError, UnidentifiedImageError) as error:
        raise DataCorrupt(f"{files[0]}: expected a picture, it does not open ({error})") from error
    mean, std = (
        constants if channels == 3 else (round(sum(constants) / 3, 3),)
        for constants in IMAGENET_STATISTICS
    )
    return DatasetSpec(
        name=name,
        image_shape=(channels, height, width),
        num_classes=len(classes),
        train_size=train_size,
        test_size=test_size,
        mean=mean,
        std=std,
        dsa_strategy=DSA_WITH_FLIP,
        default_depth=convnet_depth(min(height, width)),
        source=f"pictures in {path}; constants: those of ImageNet, our choice",
    )


def read(folder: Path, spec: DatasetSpec, part: str) -> "Split":
    """Read one split of a user's folder.

    Labels follow the sorted class names; those of a copy are the labels of the data set it stands
    for.

    Args:
        folder: unused, the name of the spec holds the path.
        spec: from `describe` or `describe_copy`.
        part: "train" or "test".

    Raises:
        DataMissing: a folder has gone.
        DataCorrupt: a picture does not decode, or has another size than the first (or the data set
            it stands for) and no @SIZE was given; a copy has other classes or numbers of images.
    """
    import torch

    from nsdbench.data.formats.decode import decode_all
    from nsdbench.data.split import Split

    path, size, stands_for = parse(spec.name)
    if stands_for:
        return read_copy(path, spec, part, is_resized=size is not None)
    files, labels = list_part(path, part)
    images = decode_all(files, spec.image_shape, is_resized=size is not None)
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

    base = path / part if part == "train" else _test_folder(path)
    if not base.is_dir():
        raise DataMissing(f"{base}: no such folder; expected {LAYOUT}")
    inside = {name: _pictures(base / name) for name in _folders(base)}
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


def class_names(path: Path) -> list[str]:
    """The sorted names of the class folders of the training split."""
    base = path / "train" if (path / "train").is_dir() else path
    if not base.is_dir():
        raise DataMissing(f"{base}: no such folder; expected {LAYOUT}")
    names = _folders(base)
    if len(names) < 2:
        raise DataMissing(
            f"{base}: expected at least two class folders, got {names or 'none'}; expected {LAYOUT}"
        )
    return names


def list_part(path: Path, part: str) -> tuple[list[Path], list[int]]:
    """List the files and labels of one split, by class and then by name."""
    classes = class_names(path)
    if not (path / "train").is_dir():
        import torch

        from nsdbench.data.split import stratified_split

        files, labels = list_classes(path, classes)
        share = _test_share(len(files), len(classes))
        train, test = stratified_split(torch.tensor(labels), share, seed=0)
        rows = {"train": train, "test": test}[part].tolist()
        return [files[row] for row in rows], [labels[row] for row in rows]
    if part == "train":
        return list_classes(path / "train", classes)
    return list_classes(_test_folder(path), classes)


def _test_folder(path: Path) -> Path:
    """Find the folder of the test split."""
    base = next((path / name for name in TEST_FOLDERS if (path / name).is_dir()), None)
    if base is None:
        raise DataMissing(f"{path}: there is train/ but neither test/ nor val/; expected {LAYOUT}")
    return base


def _folders(base: Path) -> list[str]:
    """Name the folders in a folder, sorted, but hidden ones."""
    return sorted(p.name for p in base.iterdir() if p.is_dir() and not p.name.startswith("."))


def _pictures(folder: Path) -> list[Path]:
    """List the pictures in a folder, sorted by name."""
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES)


def _test_share(num_files: int, num_classes: int) -> int:
    """Return how many pictures of a folder without train/ become the test split."""
    return max(num_classes, num_files // 5)


def list_classes(base: Path, classes: list[str]) -> tuple[list[Path], list[int]]:
    """List the pictures of base/CLASS/ for each class in turn, sorted by name within a class.

    Raises:
        DataMissing: a class folder is absent.
        DataCorrupt: a class folder holds no picture.
    """
    files: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        folder = base / name
        if not folder.is_dir():
            raise DataMissing(f"{folder}: no such folder; expected one for each of {classes}")
        inside = _pictures(folder)
        if not inside:
            raise DataCorrupt(f"{folder}: expected pictures ({', '.join(sorted(SUFFIXES))}), got 0")
        files += inside
        labels += [label] * len(inside)
    return files, labels


SOURCE = Source(read, layout=LAYOUT)
