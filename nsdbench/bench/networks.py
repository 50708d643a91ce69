"""The finished networks of a cell, kept on disk after each of them."""

import json
from pathlib import Path

from nsdbench import provenance
from nsdbench.evaluation import Evaluation
from nsdbench.files import write_atomically


class FinishedNetworks:
    """What the networks of a cell that are done ended with.

    Args:
        path: the file.
        key: what the numbers depend on; a file of another key is of no use and is replaced.
    """

    def __init__(self, path: Path, key: str):
        self._path = path
        self._networks: dict[str, dict] = {}
        self._key = key
        if path.exists():
            content = json.loads(path.read_text())
            if content["key"] == key:
                self._networks = content["networks"]

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
        text = json.dumps({"key": self._key, "networks": self._networks})
        write_atomically(self._path, lambda partial: partial.write_text(text))
