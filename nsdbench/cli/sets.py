"""The commands that work on one distilled set: distill, export, evaluate, judge."""

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from nsdbench.cli.console import make_console, resumable
from nsdbench.cli.options import (
    AsJson,
    DataRoot,
    Dataset,
    Device,
    Factor,
    LabelsAre,
    LearnedRate,
    Method,
    Pixels,
    Precision,
    Preprocessing,
    Protocol,
    Repeats,
    Results,
    Scale,
    SetFiles,
    Settings,
    TensorBoard,
    TestData,
    read_overrides,
    resolve_device,
)
from nsdbench.errors import counted
from nsdbench.files import portable_command
from nsdbench.progress import Bars


def judge(
    file: SetFiles,
    dataset: TestData,
    arch: Annotated[
        str, typer.Option(help="networks, as a,b or path/to/file.py:Net; see `list archs`")
    ] = "convnet",
    protocol: Annotated[
        str, typer.Option(help="protocols, as p,q; see `list protocols`")
    ] = "common",
    repeats: Repeats = 5,
    claimed: Annotated[
        str | None, typer.Option(help="accuracy in per cent that is claimed: 46.3+-0.8")
    ] = None,
    ipc: Annotated[
        int | None, typer.Option(help="room of Random, instead of what the set stores", min=1)
    ] = None,
    preprocessing: Preprocessing = None,
    pixels: Pixels = None,
    labels_are: LabelsAre = None,
    factor: Factor = None,
    lr: LearnedRate = None,
    results: Results = Path("results"),
    as_json: AsJson = False,
    data_root: DataRoot = None,
    device: Device = "auto",
    precision: Precision = "tf32",
) -> None:
    """Judge anybody's set beside Random and a claim; the record is kept for `report judged`."""
    from nsdbench.bench import judging
    from nsdbench.cli.console import show_judged
    from nsdbench.experts import Run
    from nsdbench.models.own import split_list
    from nsdbench.sets.meaning import Meaning

    console = make_console()
    question = judging.Question(
        tuple(file),
        dataset,
        _listed(split_list(arch), "--arch", arch),
        _listed(protocol.split(","), "--protocol", protocol),
        repeats,
        Meaning(preprocessing, pixels, labels_are, factor, lr),
        ipc,
        None if claimed is None else judging.parse_claim(claimed),
    )
    command = portable_command("python -m nsdbench", sys.argv[1:])
    messages = make_console(is_error=True)
    with resumable(messages), Bars(messages) as bars:
        run = Run(results, data_root, resolve_device(device), command, bars, precision)
        reading, records = judging.judge(question, run)
    if as_json:
        sys.stdout.write(json.dumps([record.as_dict() for record in records]) + "\n")
    else:
        names = ", ".join(path.name for path in file)
        show_judged(console, names, reading.taken_for, records, results)
    if any(record.failure is not None for record in records):
        raise typer.Exit(3)


def _listed(pieces: Iterable[str], option: str, text: str) -> tuple[str, ...]:
    """Check the names that an option lists; the same name twice is one."""
    names = tuple(dict.fromkeys(name.strip() for name in pieces))
    if not all(names):
        raise ValueError(f"{option} {text!r}: expected names with a comma between them")
    return names


def distill(
    method: Method,
    dataset: Dataset,
    ipc: Annotated[int, typer.Option(help="budget in images per class", min=1)],
    out: Annotated[Path, typer.Option(help="file to write (.safetensors)")],
    scale: Scale = "smoke",
    seed: int = 0,
    set_: Settings = None,
    work: Annotated[
        Path | None, typer.Option(help="folder of checkpoints, to resume an interrupted run")
    ] = None,
    data_root: DataRoot = None,
    device: Device = "auto",
    tensorboard: TensorBoard = None,
) -> None:
    """Distil a data set into a file."""
    from nsdbench import distill as distill_set
    from nsdbench.bench import divergence

    console = make_console()
    with resumable(console), Bars(make_console(is_error=True)) as bars:
        artefact = distill_set(
            method,
            dataset,
            ipc,
            scale,
            seed=seed,
            out=out,
            work=work if work is not None else Path("results") / "work",
            data_root=data_root,
            overrides=read_overrides(set_),
            device=resolve_device(device),
            progress=bars,
            tensorboard=tensorboard,
        )
    stored = artefact.ledger().stored_bits / 8
    console.print(f"wrote {out}: {len(artefact.labels())} images from {stored:.0f} bytes")
    learned = artefact.metadata["distillation"]
    if what := divergence.runaway(learned["curve"], learned["images_moved"]):
        console.print(f"{divergence.MARK}: {what}", style="yellow")


def export(
    file: Annotated[Path, typer.Argument(help=".safetensors that distill wrote")],
    form: Annotated[
        str, typer.Option("--format", help="folder (a subfolder a class), npz, pt, safetensors, hf")
    ],
    out: Annotated[
        Path | None, typer.Option(help="file or folder to write; default: beside FILE")
    ] = None,
    data_root: DataRoot = None,
) -> None:
    """Write the pictures of a distilled set for other programs; hf is for Hugging Face datasets."""
    from nsdbench.data import load
    from nsdbench.sets import load_artefact
    from nsdbench.sets.export import check_export, default_out, export_set

    target = out if out is not None else default_out(file, form)
    check_export(target, form)
    artefact = load_artefact(file)
    data = None if data_root is None else load(artefact.dataset_name, data_root)
    written = export_set(artefact, target, form, data)
    make_console().print(f"wrote {written}: {counted(len(artefact.labels()), 'picture')}")


def evaluate(
    file: SetFiles,
    dataset: TestData,
    arch: Annotated[str, typer.Option(help="see `list archs`")] = "convnet",
    protocol: Protocol = "common",
    repeats: Repeats = 5,
    seed: int = 0,
    preprocessing: Preprocessing = None,
    pixels: Pixels = None,
    labels_are: LabelsAre = None,
    factor: Factor = None,
    lr: LearnedRate = None,
    as_json: AsJson = False,
    data_root: DataRoot = None,
    device: Device = "auto",
) -> None:
    """Train networks on a distilled set and test them; `judge` also compares and keeps a record."""
    from dataclasses import asdict

    from nsdbench import evaluate as evaluate_set
    from nsdbench.spread import summary

    console = make_console()
    with Bars(make_console(is_error=True)) as bars:
        result = evaluate_set(
            file,
            dataset,
            arch,
            protocol,
            repeats,
            seed,
            preprocessing_kind=preprocessing,
            pixels=pixels,
            labels_are=labels_are,
            factor=factor,
            lr=lr,
            data_root=data_root,
            device=resolve_device(device),
            progress=bars,
        )
    accuracy = summary([result.accuracies])
    if as_json:
        sys.stdout.write(json.dumps({**asdict(result), **asdict(accuracy)}) + "\n")
        return
    text = f"{accuracy} over {counted(accuracy.n, 'network')}"
    if accuracy.interval is not None:
        text += ", 95 % interval {:.2f} to {:.2f}".format(*accuracy.interval)
    console.print(
        f"{text}; {result.steps} steps at rate {result.lr:g} on {result.num_images} images"
    )
