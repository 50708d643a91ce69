"""Draw decoded images of a cell as a PNG grid: a row per class, the same bytes every time."""

import io
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

_INCHES_PER_IMAGE = 0.6
_DPI = 120


def draw_images(source: Path, caption: str = "") -> bytes:
    """Draw the pictures a run kept beside its record.

    Args:
        source: npz with images [n, C, H, W] (uint8, or floats in [0, 1]) and labels [n].
        caption: printed above the grid.

    Returns:
        The PNG file.

    Raises:
        ValueError: the file does not hold pictures; the message names it.
    """
    try:
        with np.load(source, allow_pickle=False) as arrays:
            images, labels = arrays["images"], arrays["labels"]
    except (OSError, KeyError, ValueError, EOFError) as error:
        raise ValueError(f"{source} does not hold images and labels: {error}") from error
    if images.ndim != 4 or images.shape[1] not in (1, 3) or len(images) != len(labels):
        raise ValueError(
            f"{source}: images {images.shape} with {len(labels)} labels; expected [n, 1 or 3, H, W]"
        )
    if len(images) == 0:
        raise ValueError(f"{source} holds no images")
    pixels = images / 255.0 if images.dtype == np.uint8 else np.clip(images, 0, 1)
    classes = sorted(set(labels.tolist()))
    columns = max(int((labels == c).sum()) for c in classes)
    size = (_INCHES_PER_IMAGE * (columns + 1.5), _INCHES_PER_IMAGE * (len(classes) + 0.8))
    figure = Figure(figsize=size, dpi=_DPI, layout="constrained")
    axes = figure.subplots(len(classes), columns, squeeze=False)
    for row, label in zip(axes, classes, strict=True):
        shown = pixels[labels == label]
        for position, axis in enumerate(row):
            axis.set_xticks([])
            axis.set_yticks([])
            if position >= len(shown):
                axis.set_axis_off()
                continue
            image = shown[position].transpose(1, 2, 0)
            axis.imshow(image.squeeze(-1) if image.shape[-1] == 1 else image,
                        cmap="gray", vmin=0, vmax=1, interpolation="nearest")  # fmt: skip
        row[0].set_ylabel(f"class {label}", rotation=0, ha="right", va="center", fontsize=7)
    if caption:
        figure.suptitle(caption, fontsize=8)
    stream = io.BytesIO()
    FigureCanvasAgg(figure).print_png(stream, metadata={"Software": None})
    return stream.getvalue()
