"""The commands that work on whole tables: plan, run, status, report, explain."""

import json
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nsdbench.cli.console import (
    RunDisplay,
    make_console,
    show_lines,
    show_missing,
    show_outcome,
    show_plan,
    show_table,
    show_totals,
    size,
)
from nsdbench.cli.options import (
    Address,
    AsJson,
    CoresPerCell,
    DataRoot,
    Device,
    Devices,
    ExecutorName,
    JudgedBy,
    Precision,
    Results,
    Retry,
    Scale,
    Seeds,
    Shard,
    SomeScale,
    SomeTables,
    Tables,
    TensorBoard,
    Where,
    read_executor,
    read_seconds,
    resolve_device,
)
from nsdbench.errors import DataCorrupt, counted
from nsdbench.files import portable_command

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nsdbench.bench.figures import PlannedFigure
    from nsdbench.bench.record import Record


def plan(
    table: Tables,
    scale: Scale = "smoke",
    where: Where = None,
    seeds: Seeds = None,
    protocol: JudgedBy = None,
    shard: Shard = None,
    retry: Retry = None,
    results: Results = Path("results"),
    data_root: DataRoot = None,
    as_json: AsJson = False,
) -> None:
    """Show the cells of tables: data present or missing, predicted memory, time, stored size."""
    from nsdbench.bench import tables
    from nsdbench.bench.executors import cores
    from nsdbench.bench.figures import plan_figures
    from nsdbench.bench.plan import Choice, make
    from nsdbench.bench.shard import parse_shard
    from nsdbench.bench.tables.where import parse_where
    from nsdbench.data import how_to_get
    from nsdbench.experts import Run

    part = parse_shard(shard or "1/1")
    run = Run(results, data_root, resolve_device("auto"))
    choice = Choice(table, scale, parse_where(where or []), seeds, protocol, retry or ())
    made = part.of(make(choice, run)).retried(choice.retry)
    seconds = made.seconds(cores(), run.has_gpu)
    figures = plan_figures(tables.choose(table, scale), scale, results) if part.is_first else []
    missing = {name: how_to_get(name, data_root) for name in made.missing_data()}
    if as_json:
        plain = made.as_dict(seconds) | {"figures": _plain(figures), "missing_data": missing}
        sys.stdout.write(json.dumps(plain, indent=2) + "\n")
        return
    console = make_console()
    show_plan(console, made, seconds)
    show_lines(console, figures)
    show_missing(console, made, missing)


def run(
    table: Tables,
    scale: Scale = "smoke",
    where: Where = None,
    seeds: Seeds = None,
    protocol: JudgedBy = None,
    shard: Shard = None,
    retry: Retry = None,
    jobs: Annotated[int, typer.Option(help="cells measured at the same time")] = 1,
    devices: Devices = None,
    executor: ExecutorName = "local",
    address: Address = None,
    cores_per_cell: CoresPerCell = 1,
    results: Results = Path("results"),
    data_root: DataRoot = None,
    device: Device = "auto",
    precision: Precision = "tf32",
    time_limit: Annotated[
        str | None,
        typer.Option(help="stop between two pieces of work after 90s, 10m or 1.5h; resumable"),
    ] = None,
    cell_time_limit: Annotated[
        str | None,
        typer.Option(help="record a cell as failed after such a time, and go on; resumable"),
    ] = None,
    tensorboard: TensorBoard = None,
) -> None:
    """Measure the cells of tables that are not measured yet; run again to resume."""
    started = time.monotonic()
    from nsdbench.bench import plan as planning
    from nsdbench.bench import tables
    from nsdbench.bench.executors import cores
    from nsdbench.bench.figures import plan_figures
    from nsdbench.bench.run import run_plan
    from nsdbench.bench.shard import parse_shard
    from nsdbench.bench.similarity import run_figures
    from nsdbench.bench.tables.where import parse_where
    from nsdbench.experts import Run

    limit = read_seconds(time_limit, "--time-limit")
    of_cell = read_seconds(cell_time_limit, "--cell-time-limit")
    on = read_executor(executor, jobs, devices, device, address, cores_per_cell)
    part = parse_shard(shard or "1/1")
    run = Run(
        results,
        data_root,
        on.device,
        portable_command("python -m nsdbench", sys.argv[1:]),
        precision=precision,
        cell_seconds=of_cell,
        tensorboard=tensorboard,
    )
    choice = planning.Choice(table, scale, parse_where(where or []), seeds, protocol, retry or ())
    console = make_console()
    made = part.of(planning.make(choice, run)).retried(choice.retry)
    show_plan(console, made, made.seconds(cores(), run.has_gpu))
    figures = plan_figures(tables.choose(table, scale), scale, results) if part.is_first else []
    show_lines(console, figures)
    reasons = planning.fetch(made, data_root, console.print)
    if len(reasons) < len(made.missing_data()):
        made = part.of(planning.make(choice, run)).retried(choice.retry)
        show_totals(console, made, made.seconds(cores(), run.has_gpu))
    show_missing(console, made, reasons)
    is_left = made.with_status("todo") or made.with_status("data missing")
    if not is_left and all(figure.is_done for figure in figures):
        console.print("Nothing left to do.")
    with RunDisplay(console, made, made.seconds(cores(), run.has_gpu)) as display:
        left = None if limit is None else started + limit - time.monotonic()
        outcome = run_plan(made, run, display, executor=on.executor, missing=reasons, seconds=left)
    if not outcome.is_interrupted:
        run_figures(figures, run, outcome)
    show_outcome(console, outcome)
    raise typer.Exit(outcome.exit_code)


