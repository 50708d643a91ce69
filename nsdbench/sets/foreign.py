"""Distilled sets of other projects: images and labels as `torch.save` wrote them."""

import os
from pathlib import Path

import torch
from torch import Tensor

from nsdbench.errors import DataCorrupt


def load_tensors(path: str | os.PathLike, labels: str | os.PathLike | None = None) -> tuple:
    """Read images and labels that another project saved with `torch.save`.

    Args:
        path: a .pt file with a pair (images, labels), a dict with these keys, or images alone.
        labels: the file of labels, if `path` holds images alone (MTT's `labels_best.pt`).

    Returns:
        images [n, C, H, W] float32 in network-input space and labels ([n] int64, or [n, K] soft).

    Raises:
        DataCorrupt: the file holds something else.
    """

    def read(file: str | os.PathLike) -> object:
        if not Path(file).is_file():
            raise FileNotFoundError(f"{file}: no such file")
        try:
            return torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises several types for files it cannot or may not read
            raise DataCorrupt(f"{file}: torch cannot read it as plain tensors ({error})") from None

    content = read(path)
    if isinstance(content, dict) and {"images", "labels"} <= content.keys():
        images, targets = content["images"], content["labels"]
    elif isinstance(content, list | tuple) and len(content) == 2:
        images, targets = content
    else:
        if labels is None:
            raise DataCorrupt(
                f"{path}: expected (images, labels) or a dict with these keys; a file of images "
                "alone needs the file of labels as well"
            )
        images, targets = content, read(labels)
    if not isinstance(images, Tensor) or not isinstance(targets, Tensor) or images.dim() != 4:
        raise DataCorrupt(f"{path}: images must be a tensor [n, C, H, W] with a tensor of labels")
    if len(images) != len(targets):
        raise DataCorrupt(f"{path}: {len(images)} images but {len(targets)} labels")
    is_soft = targets.dim() == 2
    return images.detach().float(), targets.detach().float() if is_soft else targets.detach().long()
