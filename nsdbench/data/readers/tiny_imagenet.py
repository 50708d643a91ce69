"""TinyImageNet in the folder layout of its archive, tiny-imagenet-200."""

from pathlib import Path
from typing import TYPE_CHECKING

from nsdbench.data.description import (
    DSA_WITH_FLIP,
    IMAGENET_STATISTICS,
    DatasetSpec,
    RemoteFile,
    Source,
)
from nsdbench.errors import DataCorrupt

if TYPE_CHECKING:
    from nsdbench.data.split import Split


def read(folder: Path, spec: DatasetSpec, part: str) -> "Split":
    """Read the training split, or the validation split as the test split.

    A label is the rank of the class id among the sorted ids: the order of an ImageFolder, which
    the reference code uses (wnids.txt has another one). Grey pictures become RGB. The decoded
    arrays are cached.

    Args:
        folder: holds wnids.txt, train/ID/images/*.JPEG, val/images/ and val/val_annotations.txt.
        spec: expected sizes and number of classes.
        part: "train" or "test".

    Raises:
        DataCorrupt: a file is absent, does not decode, is not of the size of the spec, or a count
            or class id is not as announced.
    """
    import torch

    from nsdbench.data.formats.decode import decode_all
    from nsdbench.data.split import Split

    wnids = _lines(folder / "wnids.txt")
    classes = {wnid: label for label, wnid in enumerate(sorted(set(wnids)))}
    if len(wnids) != spec.num_classes or len(classes) != spec.num_classes:
        raise DataCorrupt(
            f"{folder / 'wnids.txt'}: expected {spec.num_classes} different class ids, got "
            f"{len(wnids)} lines, {len(classes)} of them different"
        )
    list_files = _list_train if part == "train" else _list_validation
    files, labels = list_files(folder, classes, spec)
    return Split(decode_all(files, spec.image_shape, is_resized=False), torch.tensor(labels))


def _list_train(
    folder: Path, classes: dict[str, int], spec: DatasetSpec
) -> tuple[list[Path], list[int]]:
    per_class = spec.size("train") // spec.num_classes
    files: list[Path] = []
    for wnid in classes:
        inside = sorted((folder / "train" / wnid / "images").glob("*.JPEG"))
        if len(inside) != per_class:
            raise DataCorrupt(
                f"{folder / 'train' / wnid / 'images'}: expected {per_class} .JPEG files, got "
                f"{len(inside)}"
            )
        files += inside
    return files, [label for label in classes.values() for _ in range(per_class)]


def _list_validation(
    folder: Path, classes: dict[str, int], spec: DatasetSpec
) -> tuple[list[Path], list[int]]:
    annotations = folder / "val" / "val_annotations.txt"
    lines = _lines(annotations)
    if len(lines) != spec.test_size:
        raise DataCorrupt(f"{annotations}: expected {spec.test_size} lines, got {len(lines)}")
    files, labels = [], []
    for number, line in enumerate(lines, start=1):
        # file name, class id, then a bounding box, separated by tabs
        name, wnid, *_ = [*line.split("\t"), ""]
        file = folder / "val" / "images" / name
        if wnid not in classes:
            raise DataCorrupt(f"{annotations}, line {number}: unknown class id {wnid!r}")
        if not file.is_file():
            raise DataCorrupt(f"{file}: named in {annotations}, line {number}, but absent")
        files.append(file)
        labels.append(classes[wnid])
    return files, labels


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").split("\n")[:-1]
    except (OSError, UnicodeDecodeError) as error:
        raise DataCorrupt(f"{path}: expected a text file, it cannot be read ({error})") from error


_MEAN, _STD = IMAGENET_STATISTICS

DATASETS = {
    DatasetSpec(
        name="TinyImageNet",
        image_shape=(3, 64, 64),
        num_classes=200,
        train_size=100_000,
        test_size=10_000,
        mean=_MEAN,
        std=_STD,
        dsa_strategy=DSA_WITH_FLIP,
        default_depth=4,
        is_downloadable=True,
        source="Stanford CS231n, tiny-imagenet-200; test = its validation split; constants: "
        "MTT reference code (those of ImageNet)",
    ): Source(
        read,
        layout="wnids.txt, train/, val/images/ and val/val_annotations.txt",
        folders=("TinyImageNet", "TinyImageNet/tiny-imagenet-200", "tiny-imagenet-200", "."),
        markers=(("wnids.txt", "train/", "val/images/", "val/val_annotations.txt"),),
        downloads=(
            RemoteFile(
                "http://cs231n.stanford.edu/tiny-imagenet-200.zip",
                "md5:90528d7ca1a48142e341f4ef8d21d0de",
                248_100_043,
            ),
        ),
        note="the folder tiny-imagenet-200 as unpacked, or tiny-imagenet-200.zip itself, will do "
        "as well",
    )
}
