"""What a set of another project may hold and its owner hardly means: it is noticed, not refused."""

import torch
from torch import Tensor

from nsdbench.data import Dataset, Preprocessing

_TIMES_REAL = 100.0  # as far from 0 as real images, at most, what nothing is said of; our choice
_SAMPLE = 100  # real images
_MOST_NAMED = 5


def far_from_real(images: Tensor, data: Dataset, transform: Preprocessing) -> str:
    """Say that a set reaches much farther from 0 than the images that its networks are tested on.

    Learned images go beyond real ones: those of NSD to 2.7 times as far. A wrong scale or a
    distillation that ran away goes farther by orders of magnitude.

    Args:
        images: network inputs [n, C, H, W] of the set.
        data: its training images are looked at.
        transform: how test images are preprocessed.

    Returns:
        A sentence, empty if nothing is the matter.
    """
    rows = torch.arange(min(_SAMPLE, len(data.train.labels)))
    rows = rows * len(data.train.labels) // len(rows)
    real = transform.apply(data.train.images[rows]).abs().max().item()
    reach = images.abs().flatten(1).amax(1)
    first = int(reach.argmax())
    if reach[first] <= _TIMES_REAL * real:
        return ""
    return (
        f"image {first} reaches {reach[first]:.4g} and real images {real:.2g} ({transform.kind}): "
        "networks are tested on real ones; if it is not meant so, rescale the images"
    )


def missing_classes(labels: Tensor, num_classes: int) -> str:
    """Say which classes no image of a set stands for.

    Args:
        labels: classes [n]; or [n, K], probabilities or centred: a number above 0 stands for its
            class.
        num_classes: K.

    Returns:
        A sentence, empty if none is missing.
    """
    if labels.dim() > 1:
        is_there = (labels > 0).any(0)
    else:
        is_there = torch.bincount(labels, minlength=num_classes) > 0
    missing = torch.nonzero(~is_there).flatten().tolist()
    if not missing:
        return ""
    named = ", ".join(map(str, missing[:_MOST_NAMED]))
    more = f" and {len(missing) - _MOST_NAMED} more" if len(missing) > _MOST_NAMED else ""
    what = "class" if len(missing) == 1 else "classes"
    return (
        f"no image is of {what} {named}{more}, of {num_classes}: networks cannot learn them; if it "
        "is not meant so, check the labels"
    )
