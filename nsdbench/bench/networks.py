"""The finished networks of a cell, kept on disk after each of them."""

from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, Field

from nsdbench import provenance
from nsdbench.errors import DataCorrupt, checked
from nsdbench.evaluation import Evaluation
from nsdbench.registry import Settings
from nsdbench.sums import read_summed_json, set_aside, write_summed_json

_Count = Annotated[int, Field(ge=0)]


class _Network(Settings):
    """What one network ended with."""

    model_config = ConfigDict(strict=False)
    accuracy: Annotated[float, Field(ge=0, le=100)]
    lr: Annotated[float, Field(allow_inf_nan=False)]
    steps: _Count
    num_images: _Count
    seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    code_path: str
    commit: tuple[str | None, bool | None]


class _Content(Settings):
    model_config = ConfigDict(strict=False)
    key: str
    networks: dict[Annotated[str, Field(pattern=r"^\d+/\d+$")], _Network]


class FinishedNetworks:
    """What the networks of a cell that are done ended with.

    Args:
        path: the file.
        key: what the numbers depend on; a file of another key is of no use and is replaced. A
            damaged file is set aside, and its networks are trained anew.
    """

    def __init__(self, path: Path, key: str):
        self._path = path
        self._networks: dict[str, dict] = {}
        self._key = key
        try:
            content = read_summed_json(path, "a file of finished networks")
            checked(_Content, content, str(path))
            if content["key"] == key:
                self._networks = content["networks"]
        except FileNotFoundError:
            pass
        except (DataCorrupt, ValueError) as error:
            set_aside(path, error)

    def has(self, seed: int, repeat: int) -> bool:
        """Say whether network `repeat` on set `seed` is done."""
        return f"{seed}/{repeat}" in self._networks

    def get(self, seed: int, repeat: int) -> dict:
        """Return what `add` was told of a network: accuracy, lr, steps, and so on."""
        return self._networks[f"{seed}/{repeat}"]

    def add(self, seed: int, repeat: int, evaluation: Evaluation) -> None:
        """Keep what a network ended with, on disk before this returns."""
        self._networks[f"{seed}/{repeat}"] = {
            "accuracy": evaluation.accuracies[0],
            "lr": evaluation.lr,
            "steps": evaluation.steps,
            "num_images": evaluation.num_images,
            "seconds": evaluation.seconds,
            "code_path": evaluation.code_path,
            "commit": provenance.commit(),
        }
        write_summed_json(self._path, {"key": self._key, "networks": self._networks})
