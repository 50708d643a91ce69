"""A data set: pictures of stripes, whose width is the class, in one file of bytes.

An example, and no data that anybody published.
"""

from pathlib import Path

from nsdbench.plugin import DataCorrupt, DatasetFamily, DatasetSpec, Source, Split

FILES = {"train": "stripes-train.bin", "test": "stripes-test.bin"}


def read(folder: Path, spec: DatasetSpec, part: str) -> Split:
    """Read one split: for each image a byte with its label, and then its pixels.

    Raises:
        DataCorrupt: the file has another length, or labels out of range.
    """
    import torch

    path = folder / FILES[part]
    channels, height, width = spec.image_shape
    count, pixels = spec.size(part), channels * height * width
    content = path.read_bytes()
    if len(content) != count * (1 + pixels):
        raise DataCorrupt(
            f"{path}: expected {count} images of {1 + pixels} bytes, got {len(content)} bytes"
        )
    rows = torch.frombuffer(bytearray(content), dtype=torch.uint8).view(count, 1 + pixels)
    labels = rows[:, 0].long()
    if labels.max() >= spec.num_classes:
        raise DataCorrupt(f"{path}: expected labels below {spec.num_classes}, got {labels.max()}")
    return Split(rows[:, 1:].reshape(count, channels, height, width), labels)


DATASET = DatasetFamily(
    DatasetSpec(
        name="Stripes",
        image_shape=(1, 16, 16),
        num_classes=2,
        train_size=40,
        test_size=20,
        mean=(0.5,),
        std=(0.5,),
        dsa_strategy="color_crop_cutout_flip_scale_rotate",
        default_depth=2,
        source="an example",
    ),
    Source(
        read,
        layout=" and ".join(FILES.values()),
        folders=("Stripes", "."),
        markers=(tuple(FILES.values()),),
    ),
)
