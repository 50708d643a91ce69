"""Which reader serves a dataset, where its files may lie, and where they can be fetched from."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nsdbench.data import digits, fashion_mnist, synthetic
from nsdbench.data.catalog import PUBLISHED, DatasetSpec
from nsdbench.data.dataset import Split

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
        folders: where below a data root the files may lie, in order; "." is the root itself.
        markers: alternatives; a folder holds the dataset when all names of one alternative are in
            it. A trailing slash asks for a folder.
        system_folders: where the operating system's packages install it.
        downloads: published files; archives among them are unpacked.
        note: one sentence for the message that the data is missing.
    """

    read: Reader
    folders: tuple[str, ...] = ()
    markers: tuple[tuple[str, ...], ...] = ()
    system_folders: tuple[Path, ...] = ()
    downloads: tuple[RemoteFile, ...] = ()
    note: str = ""

    @property
    def is_bundled(self) -> bool:
        """No file has to be found: the data is generated or inside an installed package."""
        return not self.markers


_FASHION_URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
_FASHION_NAMES = tuple(name for pair in fashion_mnist.FILES.values() for name in pair)

_SOURCES: dict[str, Source] = {
    **{name: Source(digits.read) for name in PUBLISHED if name.startswith("Digits")},
    "FashionMNIST": Source(
        fashion_mnist.read,
        folders=("FashionMNIST", "FashionMNIST/raw", "fashion-mnist", "."),
        markers=(tuple(f"{name}.gz" for name in _FASHION_NAMES), _FASHION_NAMES),
        system_folders=(Path("/usr/share/datasets/fashion-mnist"),),
        # md5 sums: torchvision and the readme of zalandoresearch/fashion-mnist.
        downloads=(
            RemoteFile(
                _FASHION_URL + "train-images-idx3-ubyte.gz",
                "md5:8d4fb7e6c68d591d4c3dfef9ec88bf0d", 26_421_880,
            ),
            RemoteFile(
                _FASHION_URL + "train-labels-idx1-ubyte.gz",
                "md5:25c81989df183df01b3e8a0aad5dffbe", 29_515,
            ),
            RemoteFile(
                _FASHION_URL + "t10k-images-idx3-ubyte.gz",
                "md5:bef4ecab320f06d8554ea6380940ec79", 4_422_102,
            ),
            RemoteFile(
                _FASHION_URL + "t10k-labels-idx1-ubyte.gz",
                "md5:bb300cfdad3c16e7a12a480ee83cd310", 5_148,
            ),
        ),
        note="Debian and Ubuntu: apt install dataset-fashion-mnist",
    ),
}  # fmt: skip


def source(name: str) -> Source:
    """Find the source of a dataset whose name `spec` accepts."""
    if name.startswith("synthetic:"):
        return Source(synthetic.read)
    return _SOURCES[name]
