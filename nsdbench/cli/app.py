"""The command line: arguments, exit codes, printing; everything else is elsewhere.

Exit codes: 0 everything selected is done (or its method is not implemented yet, which is printed),
2 wrong usage, 3 some cells failed or lack their data, 130 stopped by Ctrl-C.
"""

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nsdbench.cli import sets as cli_sets
from nsdbench.cli.console import (
    RunDisplay,
    make_console,
    show_lines,
    show_missing,
    show_outcome,
    show_plan,
    show_table,
    show_totals,
)
from nsdbench.cli.options import (
    AsJson,
    DataRoot,
    Device,
    JudgedBy,
    Results,
    Scale,
    Seeds,
    SomeTables,
    Tables,
    Where,
    resolve_device,
)
from nsdbench.errors import NotImplementedYet, NsdbenchError

if TYPE_CHECKING:
    from nsdbench.bench.record import Record

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Benchmark suite for dataset distillation.",
)
app.command("distill")(cli_sets.distill)
app.command("evaluate")(cli_sets.evaluate)
app.add_typer(cli_sets.experts_app, name="experts")

_WRONG_PATHS = (
    FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError, PermissionError,
)  # fmt: skip


def main() -> None:
    """Run the command line; our own errors are one message and an exit code, never a traceback."""
    try:
        app()
    except (ValueError, NotImplementedYet, *_WRONG_PATHS) as error:
        _stop(error, 2)
    except (NsdbenchError, OSError) as error:
        _stop(error, 3)


@app.command("list")
def list_command(
    what: Annotated[
        str, typer.Argument(help="methods, datasets, tables, protocols or archs")
    ] = "all",
    as_json: AsJson = False,
) -> None:
    """List what there is."""
    from nsdbench.cli import listing

    found = listing.sections(what)
    if as_json:
        plain = {
            heading: [dict(zip(header, row, strict=True)) for row in rows]
            for heading, header, rows in found
        }
        sys.stdout.write(json.dumps(plain, indent=2) + "\n")
        return
    console = make_console()
    for heading, header, rows in found:
        console.print(f"{heading}:")
        show_table(console, header, rows)


@app.command()
def plan(
    table: Tables,
    scale: Scale = "smoke",
    where: Where = None,
    seeds: Seeds = None,
    protocol: JudgedBy = None,
    results: Results = Path("results"),
    data_root: DataRoot = None,
) -> None:
    """Show the cells of tables: data present or missing, predicted memory, time, stored size."""
    from nsdbench.bench import similarity, tables
    from nsdbench.data import how_to_get

    made, seconds = _plan(table, scale, where, seeds, protocol, results, data_root, "auto")
    console = make_console()
    show_plan(console, made, seconds)
    show_lines(console, similarity.plan(tables.choose(table, scale), scale, results))
    show_missing(console, made, {name: how_to_get(name, data_root) for name in made.missing_data()})


@app.command()
def run(
    table: Tables,
    scale: Scale = "smoke",
    where: Where = None,
    seeds: Seeds = None,
    protocol: JudgedBy = None,
    jobs: Annotated[int, typer.Option(help="cells at the same time")] = 1,
    results: Results = Path("results"),
    data_root: DataRoot = None,
    device: Device = "auto",
) -> None:
    """Measure the cells of tables that are not measured yet; Ctrl-C stops, the same goes on."""
    from nsdbench.bench import plan as planning
    from nsdbench.bench import run as schedule
    from nsdbench.bench import similarity, tables

    schedule.check_jobs(jobs)
    device = resolve_device(device)
    console = make_console()
    chosen = (table, scale, where, seeds, protocol, results, data_root, device)
    made, seconds = _plan(*chosen)
    show_plan(console, made, seconds)
    pictured = similarity.plan(tables.choose(table, scale), scale, results)
    show_lines(console, pictured)
    reasons = planning.fetch(made, data_root, console.print)
    if len(reasons) < len(made.missing_data()):
        made, seconds = _plan(*chosen)
        show_totals(console, made, seconds)
    show_missing(console, made, reasons)
    is_left = made.with_status("todo") or made.missing_data()
    if not is_left and all(figure.is_done for figure in pictured):
        console.print("Nothing left to do.")
    settings = schedule.Settings(results, data_root, device, _command_line())
    with RunDisplay(console, made, seconds) as display:
        outcome = schedule.run(made, settings, display, jobs=jobs, missing=reasons)
    if not outcome.is_interrupted:
        similarity.run(pictured, data_root, outcome)
    show_outcome(console, outcome)
    raise typer.Exit(outcome.exit_code)