def status(
    table: SomeTables = None,
    scale: Scale = "smoke",
    where: Where = None,
    protocol: JudgedBy = None,
    results: Results = Path("results"),
    as_json: AsJson = False,
) -> None:
    """Show whether each cell of the tables is measured; needs no data."""
    from nsdbench.bench import tables
    from nsdbench.bench.figures import plan_figures
    from nsdbench.bench.tables.where import parse_where
    from nsdbench.report import status as reporting

    chosen = tables.choose(table or None, scale)
    records = _records(results, scale)
    summary = reporting.summarise(chosen, scale, records, protocol, parse_where(where or []))
    pictured = plan_figures(chosen, scale, results)
    if as_json:
        summary["figures"] = _plain(pictured)
        sys.stdout.write(json.dumps(summary, indent=2) + "\n")
        return
    console = make_console()
    for part in summary["tables"]:
        console.print(f"{part['name']}: {part['title']}")
        show_table(console, *reporting.cell_rows(part))
        console.print()
    show_table(console, *reporting.count_rows(summary))
    if summary["reasons"]:
        console.print()
        show_table(console, *reporting.reason_rows(summary))
    show_lines(console, pictured)


def report(
    table: SomeTables = None,
    scale: SomeScale = None,
    protocol: JudgedBy = None,
    results: Results = Path("results"),
    markdown: Annotated[bool, typer.Option("--markdown", help="the default")] = False,
    latex: Annotated[bool, typer.Option("--latex", help="booktabs tables")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="one line per cell, full precision")] = False,
    as_json: AsJson = False,
    html: Annotated[
        Path | None, typer.Option(help="write a page with everything: FILE.html, or into a folder")
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="draw decoded images as PNG files into this folder")
    ] = None,
    fill: Annotated[
        list[Path] | None,
        typer.Option(help="fill the marked blocks of this Markdown page instead; repeatable"),
    ] = None,
) -> None:
    """Show measured and published numbers with a verdict per cell, or `judged` sets of anybody."""
    from nsdbench.bench import tables
    from nsdbench.files import sweep, write_atomically
    from nsdbench.report import judged, writers
    from nsdbench.report.document import build
    from nsdbench.report.figures import write_figures
    from nsdbench.report.page.render import page_path, render

    if fill:
        if table or scale or protocol or markdown or latex or csv or as_json or html or images:
            raise ValueError("--fill goes with --results alone: blocks say what they show")
        _fill_pages(fill, results)
        return
    if markdown + latex + csv + as_json + (html is not None) > 1:
        raise ValueError("choose one of --markdown, --latex, --csv, --json and --html FILE")
    chosen_kinds = {"latex": latex, "csv": csv, "json": as_json}
    kind = next((name for name, is_chosen in chosen_kinds.items() if is_chosen), "markdown")
    if judged.NAME in (table or ()):
        if len(table or ()) > 1 or scale or html or images or protocol:
            raise ValueError(
                "`report judged` goes with --markdown, --latex, --csv, --json or --results alone"
            )
        sys.stdout.write(writers.write_judged(_records(results, judged.NAME), kind))
        return
    scale = scale or "smoke"
    chosen = tables.choose(table or None, scale)
    html = html and page_path(html)
    figures, pictures = (results / name / scale for name in ("figures", "images"))
    sweep(folder for folder in (figures, images, html and html.parent) if folder)
    records = _records(results, scale)
    if html is not None:
        page = render(table or None, scale, records, results, protocol)
        write_atomically(html, lambda partial: partial.write_text(page, encoding="utf-8"))
        make_console().print(f"wrote {html}")
    else:
        sys.stdout.write(
            writers.write(table or None, scale, records, kind, pictures, images, protocol)
        )
    if images is not None and (html is not None or csv or as_json):
        documents = [build(x, scale, records, pictures, protocol) for x in chosen]
        writers.save_pictures(documents, images)
    for path in write_figures(chosen, scale, records, figures, protocol):
        make_console(is_error=True).print(f"wrote {path}")


