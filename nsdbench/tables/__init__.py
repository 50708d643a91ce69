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

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nsdbench.errors import nearest
from nsdbench.files import search_folders
from nsdbench.methods.conditions import SCALES, check_scale, read_conditions
from nsdbench.methods.variants import variant_name
from nsdbench.tables.published import PUBLISHED_ARCHS, PrintedNumber, read_published
from nsdbench.tables.table import Column, Entry, Row, ScaleSettings, Similarity, Table

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
_ROW_KEYS = (
    "label", "family", "method", "set", "when", "derived", "protocol", "published_protocol", "note",
)  # fmt: skip
_COLUMN_KEYS = ("dataset", "ipc", "arch", "published_arch")
_SCALE_KEYS = (
    "protocol", "full_protocol", "seeds", "repeats", "full_repeats", "note", "columns",
)  # fmt: skip
_SIMILARITY_KEYS = ("dataset", "label", "num_images")
_TOP_LEVEL = ("name", "title", "source", "published", "footnotes", "axes", "rows", "scales")


def names() -> list[str]:
    """Return the names of all declared tables, sorted."""
    return sorted(path.stem for folder in _folders() for path in folder.glob("*.toml"))


def load(name: str) -> Table:
    """Read a table.

    Raises:
        ValueError: no such table, or its file is wrong; the message names file and key.
    """
    for folder in _folders():
        path = folder / f"{name}.toml"
        if name == path.stem and path.is_file():
            return _table(path)
    known = names()
    raise ValueError(f"unknown table {name!r}; known: {', '.join(known)}{nearest(name, known)}")


def choose(names_: Sequence[str] | None, scale: str) -> list[Table]:
    """Read the tables of some names, or of None all that have a scale.

    Raises:
        ValueError: unknown table, or None and an unknown scale.
    """
    if names_ is None:
        check_scale(scale)
        return [table for table in map(load, names()) if scale in table.scales]
    return [load(name) for name in dict.fromkeys(names_)]


def _folders() -> list[Path]:
    return search_folders(Path(__file__).parent, FOLDERS_VARIABLE)


def _table(path: Path) -> Table:
    """Read and check one file."""
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not valid TOML: {error}") from error
    _check_keys(raw, _TOP_LEVEL, ("name", "title", "source", "rows", "scales"), str(path))
    if raw["name"] != path.stem:
        raise ValueError(f"{path}: `name` is {raw['name']!r}, the file is called {path.stem}")
    rows = tuple(_row(row, f"{path}: row {i}") for i, row in enumerate(raw["rows"], start=1))
    labels = [row.label for row in rows]
    for row in rows:
        for label in row.minus or ():
            if label not in labels:
                raise ValueError(f"{path}: row {row.label!r} is derived from unknown {label!r}")
    unknown = [scale for scale in raw["scales"] if scale not in SCALES]
    if unknown:
        raise ValueError(f"{path}: unknown scale `{unknown[0]}`; known: {', '.join(SCALES)}")
    scales = {
        name: _scale(settings, f"{path}: scales.{name}") for name, settings in raw["scales"].items()
    }
    for name, settings in scales.items():
        if any(row.method == "full" for row in rows) and not settings.full_protocol:
            raise ValueError(f"{path}: scales.{name}: `full_protocol` is missing")
    printed = read_published(raw["published"]) if "published" in raw else ()
    axes = tuple(raw.get("axes", ()))
    if axes and (len(axes) != 2 or not all("." in str(axis) for axis in axes)):
        raise ValueError(f"{path}: `axes` is {raw['axes']!r}; expected two settings, section.key")
    return Table(
        raw["name"], raw["title"], raw["source"], tuple(raw.get("footnotes", ())), rows, scales,
        printed, axes,
    )  # fmt: skip


def _row(raw: Mapping[str, Any], where: str) -> Row:
    """Read one [[rows]] block."""
    _check_keys(raw, _ROW_KEYS, ("label", "family"), where)
    if ("method" in raw) == ("derived" in raw):
        raise ValueError(f"{where}: expected exactly one of `method` and `derived`")
    settings = dict(raw)
    derived = settings.pop("derived", None)
    minus = None
    if derived is not None:
        if list(derived) != ["minus"] or len(derived["minus"]) != 2:
            raise ValueError(f"{where}: `derived` must be {{ minus = [minuend, subtrahend] }}")
        minus = tuple(derived["minus"])
    for key in ("protocol", "set", "when"):
        if key in raw and raw.get("method") in (None, "full"):
            raise ValueError(
                f"{where}: `{key}` has no place in a derived row or the full data's (whose "
                "protocol is the scale's `full_protocol`)"
            )
    settings["when"] = read_conditions(settings.get("when", {}), where)
    own = settings.pop("set", {})
    if not isinstance(own, dict):
        raise ValueError(f'{where}: `set` is {own!r}; expected {{ "section.key" = value }}')
    try:
        variant = variant_name(settings["method"], own) if own else ""
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    return Row(**{"method": None, "minus": minus, "variant": variant, **settings})


def _scale(raw: Mapping[str, Any], where: str) -> ScaleSettings:
    """Read the settings of one scale."""
    if "similarity" in raw:
        _check_keys(raw, ("similarity", "note"), (), where)
        images = raw["similarity"]
        _check_keys(images, _SIMILARITY_KEYS, _SIMILARITY_KEYS, f"{where}: similarity")
        return ScaleSettings("", "", 1, 1, 1, (), raw.get("note", ""), Similarity(**images))
    _check_keys(raw, _SCALE_KEYS, ("protocol", "seeds", "repeats", "columns"), where)
    columns = []
    for number, column in enumerate(raw["columns"], start=1):
        _check_keys(column, _COLUMN_KEYS, ("dataset", "ipc", "arch"), f"{where}: column {number}")
        paper_names = {arch: name for name, arch in PUBLISHED_ARCHS.items()}
        printed_as = paper_names.get(column["arch"], column["arch"])
        columns.append(Column(**{"published_arch": printed_as, **column}))
    settings = {"full_protocol": "", "full_repeats": raw["repeats"], **raw}
    return ScaleSettings(**{**settings, "columns": tuple(columns)})


def _check_keys(raw: Any, known: tuple, required: tuple, where: str) -> None:
    """Refuse unknown and missing keys by name."""
    if not isinstance(raw, dict):
        raise ValueError(f"{where}: expected a table of keys, got {raw!r}")
    for key in raw:
        if key not in known:
            raise ValueError(f"{where}: unknown key `{key}`; known: {', '.join(known)}")
    for key in required:
        if key not in raw:
            raise ValueError(f"{where}: `{key}` is missing")
