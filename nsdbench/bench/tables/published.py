"""Read the printed numbers of the paper from results/paper/.

The CSV files there are the one source: a checkout reads them in place, and the build puts a copy
into an installed package, as `nsdbench/_published`. SHA256SUMS beside them holds their sums.
"""

import csv
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from nsdbench.bench.tables.schema import DatasetName
from nsdbench.errors import checked
from nsdbench.files import read_once
from nsdbench.methods.schema import Text
from nsdbench.registry import Settings
from nsdbench.sums import file_sum

SUMS = "SHA256SUMS"
_HEADER = ["dataset", "ipc", "ratio_percent", "family", "method", "arch", "mean", "std"]
Percent = Annotated[
    Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)] | None,
    BeforeValidator(lambda text: text or None),
]


class PrintedNumber(Settings):
    """One number as printed; mean and std are None for a blank, ipc is 0 for full data."""

    model_config = ConfigDict(strict=False)
    dataset: DatasetName
    ipc: Annotated[int, Field(ge=0), BeforeValidator(lambda text: text or 0)]
    ratio_percent: Percent
    family: Text
    label: Text = Field(alias="method")
    arch: Literal["ConvNet3", "ConvNet5", "ResNet18", "VGG11", "AlexNet"]
    mean: Percent
    std: Percent

    @model_validator(mode="after")
    def _is_whole(self) -> "PrintedNumber":
        if self.mean is None and self.std is not None:
            raise ValueError(f"`std` is {self.std}, but `mean` is blank")
        return self


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
        ValueError: the file is missing, is not the one whose sum is kept, or a line is wrong; the
            message names file and line.
    """
    path = folder() / name
    if not path.is_file():
        raise ValueError(f"{path} is missing; restore it from the repository")
    sums = path.with_name(SUMS)
    stated = _read_sums(sums).get(name) if sums.is_file() else None
    if stated is not None and stated != _sum(path):
        raise ValueError(
            f"{path} is not the file whose sum is in {SUMS}: restore both from the repository; "
            f"after a correction, `sha256sum *.csv > {SUMS}` in its folder"
        )
    return _read(path)


_sum = read_once(file_sum)


@read_once
def _read_sums(path: Path) -> dict[str, str]:
    """Read what `sha256sum` wrote: the sum of every file by its name."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return {name.strip(): digest for digest, _, name in (line.partition(" ") for line in lines)}


@read_once
def _read(path: Path) -> tuple[PrintedNumber, ...]:
    """Read a file whose every line is another number."""
    numbers: dict[tuple, PrintedNumber] = {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream, strict=True)
            if reader.fieldnames != _HEADER:
                raise ValueError(f"{path}: header {reader.fieldnames}; expected {_HEADER}")
            for line in reader:
                where = f"{path}, line {reader.line_num}"
                if None in line or None in line.values():
                    raise ValueError(f"{where}: expected {len(_HEADER)} values: {line}")
                number = checked(PrintedNumber, line, where)
                key = (number.label, number.dataset, number.ipc, number.arch)
                if key in numbers:
                    raise ValueError(f"{where}: {key} stands in an earlier line too")
                numbers[key] = number
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not a CSV file in UTF-8: {error}") from error
    return tuple(numbers.values())
