"""The command line: its commands, exit codes, and how errors are printed.

Exit codes: 0 everything selected is done (or its method is not implemented yet, which is printed),
2 wrong usage, 3 some cells failed or lack their data, 4 the time limit was reached, 130 stopped by
Ctrl-C or SIGTERM.
"""

import json
import signal
import sys
import threading
from typing import Annotated

import typer

import nsdbench
from nsdbench.cli import experts, sets, tables
from nsdbench.cli.console import make_console, make_printable, show_table
from nsdbench.cli.options import AsJson
from nsdbench.errors import NotImplementedYet, NsdbenchError
from nsdbench.sums import show_notices

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

_WRONG_PATHS = (
    FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError, PermissionError,
)  # fmt: skip


def main() -> None:
    """Run the command line; our own errors are one message and an exit code, never a traceback."""
    make_printable(sys.stdout, sys.stderr)
    show_notices()
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: what is done is kept
    try:
        app(prog_name="nsdbench")  # completion knows that name, however we are called
    except (ValueError, NotImplementedYet, *_WRONG_PATHS) as error:
        _stop(error, 2)
    except (NsdbenchError, OSError) as error:
        _stop(error, 3)


def _show_version(is_wanted: bool) -> None:
    """Print the version and exit."""
    if is_wanted:
        sys.stdout.write(f"nsdbench {nsdbench.__version__}\n")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="print the version"),
    ] = False,
) -> None:
    """Benchmark suite for dataset distillation."""


@app.command("list")
def list_command(
    what: Annotated[
        str, typer.Argument(help="methods, datasets, tables, protocols or archs")
    ] = "all",
    as_json: AsJson = False,
) -> None:
    """List methods, data sets, tables, protocols and networks."""
    from nsdbench.cli import listing

    sections = listing.sections(what)
    if as_json:
        plain = {
            heading: [dict(zip(header, row, strict=True)) for row in rows]
            for heading, header, rows in sections
        }
        sys.stdout.write(json.dumps(plain, indent=2) + "\n")
        return
    console = make_console()
    for heading, header, rows in sections:
        console.print(f"{heading}:")
        show_table(console, header, rows)


for command in (tables.plan, tables.run, tables.status, tables.report, tables.explain, tables.gc):
    app.command()(command)
app.command()(sets.distill)
app.command()(sets.evaluate)
app.command()(sets.export)
app.command()(sets.judge)
app.add_typer(experts.app, name="experts")


@app.command()
def doctor(
    as_json: AsJson = False,
    calibrate: Annotated[
        bool,
        typer.Option("--calibrate", help="measure the GPUs for `plan`, some seconds each; kept"),
    ] = False,
) -> None:
    """Show what is built, what is missing, and whether the compiled code is right."""
    from nsdbench.cli import doctor as examination

    if calibrate:
        examination.calibrate()
    facts = examination.report()
    text = json.dumps(facts, indent=2) if as_json else examination.render(facts).rstrip("\n")
    sys.stdout.write(text + "\n")
    is_sound = not facts["operators"] and all(test["passed"] for test in facts["self_test"])
    raise typer.Exit(0 if is_sound else 3)


def _stop(error: Exception, code: int) -> None:
    """Print one message and exit."""
    make_console(is_error=True).print(f"error: {error}")
    raise SystemExit(code)