def explain(
    cell: Annotated[str, typer.Argument(help="a cell id, or a table together with --where")],
    scale: SomeScale = None,
    where: Where = None,
    protocol: JudgedBy = None,
) -> None:
    """Show a cell's resolved recipe and where every value comes from; needs no data."""
    from nsdbench.bench import tables
    from nsdbench.bench.tables.where import parse_where
    from nsdbench.cli import explain as explaining

    if cell in tables.names():
        scale = scale or "smoke"
        cells = explaining.select_cells(cell, scale, parse_where(where or []), protocol)
        none = f"{cell} has no cells at scale {scale}: it compares real images"
    else:
        for option, value in (("--protocol", protocol), ("--scale", scale), ("--where", where)):
            if value:
                raise ValueError(
                    f"{option} goes with a table, and {cell!r} is not a table; the id of a "
                    "cell is complete, and is looked up at every scale"
                )
        cells, none = explaining.find_cells(cell), ""
    sys.stdout.write(("\n\n".join(map(explaining.explain, cells)) or none) + "\n")


def gc(
    results: Results = Path("results"),
    delete: Annotated[bool, typer.Option("--delete", help="remove what is listed")] = False,
    experts: Annotated[
        bool, typer.Option("--experts", help="remove experts too, which others may share")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List the work that no table and no record refers to, or remove it."""
    from nsdbench.bench import unused

    found, warnings = unused.find(results)
    for warning in warnings:
        make_console(is_error=True).print(f"warning: {warning}")
    if delete and warnings:
        raise DataCorrupt("nothing is removed: what these files refer to is not known")
    going = [one for one in found if experts or not one.is_shared] if delete else []
    busy = unused.remove(going)
    if as_json:
        keys = ("kind", "reason", "num_bytes")
        plain = [
            {"path": str(one.path), **{key: getattr(one, key) for key in keys}}
            | {"is_removed": one in going and one not in busy}
            for one in found
        ]
        sys.stdout.write(json.dumps(plain, indent=2) + "\n")
        return
    console = make_console()
    rows = [(one.kind, size(one.num_bytes), str(one.path), one.reason) for one in found]
    if rows:
        show_table(console, ("what", "size", "path", "why"), rows)
    for one in busy:
        console.print(f"{one.path} stays: somebody works on it")
    removed = [one for one in going if one not in busy]
    total = f"{counted(len(found), 'thing')}, {size(sum(one.num_bytes for one in found))}."
    if delete:
        total += f" Removed {len(removed)}, {size(sum(one.num_bytes for one in removed))}."
    elif found:
        total += " --delete removes them; experts, which others may share, with --experts too."
    console.print(f"Not referred to: {total}")


def _plain(figures: "Iterable[PlannedFigure]") -> list[dict[str, object]]:
    """Describe planned figures in JSON values."""
    return [{"name": figure.name, "is_computed": figure.is_done} for figure in figures]


def _fill_pages(pages: list[Path], results: Path) -> None:
    """Fill the marked blocks of some pages, and say which were left."""
    from nsdbench.files import write_atomically
    from nsdbench.report.blocks import fill

    records, console = _records(results, None), make_console()
    for page in pages:
        try:
            text = page.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"{page}: expected text in UTF-8 ({error})") from None
        try:
            filled = fill(text, records)
        except ValueError as error:
            raise ValueError(f"{page}: {error}") from error
        if filled.text != text:
            write_atomically(page, partial(Path.write_text, data=filled.text, encoding="utf-8"))
        console.print(f"{page}: {counted(filled.num_blocks - len(filled.left), 'block')} filled")
        for order in filled.left:
            console.print(f"{page}: left as it is, since no cell of it is measured: {order}")


def _records(results: Path, scale: str | None) -> "list[Record]":
    """Read the records of a scale, None for all; warn of files that are not records."""
    from nsdbench.bench.store import Store

    records, warnings = Store(results).records(scale)
    for warning in warnings:
        make_console(is_error=True).print(f"warning: {warning}")
    return records
