"""A user's own images: one folder per class, named `folder:PATH[@SIZE]`."""

from pathlib import Path
from typing import TYPE_CHECKING

from nsdbench.data.description import (
    DSA_WITH_FLIP,
    IMAGENET_STATISTICS,
    DatasetSpec,
    Source,
    convnet_depth,
)
from nsdbench.errors import DataCorrupt, DataMissing

if TYPE_CHECKING:
    from nsdbench.data.split import Split

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".pgm", ".webp", ".tif", ".tiff"})
TEST_FOLDERS = ("test", "val")

LAYOUT = (
    "PATH/train/CLASS/*.png and PATH/test/CLASS/*.png (or val for test), or PATH/CLASS/*.png, "
    "of which a fifth of every class becomes the test split"
)


def parse(name: str) -> tuple[Path, int | None]:
    """Split `folder:PATH[@SIZE]` into the path and the side in pixels (None: that of the files)."""
    rest = name.removeprefix("folder:")
    path, at, size = rest.rpartition("@")
    if at and size.isdigit() and int(size) > 0:
        return Path(path).expanduser(), int(size)
    return Path(rest).expanduser(), None


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

    path, size = parse(name)
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
    """Read one split of a user's folder; labels follow the sorted class names.

    Args:
        folder: unused, the name of the spec holds the path.
        spec: from `describe`.
        part: "train" or "test".

    Raises:
        DataMissing: a folder has gone.
        DataCorrupt: a picture does not decode, or has another size than the first and no @SIZE was
            given.
    """
    import torch

    from nsdbench.data.formats.decode import decode_all
    from nsdbench.data.split import Split

    path, size = parse(spec.name)
    files, labels = list_part(path, part)
    images = decode_all(files, spec.image_shape, is_resized=size is not None)
    return Split(images, torch.tensor(labels))


def class_names(path: Path) -> list[str]:
    """The sorted names of the class folders of the training split."""
    base = path / "train" if (path / "train").is_dir() else path
    if not base.is_dir():
        raise DataMissing(f"{base}: no such folder; expected {LAYOUT}")
    names = sorted(p.name for p in base.iterdir() if p.is_dir() and not p.name.startswith("."))
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
    base = next((path / name for name in TEST_FOLDERS if (path / name).is_dir()), None)
    if base is None:
        raise DataMissing(f"{path}: there is train/ but neither test/ nor val/; expected {LAYOUT}")
    return list_classes(base, classes)


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
        inside = sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES)
        if not inside:
            raise DataCorrupt(f"{folder}: expected pictures ({', '.join(sorted(SUFFIXES))}), got 0")
        files += inside
        labels += [label] * len(inside)
    return files, labels


SOURCE = Source(read, layout=LAYOUT)
