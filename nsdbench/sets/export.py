"""A distilled set as files that other programs read: its decoded pictures with their labels.

    folder        OUT/CLASS/00000.png, as torchvision's ImageFolder and `evaluate` read them
    hf            OUT/train/00000.png with metadata.jsonl and README.md, as `load_dataset(OUT)` of
                  Hugging Face's datasets reads them (its image folder with metadata)
    npz, pt, safetensors
                  images float32 [n, C, H, W], black 0 and white 1, nothing clipped; labels int64
                  [n]; soft_labels float32 [n, K] where they are learned; about, what was distilled,
                  as JSON

PNG files hold eight bits: they are rounded, and clipped to black and white.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy
import torch
from torch import Tensor

from nsdbench.data import Dataset, DatasetSpec, spec
from nsdbench.data.formats.tensors import save_tensors
from nsdbench.errors import nearest
from nsdbench.files import write_atomically, writing
from nsdbench.sets.artefact import Artefact

_SUFFIXES = {"npz": ".npz", "pt": ".pt", "safetensors": ".safetensors"}
FORMATS = ("folder", *_SUFFIXES, "hf")
_ABOUT = ("method", "dataset", "ipc", "scale", "seed", "recipe_hash", "preprocessing")


def default_out(source: Path, form: str) -> Path:
    """Return where the pictures of a file go if nothing is said: beside it, set-pictures.npz."""
    return source.with_name(f"{source.stem}-pictures{_SUFFIXES.get(form, '')}")


def check_export(out: Path, form: str) -> None:
    """Check where an export shall go.

    Raises:
        ValueError: no such format, a file whose name does not end as those of the format, or a
            folder that holds something.
    """
    if form not in FORMATS:
        raise ValueError(
            f"format {form!r}: expected one of {', '.join(FORMATS)}{nearest(form, FORMATS)}"
        )
    suffix = _SUFFIXES.get(form)
    if suffix is None:
        if out.exists() and not (out.is_dir() and not any(out.iterdir())):
            raise ValueError(f"out: {out} is there already; expected a new or an empty folder")
    elif out.suffix != suffix or out.is_dir():
        raise ValueError(f"out: expected a file that ends in {suffix}, got {str(out)!r}")


def export_set(
    artefact: Artefact, out: str | os.PathLike[str], form: str, data: Dataset | None = None
) -> Path:
    """Write the pictures and labels of a distilled set.

    Args:
        artefact: the set.
        out: a file, or a folder that is new or empty.
        form: one of FORMATS.
        data: as of `Artefact.pictures`.

    Returns:
        The file or folder.

    Raises:
        ValueError: as of `check_export` and `Artefact.pictures`; or a folder of pictures is wanted
            of learned labels.
        DataMissing: as of `Artefact.pictures`.
    """
    path = Path(out)
    check_export(path, form)
    soft_labels = artefact.soft_labels()
    if form == "folder" and soft_labels is not None:
        others = ", ".join(known for known in FORMATS if known != "folder")
        raise ValueError(f"a folder of classes cannot hold learned labels; choose one of {others}")
    tensors = {"images": artefact.pictures(data).float().contiguous(), "labels": artefact.labels()}
    if soft_labels is not None:
        tensors["soft_labels"] = soft_labels.detach().float().contiguous()
    about = {key: artefact.metadata[key] for key in _ABOUT if key in artefact.metadata}
    if form in _SUFFIXES:
        text = json.dumps(about)
        write_atomically(path, lambda partial: _write_arrays(partial, form, tensors, text))
        return path
    described = data.spec if data is not None else spec(artefact.dataset_name)
    if form == "folder":
        _write_folder(path, lambda partial: _write_classes(partial, tensors, described))
    else:
        _write_folder(path, lambda partial: _write_hf(partial, tensors, described, about))
    return path


def _write_arrays(path: Path, form: str, tensors: dict[str, Tensor], about: str) -> None:
    """Write arrays by name."""
    if form == "pt":
        torch.save({**tensors, "about": about}, path)
    elif form == "safetensors":
        save_tensors(path, tensors, {"about": about})
    else:
        arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
        with open(path, "wb") as file:
            numpy.savez_compressed(file, allow_pickle=False, about=numpy.array(about), **arrays)


def _write_classes(folder: Path, tensors: dict[str, Tensor], described: DatasetSpec) -> None:
    """Write a subfolder a class."""
    names = described.class_folders
    for label in tensors["labels"].unique().tolist():
        (folder / names[label]).mkdir()
    for row, label in enumerate(tensors["labels"].tolist()):
        _write_png(folder / names[label] / f"{row:05}.png", tensors["images"][row])


def _write_hf(
    folder: Path, tensors: dict[str, Tensor], described: DatasetSpec, about: dict[str, object]
) -> None:
    """Write an image folder with metadata, and the card that says what its columns are."""
    train = folder / "train"
    train.mkdir()
    lines = []
    for row, label in enumerate(tensors["labels"].tolist()):
        name = f"{row:05}.png"
        _write_png(train / name, tensors["images"][row])
        line = {"file_name": name, "label": label}
        if "soft_labels" in tensors:
            line["soft_label"] = tensors["soft_labels"][row].tolist()
        lines.append(json.dumps(line))
    (train / "metadata.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    card = ["---", "configs:", "- config_name: default", "  data_files:"]
    card += ["  - split: train", "    path: train/**", "  features:"]
    card += ["  - name: image", "    dtype: image", "  - name: label", "    dtype:"]
    card += ["      class_label:", "        names:"]
    card += [f"          '{i}': {json.dumps(x)}" for i, x in enumerate(described.class_folders)]
    if "soft_labels" in tensors:
        card += ["  - name: soft_label", "    list: float32"]
    card += ["---", ""]
    card += ["A distilled data set, written by nsdbench:", ""]
    card += [f"- {key}: {value}" for key, value in about.items()]
    (folder / "README.md").write_text("\n".join(card) + "\n", encoding="utf-8")


def _write_png(path: Path, picture: Tensor) -> None:
    """Write a picture [1 or 3, H, W]."""
    from PIL import Image

    pixels = (picture.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(path)


def _write_folder(path: Path, write: Callable[[Path], None]) -> None:
    """Write a folder whole or not at all."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
        try:
            write(partial)
            partial.chmod(0o755)
            os.replace(partial, path)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
