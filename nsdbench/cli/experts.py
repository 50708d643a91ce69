"""The commands on expert buffers: record, import, list, manifest."""

from pathlib import Path
from typing import Annotated

import typer

from nsdbench.cli.console import make_console, resumable, show_table
from nsdbench.cli.options import DataRoot, Device, Results, resolve_device
from nsdbench.files import checked_name
from nsdbench.progress import Bars

app = typer.Typer(
    no_args_is_help=True, help="Record, import, list and describe expert trajectories."
)


@app.command("record")
def record(
    dataset: Annotated[str, typer.Option(help="see `list datasets`")],
    arch: Annotated[str, typer.Option(help="see `list archs`")] = "convnet",
    num_experts: Annotated[int, typer.Option(help="trajectories", min=1)] = 100,
    epochs: Annotated[int, typer.Option(help="epochs per trajectory", min=1)] = 50,
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
    console = make_console()
    with resumable(console), Bars(make_console(is_error=True)) as bars:
        buffer = experts.record(
            real,
            data.preprocessing(kind, real),
            models.resolve_id(arch, real.spec),
            experts.ExpertRecipe(
                num_experts=num_experts, epochs=epochs, dsa_strategy=real.spec.dsa_strategy
            ),
            seed=seed,
            root=root,
            run=experts.Run(device=resolve_device(device), progress=bars),
        )
    console.print(f"{buffer.num_experts} experts, {buffer.num_epochs} epochs: {buffer.path}")


@app.command("import")
def import_(
    files: Annotated[list[Path], typer.Argument(help="replay_buffer_*.pt of MTT")],
    dataset: Annotated[str, typer.Option(help="the data set they were trained on")],
    name: Annotated[str, typer.Option(help="name of the buffer")],
    preprocessing: Annotated[
        str, typer.Option(help="zca, or standardise (folders of MTT that end in _NO_ZCA)")
    ],
    arch: Annotated[str, typer.Option(help="see `list archs`")] = "convnet",
    root: Annotated[Path | None, typer.Option(help="None: the user cache")] = None,
) -> None:
    """Import expert trajectories that MTT's code recorded."""
    from nsdbench import data, experts, models

    described = data.spec(dataset)
    with Bars(make_console(is_error=True)) as bars:
        buffer = experts.import_mtt(
            files,
            arch_id=models.resolve_id(arch, described),
            spec=described,
            preprocessing=preprocessing,
            root=root,
            name=name,
            progress=bars,
        )
    make_console().print(f"{buffer.num_experts} experts, {buffer.num_epochs} epochs: {buffer.path}")


@app.command("list")
def list_(
    root: Annotated[Path | None, typer.Option(help="None: the user cache")] = None,
) -> None:
    """List the recorded and imported expert buffers."""
    from nsdbench import experts
    from nsdbench.cli import listing

    show_table(make_console(), *listing.expert_buffers(experts.list_buffers(root)))


@app.command("manifest")
def manifest(
    names: Annotated[
        list[str] | None, typer.Argument(help="see `experts list`; all finished ones if none")
    ] = None,
    root: Annotated[Path | None, typer.Option(help="None: the user cache")] = None,
    results: Results = Path("results"),
    data_root: DataRoot = None,
    device: Device = "auto",
) -> None:
    """Write manifests of buffers, without their parameters, to results/experts."""
    from nsdbench import experts
    from nsdbench.experts.manifest import write_expert_manifest

    root = root or experts.default_root()
    finished = [buffer["name"] for buffer in experts.list_buffers(root) if buffer["complete"]]
    if not (names or finished):
        make_console().print(f"There is no finished buffer in {root}.")
    for name in names or finished:
        with Bars(make_console(is_error=True)) as bars:
            path = write_expert_manifest(
                experts.ExpertBuffer(root / checked_name(name, "the name of a buffer")),
                results,
                data_root=data_root,
                device=resolve_device(device),
                progress=bars,
            )
        make_console().print(f"wrote {path}")
