"""Decode picture files to uint8 arrays of one size, once: the result is kept in the cache."""

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import ImageOps
from torch import Tensor

from nsdbench.data.fetching.cache import find_cache_dir, keep
from nsdbench.data.formats.picture import opened
from nsdbench.data.formats.resize import resize_to_uint8
from nsdbench.errors import DataCorrupt
from nsdbench.sums import open_sealed, sealed, set_aside


def decode_all(
    files: Sequence[Path],
    shape: tuple[int, int, int],
    *,
    is_resized: bool,
    is_upright: bool = False,
) -> Tensor:
    """Decode files to [N, C, H, W], in the order given.

    The decoded array is written to the cache under a key made of shape, paths, sizes and times of
    change, so a second call reads one file instead of N.

    Args:
        files: pictures in any format Pillow reads.
        shape: channels (1 = grey, 3 = RGB), height, width of the result.
        is_resized: resize whatever does not have that size (aspect not kept, bilinear without
            antialiasing, rounded to uint8 once); if False such a file is an error.
        is_upright: turn pictures as their EXIF data says, as viewers do; published data sets are
            read without.

    Returns:
        uint8 [N, C, H, W].

    Raises:
        DataCorrupt: a file does not decode, holds no plain picture, or has another size and
            is_resized is False.
    """
    store = _cache_file(files, shape, is_upright)
    expected = (len(files), *shape)
    cached = _read_cache(store, expected)
    if cached is not None:
        return cached
    images = np.empty(expected, dtype=np.uint8)

    def decode_into(row: int) -> None:
        images[row] = decode(files[row], shape, is_resized=is_resized, is_upright=is_upright)

    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        for _ in pool.map(decode_into, range(len(files))):
            pass
    keep(store, lambda path: sealed(store or path, lambda file: np.save(file, images))(path))
    return torch.from_numpy(images)


def decode(
    file: Path, shape: tuple[int, int, int], *, is_resized: bool, is_upright: bool = False
) -> np.ndarray:
    """Decode one file to uint8 [C, H, W]; arguments and errors as for `decode_all`."""
    channels, height, width = shape
    with opened(file) as picture:
        turned = ImageOps.exif_transpose(picture) if is_upright else picture
        if turned.has_transparency_data:
            lowest, _ = turned.convert("RGBA").getchannel("A").getextrema()
            if lowest < 255:
                raise DataCorrupt(
                    f"{file}: has transparent pixels, whose colour nobody sees; lay the picture on "
                    "a background first"
                )
        pixels = np.array(turned.convert("L" if channels == 1 else "RGB"))
    image = torch.from_numpy(pixels.reshape(*pixels.shape[:2], channels)).permute(2, 0, 1)
    if tuple(image.shape) != shape and not is_resized:
        raise DataCorrupt(
            f"{file}: expected {height} x {width} pixels, got {image.shape[1]} x {image.shape[2]}"
        )
    return resize_to_uint8(image[None], height, width)[0].numpy()


def _cache_file(
    files: Sequence[Path], shape: tuple[int, int, int], is_upright: bool
) -> Path | None:
    """Say where the decoded array of some files is kept; None if there is no cache."""
    cache = find_cache_dir()
    if cache is None:
        return None
    digest = hashlib.sha256(f"decoded 1 {shape}{' upright' * is_upright}".encode())
    for file in files:
        status = file.stat()
        line = f"\n{file.absolute()} {status.st_size} {status.st_mtime_ns}"
        digest.update(line.encode(errors="surrogateescape"))
    return cache / "resized" / f"{digest.hexdigest()[:32]}.npy"


def _read_cache(store: Path | None, expected: tuple[int, ...]) -> Tensor | None:
    """Read a cached array; None if there is none or it is damaged (it is then made again)."""
    if store is None:
        return None
    try:
        with open_sealed(store, "a cache of pictures", old=b"\x93NUMPY") as file:
            images = np.load(file, allow_pickle=False)
        if images.shape != expected or images.dtype != np.uint8:
            raise ValueError(f"it holds {images.dtype} {images.shape}, expected uint8 {expected}")
    except FileNotFoundError:
        return None
    except Exception as error:  # a damaged header makes numpy raise almost anything
        set_aside(store, error if isinstance(error, DataCorrupt) else f"{store}: {error}")
        return None
    return torch.from_numpy(images)
