"""Read the printed numbers of the paper from results/paper/.

The CSV files there are the one source: a checkout reads them in place, and the build puts a copy
into an installed package, as `nsdbench/_published`.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

# The paper's names of the evaluation networks and our ids (spec of the networks: README, models).
PUBLISHED_ARCHS = {
    "ConvNet3": "convnet3-w128",
    "ConvNet5": "convnet5-w128",
    "ResNet18": "resnet18",
    "VGG11": "vgg11",
    "AlexNet": "alexnet",
}
_HEADER = ["dataset", "ipc", "ratio_percent", "family", "method", "arch", "mean", "std"]


@dataclass(frozen=True)
class PrintedNumber:
    """One number as printed; mean and std are None for a blank, ipc is 0 for full data."""

    label: str
    family: str
    dataset: str
    ipc: int
    arch: str
    mean: float | None
    std: float | None


def folder() -> Path:
    """Return the folder of the printed tables: of the installation, else of the checkout."""
    package = Path(__file__).parents[2]
    candidates = [package / "_published", package.parent / "results" / "paper"]
    for candidate in candidates:
        if candidate.is_dir():
            return candidate
    raise ValueError(
        f"the published tables are missing; expected them in {' or '.join(map(str, candidates))}; "
        "install nsdbench again or restore results/paper/ of the checkout"
    )


def read_published(name: str) -> tuple[PrintedNumber, ...]:
    """Read one CSV file of printed numbers, in the order of the file.

    Raises:
        ValueError: the file is missing or a line is wrong; the message names file and line.
    """
    path = folder() / name
    if not path.is_file():
        raise ValueError(f"{path} is missing; restore it from the repository")
    with path.open(newline="", encoding="utf-8") as stream:
        reader = csv.DictReader(stream)
        if reader.fieldnames != _HEADER:
            raise ValueError(f"{path}: header {reader.fieldnames}; expected {_HEADER}")
        numbers = []
        for line in reader:
            try:
                numbers.append(
                    PrintedNumber(
                        line["method"], line["family"], line["dataset"], int(line["ipc"] or 0),
                        line["arch"], _number(line["mean"]), _number(line["std"]),
                    )
                )  # fmt: skip
            except (TypeError, ValueError) as error:
                raise ValueError(f"{path}, line {reader.line_num}: {error}") from error
    return tuple(numbers)


def _number(text: str) -> float | None:
    """Read a number; a blank is None."""
    return float(text) if text else None
