"""What a reader module declares about its data sets: the images, and how to get them.

Nothing here, and nothing at the top of a reader module, imports torch or numpy: names, sizes and
places are known before a single file is read.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nsdbench.data.split import Split

# Augmentation strategies of DSA. MTT reference code; flip is dropped where a mirrored image is
# another class or none (digits), kept for FashionMNIST (DC readme).
DSA_WITH_FLIP = "color_crop_cutout_flip_scale_rotate"
DSA_WITHOUT_FLIP = "color_crop_cutout_scale_rotate"

KINDS = (
    "standardise",
    "standardise_dc",
    "zca",
    "zca_relative",
    "zca_standardised",
    "zca_kip",
    "zca_rfad",
)  # of preprocessing

# of every pixel of ImageNet: mean, std
IMAGENET_STATISTICS = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True)
class DatasetSpec:
    """Describe a dataset: sizes, constants and the defaults methods use with it.

    Attributes:
        name: as `data.load` takes it.
        image_shape: channels, height, width.
        num_classes: labels are 0..num_classes-1.
        train_size: images in the training split; None = as many as the folder holds.
        test_size: images in the test split.
        mean, std: per channel, in [0, 1] units; what `standardise` subtracts and divides by.
        dc_statistics: mean and std of `standardise_dc`, where the code of DC, DSA and DM has other
            constants than those; None = it has the same.
        dsa_strategy: DSA augmentation that suits the images.
        default_depth: blocks of the ConvNet, so that the last feature map is 4 x 4.
        default_preprocessing: kind used where a recipe names none.
        is_downloadable: `load` can fetch it; False for generated, bundled and local-only data.
        source: where the data and the constants come from.
        classes: names of the classes, in the order of the labels, where the folders of a copy are
            called by them; empty = by the labels.
        stands_for: the data set that this is a lossy copy of, whose recipes and printed numbers
            hold for it; empty = none.
    """

    name: str
    image_shape: tuple[int, int, int]
    num_classes: int
    train_size: int | None
    test_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    dsa_strategy: str
    default_depth: int
    default_preprocessing: str = "standardise"
    is_downloadable: bool = False
    source: str = ""
    classes: tuple[str, ...] = ()
    stands_for: str = ""
    dc_statistics: tuple[tuple[float, ...], tuple[float, ...]] | None = None

    @property
    def class_folders(self) -> tuple[str, ...]:
        """Name the folders of the classes in a copy, in the order of the labels."""
        return self.classes or tuple(map(str, range(self.num_classes)))

    def copy(self, name: str, source: str) -> "DatasetSpec":
        """Describe a lossy copy: the same images in other files, with the same constants."""
        return replace(self, name=name, source=source, stands_for=self.name, is_downloadable=False)

    def size(self, part: str) -> int:
        """Return the number of images of a part, "train" or "test".

        Raises:
            ValueError: only the folder knows it.
        """
        size = self.train_size if part == "train" else self.test_size
        if size is None:
            raise ValueError(f"{self.name}: the number of {part} images depends on the folder")
        return size


@dataclass(frozen=True)
class RemoteFile:
    """Name a published file.

    Attributes:
        url: where it is.
        checksum: "md5:..." or "sha256:..." of the file as published.
        num_bytes: its size.
    """

    url: str
    checksum: str
    num_bytes: int

    @property
    def name(self) -> str:
        """What it is called on disk."""
        return self.url.rsplit("/", 1)[1]

    @property
    def is_archive(self) -> bool:
        """Whether it has to be unpacked."""
        return self.name.endswith((".tar.gz", ".tgz", ".zip"))


@dataclass(frozen=True)
class Source:
    """Tell how one dataset gets from disk into memory.

    Attributes:
        read: maps the place that `data.locate` gives, the spec and "train" or "test" to a split.
        layout: the files in words, for the message that the data is missing.
        folders: where below a data root the files may lie, in order; "." is the root itself.
        markers: alternatives; a folder holds the dataset when all names of one alternative are in
            it. A trailing slash asks for a folder.
        system_folders: where the operating system's packages install it.
        downloads: published files; archives among them are unpacked.
        note: one more sentence for that message.
    """

    read: "Callable[[Path, DatasetSpec, str], Split]"
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
        return tuple(file for file in self.downloads if file.is_archive)


@dataclass(frozen=True)
class DatasetFamily:
    """A data set of a package outside: what is known of it, and how it is read.

    Attributes:
        spec: its description; its name is that of the entry point.
        source: where its files are, and what reads them.
    """

    spec: DatasetSpec
    source: Source


def convnet_depth(size: int) -> int:
    """Number of ConvNet blocks that brings `size` pixels to about 4 (28 counts as 32)."""
    return max(1, round(math.log2(size / 4)))