@app.command()
def status(
    table: SomeTables = None,
    scale: Scale = "smoke",
    where: Where = None,
    protocol: JudgedBy = None,
    results: Results = Path("results"),
    as_json: AsJson = False,
) -> None:
    """Say for every cell of tables whether it is measured; needs no data."""
    from nsdbench.bench import similarity, tables
    from nsdbench.bench.tables.where import parse_where
    from nsdbench.report import status as reporting

    chosen = tables.choose(table or None, scale)
    records = _records(results, scale)
    found = reporting.summarise(chosen, scale, records, protocol, parse_where(where or []))
    pictured = similarity.plan(chosen, scale, results)
    if as_json:
        found["figures"] = [{"name": x.name, "is_computed": x.is_done} for x in pictured]
        sys.stdout.write(json.dumps(found, indent=2) + "\n")
        return
    console = make_console()
    for part in found["tables"]:
        console.print(f"{part['name']}: {part['title']}", markup=False)
        show_table(console, *reporting.cell_rows(part))
        console.print()
    show_table(console, *reporting.count_rows(found))
    show_lines(console, pictured)


@app.command()
def report(
    table: SomeTables = None,
    scale: Scale = "smoke",
    protocol: JudgedBy = None,
    results: Results = Path("results"),
    markdown: Annotated[bool, typer.Option("--markdown", help="the default")] = False,
    latex: Annotated[bool, typer.Option("--latex", help="booktabs tables")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="one line a cell, full precision")] = False,
    html: Annotated[Path | None, typer.Option(help="write one file, pictures included")] = None,
    images: Annotated[
        Path | None, typer.Option(help="draw decoded images as PNG files into this folder")
    ] = None,
) -> None:
    """Show measured beside published numbers with a verdict per cell; figures become files."""
    from nsdbench.bench import tables
    from nsdbench.report.figures import write_figures
    from nsdbench.report.writers import write

    if markdown + latex + csv + (html is not None) > 1:
        raise ValueError("choose one of --markdown, --latex, --csv and --html FILE")
    kind = "latex" if latex else "csv" if csv else "html" if html else "markdown"
    records = _records(results, scale)
    picture_source = results / "images" / scale if images or html else None
    text = write(table or None, scale, records, kind, picture_source, images, protocol=protocol)
    if html is None:
        sys.stdout.write(text)
    else:
        html.parent.mkdir(parents=True, exist_ok=True)
        html.write_text(text, encoding="utf-8")
        make_console().print(f"wrote {html}")
    chosen = tables.choose(table or None, scale)
    for path in write_figures(chosen, scale, records, results / "figures" / scale, protocol):
        make_console(is_error=True).print(f"wrote {path}")


@app.command()
def explain(
    cell: Annotated[str, typer.Argument(help="a cell id, or a table together with --where")],
    scale: Annotated[
        str | None, typer.Option(help="of a table: smoke (the default), small or paper")
    ] = None,
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
                    f"{option} goes with a table, and {cell!r} is none; a cell's id says which "
                    "cell it is, and is looked up at every scale"
                )
        cells, none = explaining.find_cells(cell), ""
    sys.stdout.write(("\n\n".join(map(explaining.explain, cells)) or none) + "\n")


@app.command()
def doctor(
    as_json: AsJson = False,
) -> None:
    """Show what is built, what is missing, and whether the compiled code is right."""
    from nsdbench.cli import doctor as examination

    facts = examination.report()
    text = json.dumps(facts, indent=2) if as_json else examination.render(facts).rstrip("\n")
    sys.stdout.write(text + "\n")
    is_sound = all(test["passed"] for test in facts["self_test"])
    raise typer.Exit(0 if is_sound else 3)


def _plan(
    table: list[str],
    scale: str,
    where: list[str] | None,
    seeds: int | None,
    protocol: str | None,
    results: Path,
    data_root: Path | None,
    device: str,
) -> tuple:
    """Make the plan of a command, with the predicted time of every cell."""
    from nsdbench.bench import plan as planning
    from nsdbench.bench.run import cores
    from nsdbench.bench.store import Store
    from nsdbench.bench.tables.where import parse_where

    made = planning.make(
        table,
        scale,
        Store(results),
        where=parse_where(where or []),
        seeds=seeds,
        protocol=protocol,
        data_root=data_root,
    )
    return made, made.seconds(cores(), resolve_device(device).startswith("cuda"))


def _records(results: Path, scale: str) -> "list[Record]":
    """Read the records of a scale; a file that is none is a warning."""
    from nsdbench.bench.store import Store

    records, warnings = Store(results).records(scale)
    for warning in warnings:
        make_console(is_error=True).print(f"warning: {warning}", markup=False)
    return records


def _command_line() -> str:
    """Return the command as a record keeps it: without the path of this installation."""
    return shlex.join(["python", "-m", "nsdbench", *sys.argv[1:]])


def _stop(error: Exception, code: int) -> None:
    """Print one message and leave."""
    make_console(is_error=True).print(f"error: {error}", markup=False)
    raise SystemExit(code)
