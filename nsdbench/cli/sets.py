"""The commands that work on one distilled set or one expert buffer: distill, evaluate, experts."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from nsdbench.cli.console import StepDisplay, make_console, show_table
from nsdbench.cli.options import (
    AsJson,
    DataRoot,
    Device,
    Protocol,
    Results,
    Scale,
    Settings,
    read_overrides,
    resolve_device,
)
from nsdbench.errors import counted

experts_app = typer.Typer(
    no_args_is_help=True, help="Record, import, list and describe expert trajectories."
)


def distill(
    method: Annotated[str, typer.Option(help="see `list methods`")],
    dataset: Annotated[str, typer.Option(help="see `list datasets`; also folder:PATH@SIZE")],
    ipc: Annotated[int, typer.Option(help="budget in images per class", min=1)],
    out: Annotated[Path, typer.Option(help="file to write (.safetensors)")],
    scale: Scale = "smoke",
    seed: int = 0,
    set_: Settings = None,
    work: Annotated[
        Path | None, typer.Option(help="folder of checkpoints; an interrupted run goes on")
    ] = None,
    data_root: DataRoot = None,
    device: Device = "auto",
) -> None:
    """Distil a data set into a file."""
    from nsdbench import distill as distill_set

    console = make_console()
    out.parent.mkdir(parents=True, exist_ok=True)  # a wrong path shall fail before the work is done
    with StepDisplay(console) as display:
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
            progress=display.progress,
        )
    stored = artefact.ledger().stored_bits / 8
    console.print(f"wrote {out}: {len(artefact.labels())} images from {stored:.0f} bytes")


def evaluate(
    file: Annotated[Path, typer.Argument(help=".safetensors of ours, or .pt of other projects")],
    dataset: Annotated[str, typer.Option(help="whose test images judge")],
    arch: Annotated[str, typer.Option(help="see `list archs`")] = "convnet",
    protocol: Protocol = "common",
    repeats: Annotated[int, typer.Option(help="networks")] = 5,
    seed: int = 0,
    labels: Annotated[Path | None, typer.Option(help=".pt of labels, if FILE has none")] = None,
    preprocessing: Annotated[
        str | None, typer.Option(help="of a .pt file: standardise, zca or zca_relative")
    ] = None,
    as_json: AsJson = False,
    data_root: DataRoot = None,
    device: Device = "auto",
) -> None:
    """Train networks on a distilled set and test them."""
    from dataclasses import asdict

    from nsdbench import evaluate as evaluate_set
    from nsdbench.sets.artefact import load_tensors
    from nsdbench.spread import summary

    console = make_console()
    source = file if file.suffix == ".safetensors" else load_tensors(file, labels)
    with StepDisplay(make_console(is_error=True)) as display:
        result = evaluate_set(
            source,
            dataset,
            arch,
            protocol,
            repeats,
            seed,
            preprocessing_kind=preprocessing,
            data_root=data_root,
            device=resolve_device(device),
            progress=display.progress,
        )
    accuracy = summary([result.accuracies])
    if as_json:
        sys.stdout.write(json.dumps({**asdict(result), **asdict(accuracy)}) + "\n")
        return
    text = f"{accuracy} over {counted(accuracy.n, 'network')}"
    if accuracy.ci95 is not None:
        text += ", 95 % interval {:.2f} to {:.2f}".format(*accuracy.ci95)
    console.print(
        f"{text}; {result.steps} steps at rate {result.lr:g} on {result.num_images} images"
    )


@experts_app.command("record")
def experts_record(
    dataset: Annotated[str, typer.Option(help="see `list datasets`")],
    arch: Annotated[str, typer.Option(help="see `list archs`")] = "convnet",
    num_experts: Annotated[int, typer.Option(help="trajectories", min=1)] = 100,
    epochs: Annotated[int, typer.Option(help="epochs of each", min=1)] = 50,
    preprocessing: Annotated[str | None, typer.Option(help="None: the data set's own")] = None,
    seed: int = 0,
    root: Annotated[Path | None, typer.Option(help="None: the user cache")] = None,
    data_root: DataRoot = None,
    device: Device = "auto",
) -> None:
    """Train networks on real data and keep their parameters after every epoch; resumable."""
    from nsdbench import data, experts, models

    real = data.load(dataset, data_root).without_test()
    kind = preprocessing or real.spec.default_preprocessing
    with StepDisplay(make_console()) as display:
        buffer = experts.record(
            real,
            data.preprocessing(kind, real),
            models.resolve_id(arch, real.spec),
            experts.ExpertRecipe(
                num_experts=num_experts, epochs=epochs, dsa_strategy=real.spec.dsa_strategy
            ),
            seed=seed,
            root=root,
            device=resolve_device(device),
            progress=display.progress,
        )
    make_console().print(f"{buffer.num_experts} experts, {buffer.num_epochs} epochs: {buffer.path}")


@experts_app.command("import")
def experts_import(
    files: Annotated[list[Path], typer.Argument(help="replay_buffer_*.pt of MTT")],
    dataset: Annotated[str, typer.Option(help="the data set they were trained on")],
    name: Annotated[str, typer.Option(help="what to call the buffer")],
    preprocessing: Annotated[
        str, typer.Option(help="zca, or standardise (folders of MTT that end in _NO_ZCA)")
    ],
    arch: Annotated[str, typer.Option(help="see `list archs`")] = "convnet",
    root: Annotated[Path | None, typer.Option(help="None: the user cache")] = None,
) -> None:
    """Take over expert trajectories that MTT's code recorded."""
    from nsdbench import data, experts, models

    described = data.spec(dataset)
    buffer = experts.import_mtt(
        files,
        arch_id=models.resolve_id(arch, described),
        spec=described,
        preprocessing=preprocessing,
        root=root,
        name=name,
    )
    make_console().print(f"{buffer.num_experts} experts, {buffer.num_epochs} epochs: {buffer.path}")


@experts_app.command("list")
def experts_list(
    root: Annotated[Path | None, typer.Option(help="None: the user cache")] = None,
) -> None:
    """List the recorded and imported expert buffers."""
    from nsdbench import experts
    from nsdbench.cli import listing

    show_table(make_console(), *listing.expert_buffers(experts.list_buffers(root)))


@experts_app.command("manifest")
def experts_manifest(
    names: Annotated[
        list[str] | None, typer.Argument(help="see `experts list`; all finished ones if none")
    ] = None,
    root: Annotated[Path | None, typer.Option(help="None: the user cache")] = None,
    results: Results = Path("results"),
    data_root: DataRoot = None,
    device: Device = "auto",
) -> None:
    """Write what is worth keeping of buffers to results/experts: all but the parameters."""
    from nsdbench import experts
    from nsdbench.experts.manifest import write_expert_manifest

    root = root or experts.default_root()
    finished = [buffer["name"] for buffer in experts.list_buffers(root) if buffer["complete"]]
    if not (names or finished):
        make_console().print(f"There is no finished buffer in {root}.", markup=False)
    for name in names or finished:
        path = write_expert_manifest(
            experts.ExpertBuffer(root / name),
            results,
            data_root=data_root,
            device=resolve_device(device),
        )
        make_console().print(f"wrote {path}")
