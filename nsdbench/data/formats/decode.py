"""Decode picture files to uint8 arrays of one size, once: the result is kept in the cache."""

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from nsdbench.data.fetching.cache import cache_dir
from nsdbench.data.formats.resize import resize_to_uint8
from nsdbench.errors import DataCorrupt
from nsdbench.files import write_atomically


def decode_all(files: Sequence[Path], shape: tuple[int, int, int], *, is_resized: bool) -> Tensor:
    """Decode files to [N, C, H, W], in the order given.

    The decoded array is written to the cache under a key made of shape, paths, sizes and times of
    change, so a second call reads one file instead of N.

    Args:
        files: pictures in any format Pillow reads.
        shape: channels (1 = grey, 3 = RGB), height, width of the result.
        is_resized: resize whatever does not have that size (aspect not kept, bilinear without
            antialiasing, rounded to uint8 once); if False such a file is an error.

    Returns:
        uint8 [N, C, H, W].

    Raises:
        DataCorrupt: a file does not decode, or has another size and is_resized is False.
    """
    store = _cache_file(files, shape)
    expected = (len(files), *shape)
    cached = _read_cache(store, expected)
    if cached is not None:
        return cached
    images = np.empty(expected, dtype=np.uint8)

    def decode_into(row: int) -> None:
        images[row] = decode(files[row], shape, is_resized=is_resized)

    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        for _ in pool.map(decode_into, range(len(files))):
            pass
    _write_cache(store, images)
    return torch.from_numpy(images)


def decode(file: Path, shape: tuple[int, int, int], *, is_resized: bool) -> np.ndarray:
    """Decode one file to uint8 [C, H, W]; arguments and errors as for `decode_all`."""
    channels, height, width = shape
    try:
        with Image.open(file) as picture:
            if picture.mode.startswith(("I", "F")):
                raise ValueError(f"mode {picture.mode}; convert it to 8 bits a channel")
            pixels = np.array(picture.convert("L" if channels == 1 else "RGB"))
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError) as error:
        raise DataCorrupt(
            f"{file}: expected a complete 8-bit picture, got one that does not decode ({error})"
        ) from error
    image = torch.from_numpy(pixels.reshape(*pixels.shape[:2], channels)).permute(2, 0, 1)
    if tuple(image.shape) != shape and not is_resized:
        raise DataCorrupt(
            f"{file}: expected {height} x {width} pixels, got {image.shape[1]} x {image.shape[2]}"
        )
    return resize_to_uint8(image[None], height, width)[0].numpy()


def _cache_file(files: Sequence[Path], shape: tuple[int, int, int]) -> Path:
    digest = hashlib.sha256(f"decoded 1 {shape}".encode())
    for file in files:
        status = file.stat()
        line = f"\n{file.absolute()} {status.st_size} {status.st_mtime_ns}"
        digest.update(line.encode(errors="surrogateescape"))
    return cache_dir() / "resized" / f"{digest.hexdigest()[:32]}.npy"


def _read_cache(store: Path, expected: tuple[int, ...]) -> Tensor | None:
    """Read a cached array; None if there is none or it is damaged (it is then made again)."""
    try:
        images = np.load(store, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    if images.shape != expected or images.dtype != np.uint8:
        return None
    return torch.from_numpy(images)


def _write_cache(store: Path, images: np.ndarray) -> None:
    """Keep the array for the next time; a full or read-only disk is no error."""
    try:
        write_atomically(store, lambda path: np.save(path, images))
    except OSError:
        return
