"""Named tensors in a safetensors file whose metadata hold the sum of the content."""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import safetensors
import safetensors.torch
from torch import Tensor

from nsdbench.errors import DataCorrupt
from nsdbench.sums import compare

_KEY = "sha256"


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write contiguous CPU tensors, and texts about them, with the sum of both.

    Others may read the file if the user's umask lets them; safetensors alone would forbid it.

    Raises:
        OSError: the file cannot be written.
    """
    stated = {**metadata, _KEY: tensors_sum(tensors, metadata)}
    path.touch()
    mode = path.stat().st_mode
    try:
        safetensors.torch.save_file(dict(tensors), path, metadata=stated)
        path.chmod(mode)
    except safetensors.SafetensorError as error:  # its own kind, even where the disk is full
        raise OSError(_cause(error)) from error


def load_tensors(
    path: Path, kind: str, fits: Callable[[Mapping[str, tuple[int, ...]]], bool]
) -> dict[str, Tensor]:
    """Read the tensors of a file that `save_tensors` wrote with its own name as `name`.

    Args:
        path: the file.
        kind: what it is, for the notice about files of older versions.
        fits: says whether the names and shapes are those that are wanted.

    Raises:
        DataCorrupt: it holds other tensors, those of another file, or has changed.
    """
    with safetensors.safe_open(path, framework="pt") as file:
        metadata, stated = split_sum(file.metadata())
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        if not fits(shapes):
            raise DataCorrupt(f"{path} is damaged: it holds {shapes}")
        tensors = {name: file.get_tensor(name) for name in shapes}
    if stated is not None and metadata.get("name") != path.name:
        raise DataCorrupt(f"{path} is damaged: it holds {metadata.get('name')}")
    compare(stated, lambda: tensors_sum(tensors, metadata), path, kind)
    return tensors


def split_sum(metadata: Mapping[str, str] | None) -> tuple[dict[str, str], str | None]:
    """Part the metadata of a file from the sum it states; None if it states none."""
    rest = dict(metadata or {})
    return rest, rest.pop(_KEY, None)


def tensors_sum(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """Return the SHA-256 of names, types, shapes and values of tensors and of texts about them."""
    digest = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.numpy().data)
    return digest.hexdigest()


def _cause(error: Exception) -> str:
    """Say it without the words of the serialiser where the system gave the reason."""
    text = str(error)
    return "No space left on device" if "No space left" in text else text
