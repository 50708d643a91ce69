"""The distilled set as a self-contained file: safetensors with JSON metadata.

The file holds exactly the tensors a parameterization stores; its metadata say how to decode them
and how the networks that saw them preprocessed real images. Evaluation reads only this file.
"""

import json
import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Annotated, Any

import safetensors
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.utils.data import TensorDataset

from nsdbench.data import Dataset, Preprocessing, load, preprocessing, spec
from nsdbench.data.formats.tensors import save_tensors, split_sum, tensors_sum
from nsdbench.data.preprocess.fitting import standardising
from nsdbench.errors import DataCorrupt, checked
from nsdbench.files import write_atomically
from nsdbench.sets import parameterizations
from nsdbench.sets.budget import Ledger
from nsdbench.sets.parameterizations import Parameterization
from nsdbench.sums import compare

FORMAT = "nsdbench-artefact-1"


class _Learned(BaseModel):
    """Values that evaluation may use: `lr`, the step size of MTT."""

    model_config = ConfigDict(extra="allow", strict=True)

    lr: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None


class _Metadata(BaseModel):
    """What is read of an artefact's metadata, where it is there; the rest is free."""

    model_config = ConfigDict(extra="allow", strict=True)

    dataset: str | None = None
    preprocessing: str | None = None
    preprocessing_hash: str | None = None
    commit: Annotated[list[str | bool | None], Field(min_length=2, max_length=2)] = [None, None]
    learned: _Learned = _Learned()
    distillation: dict[str, Any] = {}
    cost: dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]] = {}


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
        """Return the class of every image, [n] int64; of learned labels that of the highest."""
        soft_labels = self.parameterization.soft_labels
        return self.parameterization.labels if soft_labels is None else soft_labels.argmax(1)

    def soft_labels(self) -> Tensor | None:
        """Return the learned labels [n, K], centred about 0; None if classes are all there is."""
        return self.parameterization.soft_labels

    def ledger(self) -> Ledger:
        """List what is stored, with bits."""
        return self.parameterization.ledger()

    def dataset(self) -> TensorDataset:
        """Return images and labels as a plain torch data set."""
        return TensorDataset(self.images(), self.labels())

    @property
    def dataset_name(self) -> str:
        """Name of the data set that was distilled; ValueError if the artefact does not say."""
        name = self.metadata.get("dataset")
        if name is None:
            raise ValueError("the artefact does not say of which data set it is")
        return name

    def pictures(self, data: Dataset | None = None) -> Tensor:
        """Decode all images [n, C, H, W] as pictures: black is 0, white is 1, nothing is clipped.

        Args:
            data: the data set whose preprocessing is undone. None takes the one that was distilled;
                it is read only if images were whitened.

        Raises:
            ValueError: as of `preprocessing`.
            DataMissing: the data set is needed and is not on this machine.
        """
        if data is None:
            name, kind = self.dataset_name, self.metadata.get("preprocessing")
            standard = standardising(kind, spec(name))
            transform = (
                self._checked(standard, name) if standard else self.preprocessing(load(name))
            )
        else:
            transform = self.preprocessing(data)
        return transform.invert(self.images())

    def preprocessing(self, data: Dataset) -> Preprocessing:
        """Return how pictures of a data set become inputs of networks that see these images.

        Raises:
            ValueError: the artefact does not say, or was distilled from other training data.
        """
        kind = self.metadata.get("preprocessing")
        if kind is None:
            raise ValueError("the artefact does not say how its images were preprocessed")
        return self._checked(preprocessing(kind, data), data.name)

    def _checked(self, transform: Preprocessing, name: str) -> Preprocessing:
        """Return a preprocessing if it is the one that these images were distilled for."""
        expected = self.metadata.get("preprocessing_hash")
        if transform.hash != expected:
            raise ValueError(
                f"the artefact was distilled from other training data or statistics of {name}: "
                f"preprocessing hash {expected}, here {transform.hash}"
            )
        return transform

    def __repr__(self) -> str:
        about = [f"{key} {self.metadata[key]}" for key in ("ipc", "scale") if key in self.metadata]
        origin = " on ".join(str(self.metadata.get(key, "?")) for key in ("method", "dataset"))
        stored = self.ledger().stored_bits / 8
        made = f"{len(self.labels()):,} images from {stored:,.0f} bytes"
        return f"<Artefact {', '.join((origin, *about))}: {made}>"

    def save(self, path: str | os.PathLike) -> Path:
        """Write the file by rename, so that a reader never sees half of it."""
        path = Path(path)
        tensors = {
            name: tensor.detach().cpu().contiguous()
            for name, tensor in self.parameterization.state_dict().items()
        }
        metadata = {
            "format": FORMAT,
            "parameterization": json.dumps(self.parameterization.settings),
            "metadata": json.dumps(self.metadata),
        }

        write_atomically(path, lambda partial: save_tensors(partial, tensors, metadata))
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
        DataCorrupt: not a safetensors file, or not one of ours, or what it says of itself is wrong,
            or it has changed since it was written.
            No more memory is taken than the tensors of the file and their labels need.
    """
    path = Path(path)
    if not path.is_file():
        is_folder = path.is_dir()
        what = "a folder, not an artefact" if is_folder else "no such artefact"
        file = path / "set.safetensors" if is_folder else path.with_suffix(".safetensors")
        raise FileNotFoundError(
            f"{path}: {what}; `python -m nsdbench distill --method M --dataset D --ipc N --out "
            f"{shlex.quote(str(file))}` makes one"
        )
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return _read(file, path)
    except safetensors.SafetensorError as error:
        raise DataCorrupt(f"{path}: not a readable safetensors file ({error})") from None


def _read(file: safetensors.safe_open, path: Path) -> Artefact:
    """Read an artefact whose file, `path`, is open: first what it says of itself."""
    header, stated = split_sum(file.metadata())
    if header.get("format") != FORMAT:
        raise DataCorrupt(f"{path}: format is {header.get('format')!r}, expected {FORMAT!r}")
    settings = _embedded(header, "parameterization", path)
    metadata = _embedded(header, "metadata", path)
    names = list(file.keys())
    num_stored = sum(prod(file.get_slice(name).get_shape()) for name in names)
    try:
        checked(_Metadata, metadata, "metadata")
        parameterization = parameterizations.rebuild(settings, num_stored)
    except ValueError as error:
        raise DataCorrupt(f"{path}: {error}") from None
    expected = _kinds(parameterization.state_dict())
    tensors = {name: file.get_tensor(name) for name in names}
    if _kinds(tensors) != expected:
        raise DataCorrupt(
            f"{path}: tensors do not fit their description: {_kinds(tensors)}, expected {expected}"
        )
    compare(stated, lambda: tensors_sum(tensors, header), path, "an artefact")
    parameterization.load_state_dict(tensors)
    return Artefact(parameterization.requires_grad_(False), metadata)


def _embedded(header: Mapping[str, str], key: str, path: Path) -> dict:
    """Read one of the JSON objects in the header of a file."""
    try:
        value = json.loads(header[key])
    except KeyError:
        raise DataCorrupt(f"{path}: `{key}` is missing in its header") from None
    except (ValueError, RecursionError) as error:
        raise DataCorrupt(f"{path}: `{key}` in its header is not valid JSON ({error})") from None
    if not isinstance(value, dict):
        raise DataCorrupt(f"{path}: `{key}` in its header is {value!r:.200}; expected an object")
    return value


def _kinds(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Write shape and dtype of tensors, by name."""
    return {name: f"{list(t.shape)} {t.dtype}" for name, t in sorted(tensors.items())}
