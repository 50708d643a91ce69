"""Images and labels by name or as a pair: .npz, .safetensors and torch files.

FRePo's code saves `image` and `label`, KIP's and RFAD's `images` and `labels` (RFAD's `k` and `jit`
beside them), all in .npz files. Images of JAX programs are [n, H, W, C]. Labels of all three are
one-hot less 1/K, learned or not.
"""

from typing import Any

from nsdbench.data import DatasetSpec
from nsdbench.sets.foreign import ForeignSet
from nsdbench.sets.formats.base import Asked, foreign, rate, single
from nsdbench.sets.formats.opening import Opened
from nsdbench.sets.meaning import Meaning

_KEYS = (("images", "labels"), ("image", "label"))
_KINDS = {"npz": "an .npz file", "safetensors": "a .safetensors file", "torch": "a torch file"}


def _read_one(file: Opened, asked: Asked) -> tuple[str, ForeignSet] | None:
    content: Any = file.content
    known: dict[str, Any] = {}
    if isinstance(content, list | tuple) and len(content) == 2:
        images, labels = content
    elif isinstance(content, dict):
        keys = next((pair for pair in _KEYS if {*pair} <= content.keys()), None)
        if keys is None:
            return None
        images, labels = (content[key] for key in keys)
        known = {"lr": rate(file, content["lr"])} if "lr" in content else {}
    else:
        return None
    text = f"images and labels in {_KINDS[file.kind]}"
    if file.kind == "npz":
        method, is_last = _method(content), _channels_are_last(images, asked.spec)
        if is_last:
            images = images.transpose(0, 3, 1, 2)
        if (method or is_last) and labels.ndim == 2 and labels.shape[1] > 1:
            text = f"a set of {method or 'KIP'}, labels centred"
            known["meaning"] = Meaning(labels_are="centred")
    return text, foreign(file, images, labels, **known)


def _method(content: dict[str, Any]) -> str:
    """Tell FRePo and RFAD by the names of their arrays; empty for others."""
    if "image" in content:
        return "FRePo"
    return "RFAD" if {"k", "jit"} <= content.keys() else ""


def _channels_are_last(images: Any, spec: DatasetSpec) -> bool:
    channels, height, width = spec.image_shape
    shape = tuple(images.shape[1:])
    return shape == (height, width, channels) and shape != spec.image_shape


ARRAYS = single("arrays", _read_one)
