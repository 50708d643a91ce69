"""Open picture files: what holds no plain picture of 8 bits a channel is refused by name."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from PIL import ExifTags, Image

from nsdbench.errors import DataCorrupt

_GREY = frozenset({"1", "L", "LA"})
_COLOURED = frozenset({"P", "RGB", "RGBA", "CMYK", "YCbCr"})


@contextmanager
def opened(file: Path | IO[bytes], name: str) -> Iterator[Image.Image]:
    """Open a picture of one frame and of 8 bits a channel; all that goes wrong has its name."""
    try:
        with Image.open(file) as picture:
            if picture.mode not in _GREY | _COLOURED:
                raise ValueError(f"mode {picture.mode}; convert it to 8 bits a channel")
            frames = getattr(picture, "n_frames", 1)
            # phones add small copies to a photograph (MPO); the first frame is the photograph
            if frames > 1 and picture.format != "MPO":
                raise ValueError(f"{frames} frames; keep one in a file")
            yield picture
    except DataCorrupt:
        raise
    except Exception as error:  # damaged files make Pillow raise almost anything
        raise DataCorrupt(
            f"{name}: expected a complete 8-bit picture, got one that does not decode ({error})"
        ) from error


def examine(file: Path) -> tuple[int, int, int]:
    """Read what the head of a file says: channels (1 = grey, 3 = RGB), height, width upright.

    Raises:
        DataCorrupt: it does not open or holds no plain picture.
    """
    with opened(file, str(file)) as picture:
        height, width = picture.height, picture.width
        # of the base class, as that of PNG decodes the picture; TIFF is turned by Pillow itself
        orientation = Image.Image.getexif(picture).get(ExifTags.Base.Orientation, 1)
        if orientation >= 5 and picture.format != "TIFF":
            height, width = width, height
        return 1 if picture.mode in _GREY else 3, height, width
