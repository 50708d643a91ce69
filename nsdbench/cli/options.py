"""Options that several commands share, and how their values are read."""

import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from nsdbench.bench.executors import Executor


def _tables() -> list[str]:
    from nsdbench.bench import tables

    return tables.names()


def _scales() -> list[str]:
    from nsdbench.bench import tables

    return list(tables.SCALES)


def _protocols() -> list[str]:
    from nsdbench.evaluation import protocols

    return protocols.names()


def _methods() -> list[str]:
    from nsdbench import methods

    return methods.names()


def _datasets() -> list[str]:
    from nsdbench import data

    return data.names()


def _known_precision(name: str) -> str:
    """Refuse what is none of `ops.precision`, which is loaded for other names than the default."""
    if name == "tf32":
        return name
    from nsdbench.ops import precision

    return precision.check(name)


# Names for the completion of a shell, looked up when it asks.
Tables = Annotated[
    list[str],
    typer.Argument(
        metavar="TABLE...",
        help="see `list tables`: table1, figure3 ...",
        autocompletion=_tables,
    ),
]
SomeTables = Annotated[
    list[str] | None,
    typer.Argument(metavar="[TABLE]...", help="default: all", autocompletion=_tables),
]
Scale = Annotated[str, typer.Option(help="smoke, small or paper", autocompletion=_scales)]
SomeScale = Annotated[
    str | None,
    typer.Option(help="of tables: smoke (the default), small or paper", autocompletion=_scales),
]
Method = Annotated[str, typer.Option(help="see `list methods`", autocompletion=_methods)]
Dataset = Annotated[
    str,
    typer.Option(help="see `list datasets`; also folder:PATH[@SIZE]", autocompletion=_datasets),
]
Where = Annotated[
    list[str] | None,
    typer.Option(help="keep some cells: dataset=FashionMNIST,ipc=1|10,method=nsd"),
]
Seeds = Annotated[int | None, typer.Option(help="sets per cell, instead of the table's number")]
Shard = Annotated[
    str | None,
    typer.Option(help="a part of the cells, for job arrays: 3/8 is the third of eight"),
]
ExecutorName = Annotated[
    str,
    typer.Option(help="where cells are measured: local, or ray for the nodes of a Ray cluster"),
]
Devices = Annotated[
    str | None,
    typer.Option(help="one cell at a time on each of several devices, as cuda:0,cuda:1"),
]
Address = Annotated[
    str | None, typer.Option(help="of the Ray cluster, or auto; without it, this machine")
]
CoresPerCell = Annotated[int, typer.Option(help="cores that a cell asks of the Ray cluster for")]
Retry = Annotated[
    list[str] | None,
    typer.Option(help="only cells whose record is failed, stale or diverged; repeatable"),
]
Results = Annotated[Path, typer.Option(help="folder of records and unfinished work")]
DataRoot = Annotated[Path | None, typer.Option(help="folder of data sets, searched first")]
Device = Annotated[str, typer.Option(help="cpu, cuda or cuda:N; auto takes a GPU if there is one")]
TensorBoard = Annotated[
    Path | None, typer.Option(help="folder of loss curves for TensorBoard; none by default")
]
Precision = Annotated[
    str,
    typer.Option(
        help="of a GPU: tf32 rounds in convolutions, float32 does not; kept in records",
        callback=_known_precision,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", help="replace a setting: --set optimiser.iterations=100"),
]
Protocol = Annotated[str, typer.Option(help="see `list protocols`", autocompletion=_protocols)]
SetFiles = Annotated[
    list[Path],
    typer.Argument(
        metavar="FILE...", help="of one set: ours or another project's; images, then labels"
    ),
]
TestData = Annotated[str, typer.Option(help="data set to test on", autocompletion=_datasets)]
Repeats = Annotated[int, typer.Option(help="number of networks", min=1)]
Preprocessing = Annotated[
    str | None,
    typer.Option(help="of another project's: standardise, standardise_dc, zca, zca_relative, ..."),
]
Pixels = Annotated[
    str | None, typer.Option(help="of another project's: raw (0-255), unit (0-1) or normalised")
]
LabelsAre = Annotated[
    str | None,
    typer.Option(help="soft ones of another project's: logits, centred or probabilities"),
]
Factor = Annotated[
    int | None, typer.Option(help="of IDC's: one image holds FACTOR x FACTOR smaller ones", min=1)
]
LearnedRate = Annotated[
    float | None, typer.Option("--lr", help="learned with another project's set, if not in FILE")
]
JudgedBy = Annotated[
    str | None,
    typer.Option(
        "--protocol",
        help="evaluate every row except the full data with this protocol, see `list protocols`",
        autocompletion=_protocols,
    ),
]


def read_overrides(settings: list[str] | None) -> dict[str, object]:
    """Read --set section.key=value; values are JSON, anything else is taken as a string."""
    overrides = {}
    for text in settings or []:
        key, equals, value = text.partition("=")
        if not equals:
            raise ValueError(f"--set {text!r}: expected section.key=value")
        try:
            overrides[key] = json.loads(value)
        except json.JSONDecodeError:
            overrides[key] = value
    return overrides


def read_seconds(text: str | None, option: str) -> float | None:
    """Read a time such as 90s, 10m or 1.5h; None where none is given."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text)
    if match is None:
        raise ValueError(f"{option} {text!r}: expected a time such as 90s, 10m or 1.5h")
    return float(match[1]) * {"s": 1, "m": 60, "h": 3600}[match[2]]


@dataclass(frozen=True)
class Place:
    """Where cells are measured: the executor, and the device of a run."""

    executor: "Executor"
    device: str


def read_executor(
    name: str,
    jobs: int,
    devices: str | None,
    device: str,
    address: str | None,
    cores_per_cell: int,
) -> Place:
    """Read the options that say where cells are measured.

    Raises:
        ValueError: they do not go together, or this machine has no such device or number of cores.
    """
    if name not in ("local", "ray"):
        raise ValueError(f"--executor {name!r}: expected local or ray")
    of_ray = {"--address": address is not None, "--cores-per-cell": cores_per_cell != 1}
    of_local = {"--jobs": jobs != 1, "--devices": devices is not None}
    wrong = [option for option, is_given in (of_ray if name == "local" else of_local).items()
             if is_given]  # fmt: skip
    if wrong:
        other = "ray" if name == "local" else "local"
        raise ValueError(f"{wrong[0]} goes with --executor {other}, not with {name}")
    if name == "ray":
        from nsdbench.bench.executors.cluster import Cluster

        if device not in ("auto", "cpu", "cuda"):
            raise ValueError(
                f"--device {device} with --executor ray: expected cpu, or cuda for a GPU of the "
                "cluster a cell"
            )
        return Place(Cluster(address, cores_per_cell), "cpu" if device == "auto" else device)
    from nsdbench.bench.executors import local

    if devices is None:
        resolved = resolve_device(device)
        return Place(local.executor(jobs, device=resolved), resolved)
    if device != "auto":
        raise ValueError(f"--device {device}: --devices names the devices; leave one out")
    each = [resolve_device(one.strip(), "--devices") for one in devices.split(",")]
    return Place(local.executor(jobs, each), each[0])


def resolve_device(device: str, option: str = "--device") -> str:
    """Resolve "auto" to a GPU if there is one.

    torch, which takes seconds to load, is asked only where a driver shows that there may be one.
    """
    if device == "cpu" or (device == "auto" and not _has_driver()):
        return "cpu"
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        kind = torch.device(device).type
    except RuntimeError as error:
        raise ValueError(f"{option} {device!r}: expected cpu, cuda, cuda:N or auto") from error
    if kind == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"{option} {device}: torch sees no GPU; use cpu or auto")
    return device


def _has_driver() -> bool:
    """Say whether a driver of CUDA devices may be here; Linux shows it as a device file."""
    if sys.platform != "linux":
        return True
    return any(Path(file).exists() for file in ("/dev/nvidiactl", "/dev/nvidia0", "/dev/dxg"))
