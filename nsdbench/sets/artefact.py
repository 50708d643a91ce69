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


def check_out(out: str | os.PathLike | None) -> None:
    """Check where a user wants a set, before the work of hours that makes it; None is nowhere.

    Raises:
        ValueError: no .safetensors file, a folder, or its own folder cannot be made or written.
    """
    if out is None:
        return
    path = Path(out)
    if path.suffix != ".safetensors" or path.is_dir():
        kind = "a folder" if path.is_dir() else f"{path.name!r}"
        raise ValueError(
            f"out: expected a file that ends in .safetensors, got {kind}; for example "
            f"{path if path.is_dir() else path.parent}/set.safetensors"
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"out: the folder {path.parent} cannot be made ({error.strerror}); choose another"
        ) from error
    if not os.access(path.parent, os.W_OK):
        raise ValueError(f"out: the folder {path.parent} cannot be written; choose another")


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
