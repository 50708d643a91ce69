"""Which reader serves a dataset, where its files may lie, and where they can be fetched from."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nsdbench.data.catalog import IMAGENET_SUBSETS, PUBLISHED, DatasetSpec
from nsdbench.data.dataset import Split
from nsdbench.data.fetching import archive
from nsdbench.data.readers import (
    cifar,
    digits,
    fashion_mnist,
    image_folder,
    imagenet,
    synthetic,
    tiny_imagenet,
)
from nsdbench.errors import nearest

Reader = Callable[[Path | None, DatasetSpec, str], Split]


@dataclass(frozen=True)
class RemoteFile:
    """Name a published file.

    Attributes:
        url: where it is.
        checksum: "md5:..." or "sha256:..." of the file as published.
        num_bytes: its size.
        name: what it is called on disk.
    """

    url: str
    checksum: str
    num_bytes: int

    @property
    def name(self) -> str:
        return self.url.rsplit("/", 1)[1]


@dataclass(frozen=True)
class Source:
    """Tell how one dataset gets from disk into memory.

    Attributes:
        read: the reader.
        layout: the files in words, for the message that the data is missing.
        folders: where below a data root the files may lie, in order; "." is the root itself.
        markers: alternatives; a folder holds the dataset when all names of one alternative are in
            it. A trailing slash asks for a folder.
        system_folders: where the operating system's packages install it.
        downloads: published files; archives among them are unpacked.
        note: one more sentence for that message.
    """

    read: Reader
    layout: str = ""
    folders: tuple[str, ...] = ()
    markers: tuple[tuple[str, ...], ...] = ()
    system_folders: tuple[Path, ...] = ()
    downloads: tuple[RemoteFile, ...] = ()
    note: str = ""

    @property
    def is_bundled(self) -> bool:
        """No file has to be found: the data is generated or inside an installed package."""
        return not self.markers

    @property
    def archives(self) -> tuple[RemoteFile, ...]:
        """Those of the downloads that have to be unpacked."""
        return tuple(file for file in self.downloads if file.name.endswith(archive.SUFFIXES))


def _fashion_mnist() -> Source:
    base = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
    files = tuple(name for pair in fashion_mnist.FILES.values() for name in pair)
    # md5 sums: readme of zalandoresearch/fashion-mnist
    published = {
        "train-images-idx3-ubyte.gz": ("8d4fb7e6c68d591d4c3dfef9ec88bf0d", 26_421_880),
        "train-labels-idx1-ubyte.gz": ("25c81989df183df01b3e8a0aad5dffbe", 29_515),
        "t10k-images-idx3-ubyte.gz": ("bef4ecab320f06d8554ea6380940ec79", 4_422_102),
        "t10k-labels-idx1-ubyte.gz": ("bb300cfdad3c16e7a12a480ee83cd310", 5_148),
    }
    return Source(
        fashion_mnist.read,
        layout=", ".join(f"{name}.gz" for name in files),
        folders=("FashionMNIST", "FashionMNIST/raw", "fashion-mnist", "."),
        markers=(tuple(f"{name}.gz" for name in files), files),
        system_folders=(Path("/usr/share/datasets/fashion-mnist"),),
        downloads=tuple(
            RemoteFile(base + name, f"md5:{md5}", num_bytes)
            for name, (md5, num_bytes) in published.items()
        ),
        note="Debian and Ubuntu have it as a package: apt install dataset-fashion-mnist",
    )


def _cifar(num_classes: int, md5: str, num_bytes: int) -> Source:
    stem = f"cifar-{num_classes}"
    name = f"CIFAR{num_classes}"
    python_folder = f"{stem}-batches-py" if num_classes == 10 else f"{stem}-python"
    binary_folder = f"{stem}-batches-bin" if num_classes == 10 else f"{stem}-binary"
    versions = (cifar.PYTHON_FILES[num_classes], cifar.BINARY_FILES[num_classes])
    url = f"https://www.cs.toronto.edu/~kriz/{stem}-python.tar.gz"
    return Source(
        cifar.read,
        layout=f"{', '.join((*versions[0]['train'], *versions[0]['test']))} (python version), or "
        f"{', '.join((*versions[1]['train'], *versions[1]['test']))} (binary version)",
        folders=(
            name, f"{name}/{python_folder}", f"{name}/{binary_folder}", python_folder,
            binary_folder, ".",
        ),
        markers=tuple((*files["train"], *files["test"]) for files in versions),
        downloads=(RemoteFile(url, f"md5:{md5}", num_bytes),),
        note=f"the folder {python_folder} or {binary_folder} as unpacked, or the archive "
        f"{stem}-python.tar.gz itself, will do as well",
    )  # fmt: skip


def _tiny_imagenet() -> Source:
    return Source(
        tiny_imagenet.read,
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


def _imagenet(name: str) -> Source:
    classes = imagenet.wnids(name)
    train = tuple(f"train/{wnid}/" for wnid in classes)
    return Source(
        imagenet.read,
        layout="train/ID/*.JPEG and val/ID/*.JPEG (or val/*.JPEG and Kaggle's "
        f"{imagenet.SOLUTION}), ID = {', '.join(classes)}",
        folders=(
            "ImageNet", name, "imagenet", "ILSVRC2012", "ILSVRC/Data/CLS-LOC",
            "ImageNet/ILSVRC/Data/CLS-LOC", ".",
        ),
        markers=(
            (*train, *(f"val/{wnid}/" for wnid in classes)),
            *((*train, "val/ILSVRC2012_val_00000001.JPEG", p) for p in imagenet.SOLUTION_PLACES),
        ),
        note="ImageNet may not be passed on: register at image-net.org (or take Kaggle's "
        "imagenet-object-localization-challenge) and point to the folder that holds train/ and "
        "val/, either whole or with the ten classes of the subset only",
    )  # fmt: skip


_SOURCES: dict[str, Source] = {
    **{name: Source(digits.read) for name in PUBLISHED if name.startswith("Digits")},
    "FashionMNIST": _fashion_mnist(),
    # md5 sums: www.cs.toronto.edu/~kriz/cifar.html
    "CIFAR10": _cifar(10, "c58f30108f718f92721af3b95e74349a", 170_498_071),
    "CIFAR100": _cifar(100, "eb9058c3a382ffc7106e4002c42a8d85", 169_001_437),
    "TinyImageNet": _tiny_imagenet(),
    **{name: _imagenet(name) for name in IMAGENET_SUBSETS},
}


def source(name: str) -> Source:
    """Find the source of a dataset.

    Raises:
        ValueError: no such dataset.
    """
    if name.startswith("synthetic:"):
        return Source(synthetic.read)
    if name.startswith("folder:"):
        return Source(image_folder.read)
    if name not in _SOURCES:
        raise ValueError(
            f"unknown dataset {name!r}; known: {', '.join(_SOURCES)}{nearest(name, _SOURCES)}"
        )
    return _SOURCES[name]
