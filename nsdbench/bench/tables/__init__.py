"""The published tables as data: their rows, their columns at every scale, and the printed numbers.

A file `<name>.toml` declares a table:

    name = "table1"                # equals the file's name
    title = "..."
    source = "..."                 # where it was published
    published = "table1.csv"       # printed numbers, in results/paper/; optional
    footnotes = ["..."]            # what a reader of the numbers has to know
    axes = ["parameterization.t3", "parameterization.t1"]   # optional: settings to draw it over

    [[rows]]
    label = "Random"               # as in the CSV
    family = "coreset"
    method = "random"              # id of a method; one that does not exist is "not implemented"
    set = { "objective.guided_weight" = 0.1 }     # optional: settings that replace the method's
    when = { scale = "small", ipc = [1, 10] }     # optional: the columns the row has cells in
    protocol = "dc"                # optional: instead of the scale's
    published_protocol = "..."     # how the printed number was evaluated; default "common"
    note = "..."                   # optional: a footnote of this row
    # or, instead of `method`: a difference of two rows
    derived = { minus = ["DC w. ours", "DC"] }

    [scales.smoke]
    protocol = "common-150ep"
    full_protocol = "full-20ep"    # of the row whose method is "full", if there is one
    seeds = 3                      # distilled or drawn sets per cell
    repeats = 1                    # networks per set
    full_repeats = 3               # networks trained on the full data
    note = "..."                   # optional: what was reduced
    columns = [{ dataset = "Digits16", ipc = 1, arch = "convnet2-w32" }]

A figure of real images has no rows, and at a scale nothing but
    similarity = { dataset = "Digits", label = 0, num_images = 100 }    # training images of a class

A column may add `published_arch` where the paper names another network than the one we take it for.
Further folders come from the environment variable NSDBENCH_TABLES.
"""

from collections.abc import Sequence
from pathlib import Path

from nsdbench.bench.tables.published import PrintedNumber
from nsdbench.bench.tables.reading import read_table
from nsdbench.bench.tables.table import Column, Entry, Row, ScaleSettings, Similarity, Table
from nsdbench.errors import nearest
from nsdbench.files import search_folders, toml_files
from nsdbench.methods.conditions import SCALES, check_scale

__all__ = [
    "SCALES",
    "Column",
    "Entry",
    "PrintedNumber",
    "Row",
    "ScaleSettings",
    "Similarity",
    "Table",
    "choose",
    "load",
    "names",
]

FOLDERS_VARIABLE = "NSDBENCH_TABLES"


def names() -> list[str]:
    """Return the names of all declared tables, sorted."""
    return sorted(_files())


def load(name: str) -> Table:
    """Read a table.

    Raises:
        ValueError: no such table, or its file is wrong; the message names file and key.
    """
    files = _files()
    if name not in files:
        raise ValueError(
            f"unknown table {name!r}; known: {', '.join(sorted(files))}{nearest(name, files)}"
        )
    return read_table(files[name])


def choose(names_: Sequence[str] | None, scale: str) -> list[Table]:
    """Read the tables of some names, or of None all that have a scale.

    Raises:
        ValueError: unknown table, or None and an unknown scale.
    """
    if names_ is None:
        check_scale(scale)
        return [table for table in map(load, names()) if scale in table.scales]
    return [load(name) for name in dict.fromkeys(names_)]


def _files() -> dict[str, Path]:
    """Map every table's name to its file; two files of one name are an error."""
    return toml_files(search_folders(Path(__file__).parent, FOLDERS_VARIABLE), "table")
