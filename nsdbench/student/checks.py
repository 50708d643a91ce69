"""What the unrolled student refuses of labels, batches and step size; in words, before any step."""

from collections.abc import Sequence

import torch

from nsdbench.ops.transfer import to_device


def check_rate(lr: float | torch.Tensor, device: torch.device) -> None:
    """Expect a number, or one float on the device of theta or on the CPU."""
    if not isinstance(lr, torch.Tensor):
        return
    if lr.numel() != 1 or not lr.is_floating_point():
        raise ValueError(
            f"lr must be a scalar, got a tensor of shape {list(lr.shape)} {lr.dtype}; expected one "
            "float"
        )
    if lr.device not in (device, torch.device("cpu")):
        raise ValueError(f"lr is on {lr.device}, theta on {device}: move them to one device")


def check_classes(labels: torch.Tensor, num_classes: int) -> None:
    """Compare labels with the K logits of the model; -100, which torch leaves out, is no class."""
    if labels.dim() == 2:
        if labels.shape[1] != num_classes:
            raise ValueError(
                f"labels are {list(labels.shape)}, but the model has {num_classes} logits; "
                f"expected probabilities [{len(labels)}, {num_classes}]"
            )
        return
    lowest, highest = labels.aminmax()
    if lowest < 0 or highest >= num_classes:
        raise ValueError(
            f"labels run from {int(lowest)} to {int(highest)}; the model has {num_classes} logits, "
            f"so they must lie in [0, {num_classes})"
        )


def check_batches(
    batches: Sequence[torch.Tensor] | torch.Tensor, num_images: int, device: torch.device
) -> list[torch.Tensor]:
    """Return the N index vectors on a device; all must hold rows of the images."""
    vectors = list(batches)
    if not vectors:
        raise ValueError("batches is empty: give one index vector a step")
    for k, vector in enumerate(vectors):
        if vector.dtype != torch.int64 or vector.dim() != 1 or vector.numel() == 0:
            raise ValueError(
                f"batches[{k}] is {list(vector.shape)} {vector.dtype}; expected a non-empty "
                "vector of torch.int64 row numbers"
            )
        if vector.device not in (device, vectors[0].device) or vector.is_meta:
            raise ValueError(
                f"batches[{k}] is on {vector.device}, the images on {device}: move it there"
            )
    together = torch.cat(vectors)
    lowest, highest = together.aminmax()
    if lowest < 0 or highest >= num_images:
        raise ValueError(
            f"batches hold row numbers from {int(lowest)} to {int(highest)}; there are "
            f"{num_images} images, so they must lie in [0, {num_images})"
        )
    return list(to_device(together, device).split([len(vector) for vector in vectors]))


def may_repeat(rows: torch.Tensor) -> bool:
    """Say whether a vector may hold a number twice; one on a GPU is not asked, which would wait."""
    return rows.device.type != "cpu" or len(rows.unique()) < len(rows)
