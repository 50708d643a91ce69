"""SVHN, the cropped digits of house numbers, in its two MATLAB files."""

from pathlib import Path
from typing import TYPE_CHECKING

from nsdbench.data.description import DSA_WITHOUT_FLIP, DatasetSpec, RemoteFile, Source
from nsdbench.data.fetching.archive import is_intact
from nsdbench.errors import DataCorrupt

if TYPE_CHECKING:
    from nsdbench.data.split import Split

FILES = {"train": "train_32x32.mat", "test": "test_32x32.mat"}

# torchvision, datasets/svhn.py: address and md5; bytes as served there
_BASE = "http://ufldl.stanford.edu/housenumbers/"
FILE_MD5 = {
    "train_32x32.mat": "e26dedcc434d2e4c54c9b2d4a06d8373",
    "test_32x32.mat": "eb5a983be6a315427106f1b164d9cef3",
}
_BYTES = {"train_32x32.mat": 182_040_794, "test_32x32.mat": 64_275_384}


def read(
    folder: Path, spec: DatasetSpec, part: str, checksums: dict[str, str] | None = None
) -> "Split":
    """Read one split.

    A file holds X, uint8 [height, width, channels, N], and y, [N, 1], in which 10 stands for the
    digit 0.

    Args:
        folder: holds train_32x32.mat and test_32x32.mat; the images of extra_32x32.mat are not
            used.
        spec: expected sizes and number of classes.
        part: "train" or "test".
        checksums: md5 by file name; files not in it are not compared. Default: the published ones.

    Raises:
        DataCorrupt: a file is absent, altered, no MATLAB file of version 5, or holds other arrays,
            another number of images or other labels than announced.
    """
    import numpy as np
    import torch
    from scipy.io import loadmat

    from nsdbench.data.split import Split

    path = folder / FILES[part]
    if not path.is_file():
        raise DataCorrupt(f"{path}: expected {' and '.join(FILES.values())} in {folder}")
    md5 = (FILE_MD5 if checksums is None else checksums).get(path.name)
    if md5 is not None and not is_intact(path, f"md5:{md5}"):
        raise DataCorrupt(
            f"{path}: truncated or altered: expected md5 {md5}, got another "
            f"({path.stat().st_size} bytes); delete it and fetch it again"
        )
    try:
        arrays = loadmat(path, variable_names=["X", "y"])
    except Exception as error:  # a damaged file makes the reader raise almost anything
        raise DataCorrupt(
            f"{path}: expected a MATLAB file of version 5, it does not read ({error}); delete it "
            "and fetch it again"
        ) from error
    channels, height, width = spec.image_shape
    count = spec.size(part)
    expected = {"X": (height, width, channels, count), "y": (count, 1)}
    for name, shape in expected.items():
        array = arrays.get(name)
        if not isinstance(array, np.ndarray) or array.dtype.kind != "u" or array.shape != shape:
            got = "none" if array is None else f"{array.dtype} {array.shape}"
            raise DataCorrupt(f"{path}: expected {name} of unsigned bytes {shape}, got {got}")
    labels = arrays["y"].reshape(-1).astype(np.int64)
    if labels.min() < 1 or labels.max() > spec.num_classes:
        raise DataCorrupt(
            f"{path}: expected labels 1..{spec.num_classes}, got {labels.min()}..{labels.max()}"
        )
    images = np.ascontiguousarray(arrays["X"].transpose(3, 2, 0, 1).astype(np.uint8))
    return Split(torch.from_numpy(images), torch.from_numpy(labels % spec.num_classes))


DATASETS = {
    DatasetSpec(
        name="SVHN",
        image_shape=(3, 32, 32),
        num_classes=10,
        train_size=73_257,
        test_size=26_032,
        mean=(0.4377, 0.4438, 0.4728),
        std=(0.1980, 0.2010, 0.1970),
        dsa_strategy=DSA_WITHOUT_FLIP,
        default_depth=3,
        is_downloadable=True,
        source="Netzer et al. 2011, format 2, without the extra images; constants: DC reference "
        "code",
    ): Source(
        read,
        layout=", ".join(FILES.values()),
        folders=("SVHN", "svhn", "."),
        markers=(tuple(FILES.values()),),
        downloads=tuple(
            RemoteFile(f"{_BASE}{name}", f"md5:{md5}", _BYTES[name])
            for name, md5 in FILE_MD5.items()
        ),
    )
}
