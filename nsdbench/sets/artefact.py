"""The distilled set as a file: safetensors with JSON metadata, and nothing beside it.

The file holds exactly the tensors a parameterization stores; its metadata say how to decode them
and how the networks that saw them preprocessed real images. Evaluation reads only this file.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from nsdbench.errors import DataCorrupt
from nsdbench.files import write_atomically
from nsdbench.sets import parameterizations
from nsdbench.sets.budget import Ledger
from nsdbench.sets.parameterizations import Parameterization

_FORMAT = "nsdbench-artefact-1"


@dataclass(frozen=True)
class Artefact:
    """A distilled set in memory.

    Attributes:
        parameterization: holds the stored tensors.
        metadata: plain JSON values: method, dataset, ipc, scale, recipe_hash, preprocessing,
            preprocessing_hash, seed, `learned` (values evaluation may use, such as "lr") and
            `distillation` (loss curve and the like).
    """

    parameterization: Parameterization
    metadata: dict

    @torch.no_grad()
    def images(self, generator: torch.Generator | None = None) -> Tensor:
        """Decode all images [n, C, H, W] in network-input space."""
        return self.parameterization.decode(generator=generator)[0]

    def labels(self) -> Tensor:
        """Return the class of every image, [n] int64."""
        return self.parameterization.labels

    def ledger(self) -> Ledger:
        """List what is stored, with bits."""
        return self.parameterization.ledger()

    def dataset(self) -> TensorDataset:
        """Return images and labels as a plain torch data set."""
        return TensorDataset(self.images(), self.labels())

    def save(self, path: str | os.PathLike) -> Path:
        """Write the file by rename, so that a reader never sees half of it."""
        path = Path(path)
        tensors = {
            name: tensor.detach().cpu().contiguous()
            for name, tensor in self.parameterization.state_dict().items()
        }
        metadata = {
            "format": _FORMAT,
            "parameterization": json.dumps(self.parameterization.settings),
            "metadata": json.dumps(self.metadata),
        }

        def write(partial: Path) -> None:
            try:
                safetensors.torch.save_file(tensors, partial, metadata=metadata)
            except safetensors.SafetensorError as error:
                raise OSError(f"{path} cannot be written: {error}") from None

        write_atomically(path, write)
        return path


def load_artefact(path: str | os.PathLike) -> Artefact:
    """Read a distilled set from its file.

    Raises:
        FileNotFoundError: no such file.
        DataCorrupt: not a safetensors file, or not one of ours.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: no such artefact; `python -m nsdbench distill --out {path}` makes one"
        )
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except safetensors.SafetensorError as error:
        raise DataCorrupt(f"{path}: not a readable safetensors file ({error})") from None
    if header.get("format") != _FORMAT:
        raise DataCorrupt(f"{path}: format is {header.get('format')!r}, expected {_FORMAT!r}")
    parameterization = parameterizations.rebuild(json.loads(header["parameterization"]))
    try:
        parameterization.load_state_dict(tensors)
    except RuntimeError as error:
        raise DataCorrupt(f"{path}: tensors do not fit their description: {error}") from None
    return Artefact(parameterization.requires_grad_(False), json.loads(header["metadata"]))


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
