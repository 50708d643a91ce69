"""Decode pictures to uint8 arrays of one size, once: the result is kept in the cache."""

import hashlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

import numpy as np
import torch
from PIL import ImageOps
from torch import Tensor

from nsdbench.data.fetching.cache import find_cache_dir, keep_tensors, read_tensors
from nsdbench.data.formats.picture import opened
from nsdbench.data.formats.resize import resize_to_uint8
from nsdbench.errors import DataCorrupt
from nsdbench.progress import SECONDS_BETWEEN_LINES, time_left
from nsdbench.sums import notice

Shape = tuple[int, int, int]

_SILENT_SECONDS = 5.0  # before the first line; most sets of pictures are decoded by then


def decode_all(
    files: Sequence[Path], shape: Shape, *, is_resized: bool, is_upright: bool = False
) -> Tensor:
    """Decode files to [N, C, H, W], in the order given.

    The decoded array is kept in the cache, see `decode_once`.

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
    pictures = [(str(file), file) for file in files]
    return decode_once(
        files, "", shape, lambda: pictures, is_resized=is_resized, is_upright=is_upright
    )


def decode_once(
    files: Iterable[Path],
    part: str,
    shape: Shape,
    pictures: Callable[[], Sequence[tuple[str, Path | IO[bytes]]]],
    *,
    is_resized: bool,
    is_upright: bool = False,
) -> Tensor:
    """Decode pictures, or read what was decoded before from the cache.

    Where decoding takes long, lines say how long it will.

    The key in the cache is made of shape, part, and the paths, sizes and times of change of the
    files, so a second call reads one file; its checksum tells whether that is still what was
    written.

    Args:
        files: where the pictures come from.
        part: which of the pictures in the files.
        shape: channels, height, width of the result.
        pictures: called if nothing is in the cache; gives the name of each picture, for messages,
            and its file, on disk or open.
        is_resized, is_upright: as for `decode_all`.

    Returns:
        uint8 [N, C, H, W].

    Raises:
        DataCorrupt: as for `decode_all`, or from `pictures`.
    """
    store = _cache_file(files, part + " upright" * is_upright, shape)
    cached = _read_cache(store, shape)
    if cached is not None:
        return cached
    given = pictures()
    images = np.empty((len(given), *shape), dtype=np.uint8)

    def decode_into(row: int) -> None:
        name, file = given[row]
        images[row] = decode(file, shape, is_resized=is_resized, is_upright=is_upright, name=name)

    started = time.monotonic()
    due = started + _SILENT_SECONDS
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        for done, _ in enumerate(pool.map(decode_into, range(len(given))), 1):
            now = time.monotonic()
            if now >= due:
                due = now + SECONDS_BETWEEN_LINES
                left = time_left((now - started) * (len(given) - done) / done)
                notice(f"decoding pictures: {done:,}/{len(given):,}{left}")
    decoded = torch.from_numpy(images)
    keep_tensors(store, {"images": decoded})
    return decoded


def decode(
    file: Path | IO[bytes],
    shape: Shape,
    *,
    is_resized: bool,
    is_upright: bool = False,
    name: str = "",
) -> np.ndarray:
    """Decode one picture to uint8 [C, H, W]; arguments and errors as for `decode_all`."""
    name = name or str(file)
    channels, height, width = shape
    with opened(file, name) as picture:
        turned = ImageOps.exif_transpose(picture) if is_upright else picture
        if turned.has_transparency_data and np.array(turned.convert("RGBA"))[..., 3].min() < 255:
            raise DataCorrupt(
                f"{name}: has transparent pixels, whose colour nobody sees; lay the picture on a "
                "background first"
            )
        pixels = np.array(turned.convert("L" if channels == 1 else "RGB"))
    image = torch.from_numpy(pixels.reshape(*pixels.shape[:2], channels)).permute(2, 0, 1)
    if tuple(image.shape) != shape and not is_resized:
        raise DataCorrupt(
            f"{name}: expected {height} x {width} pixels, got {image.shape[1]} x {image.shape[2]}"
        )
    return resize_to_uint8(image[None], height, width)[0].numpy()


def _cache_file(files: Iterable[Path], part: str, shape: Shape) -> Path | None:
    """Say where the decoded pictures of some files are kept; None if there is no cache."""
    cache = find_cache_dir()
    if cache is None:
        return None
    digest = hashlib.sha256(f"decoded 2 {shape} {part}".encode())
    for file in files:
        status = file.stat()
        line = f"\n{file.absolute()} {status.st_size} {status.st_mtime_ns}"
        digest.update(line.encode(errors="surrogateescape"))
    return cache / "resized" / f"{digest.hexdigest()[:32]}.safetensors"


def _read_cache(store: Path | None, shape: Shape) -> Tensor | None:
    """Read cached pictures; None if there are none or they are damaged (they are made again)."""

    def fits(shapes: Mapping[str, tuple[int, ...]]) -> bool:
        return shapes.keys() == {"images"} and shapes["images"][1:] == shape

    tensors = read_tensors(store, "a cache of pictures", fits)
    return None if tensors is None else tensors["images"]
