"""Find the files of tables and read them."""

from collections.abc import Sequence
from pathlib import Path

from nsdbench import methods
from nsdbench.bench.tables.table import Table
from nsdbench.errors import checked, nearest
from nsdbench.files import read_toml, search_folders, toml_files
from nsdbench.methods.conditions import check_scale

FOLDERS_VARIABLE = "NSDBENCH_TABLES"
_OURS = Path(__file__).parent


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
    path = files[name]
    table = checked(Table, read_toml(path), str(path))
    _check_methods(table, path)
    return table


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
    return toml_files(search_folders(_OURS, FOLDERS_VARIABLE), "table")


def _check_methods(table: Table, path: Path) -> None:
    """Refuse methods that no file describes, but those that our own tables name."""
    for number, row in enumerate(table.rows, start=1):
        if row.method is None or methods.is_described(row.method) or row.method in _declared():
            continue
        known = sorted({*methods.names(), *_declared()})
        raise ValueError(
            f"{path}: item {number} of `rows`: unknown method {row.method!r}; known: "
            f"{', '.join(known)}{nearest(row.method, known)}"
        )


def _declared() -> set[str]:
    """Name the methods of our own tables; not all of them are implemented."""
    tables = map(read_toml, _OURS.glob("*.toml"))
    return {row["method"] for table in tables for row in table["rows"] if "method" in row}
