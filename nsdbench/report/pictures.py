"""Draw decoded images of a cell as a PNG grid: a column per class, the same bytes every time."""

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
    rows = max(int((labels == c).sum()) for c in classes)
    size = (_INCHES_PER_IMAGE * (len(classes) + 0.2), _INCHES_PER_IMAGE * (rows + 0.9))
    figure = Figure(figsize=size, dpi=_DPI, layout="constrained")
    axes = figure.subplots(rows, len(classes), squeeze=False)
    for column, label in enumerate(classes):
        shown = pixels[labels == label]
        for position, axis in enumerate(axes[:, column]):
            axis.set_xticks([])
            axis.set_yticks([])
            if position >= len(shown):
                axis.set_axis_off()
                continue
            image = shown[position].transpose(1, 2, 0)
            axis.imshow(image.squeeze(-1) if image.shape[-1] == 1 else image,
                        cmap="gray", vmin=0, vmax=1, interpolation="nearest")  # fmt: skip
        axes[0, column].set_title(f"class {label}", fontsize=7)
    if caption:
        figure.suptitle(caption, fontsize=8)
    stream = io.BytesIO()
    FigureCanvasAgg(figure).print_png(stream, metadata={"Software": None})
    return stream.getvalue()
