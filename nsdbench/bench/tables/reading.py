"""Read one table's file and check every key and value in it; the format is that of `tables`."""

import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nsdbench import data, methods, models
from nsdbench.bench.tables.published import PUBLISHED_ARCHS, read_published
from nsdbench.bench.tables.table import Column, Row, ScaleSettings, Similarity, Table
from nsdbench.errors import DataMissing, NotImplementedYet, nearest
from nsdbench.evaluation import protocols
from nsdbench.methods.conditions import SCALES, hold, read_conditions
from nsdbench.methods.variants import variant_name

# The keys of every part of a file, each with the values it may have (see `_check`).
_TOP_LEVEL = {
    "name": "text", "title": "text", "source": "text", "published": "text", "footnotes": "texts",
    "axes": "texts", "rows": "list", "scales": "keys",
}  # fmt: skip
_ROW = {
    "label": "text", "family": "text", "method": "text", "set": "keys", "when": "keys",
    "derived": "keys", "protocol": "text", "published_protocol": "text", "note": "text",
}  # fmt: skip
_DERIVED = {"minus": "texts"}
_COLUMN = {"dataset": "text", "ipc": "count", "arch": "text", "published_arch": "text"}
_SCALE = {
    "protocol": "text", "full_protocol": "text", "seeds": "count", "repeats": "count",
    "full_repeats": "count", "note": "text", "columns": "list",
}  # fmt: skip
_FIGURE = {"similarity": "keys", "note": "text"}
_SIMILARITY = {"dataset": "text", "label": "index", "num_images": "count"}

_KINDS = {
    "text": ("a text", lambda value: isinstance(value, str) and value != ""),
    "texts": ("a list of texts",
              lambda value: isinstance(value, list) and all(isinstance(x, str) for x in value)),
    "count": ("a whole number of at least 1", lambda value: type(value) is int and value >= 1),
    "index": ("a whole number of at least 0", lambda value: type(value) is int and value >= 0),
    "list": ("a list of tables of keys", lambda value: isinstance(value, list)),
    "keys": ("a table of keys", lambda value: isinstance(value, dict)),
}  # fmt: skip


def read_table(path: Path) -> Table:
    """Read and check one file.

    Raises:
        ValueError: something in it is wrong; the message names the file and the key.
    """
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not valid TOML: {error}") from error
    _check(raw, _TOP_LEVEL, ("name", "title", "source", "rows", "scales"), str(path))
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
        _check_labels(rows, name, settings.columns, str(path))
    with _named(str(path)):
        printed = read_published(raw["published"]) if "published" in raw else ()
    axes = tuple(raw.get("axes", ()))
    if axes and (len(axes) != 2 or not all("." in axis for axis in axes)):
        raise ValueError(f"{path}: `axes` is {raw['axes']!r}; expected two settings, section.key")
    return Table(
        raw["name"], raw["title"], raw["source"], tuple(raw.get("footnotes", ())), rows, scales,
        printed, axes,
    )  # fmt: skip


def _row(raw: Any, where: str) -> Row:
    """Read one [[rows]] block."""
    _check(raw, _ROW, ("label", "family"), where)
    if ("method" in raw) == ("derived" in raw):
        raise ValueError(f"{where}: expected exactly one of `method` and `derived`")
    settings = dict(raw)
    derived = settings.pop("derived", None)
    minus = None
    if derived is not None:
        _check(derived, _DERIVED, ("minus",), f"{where}: `derived`")
        minus = tuple(derived["minus"])
        if len(minus) != 2:
            raise ValueError(f"{where}: `derived` must be {{ minus = [minuend, subtrahend] }}")
    for key in ("protocol", "set", "when"):
        if key in raw and raw.get("method") in (None, "full"):
            raise ValueError(
                f"{where}: `{key}` has no place in a derived row or the full data's (whose "
                "protocol is the scale's `full_protocol`)"
            )
    settings["when"] = read_conditions(settings.get("when", {}), where)
    own = settings.pop("set", {})
    with _named(where):
        if "protocol" in raw:
            protocols.get_for_sets(raw["protocol"])
        variant = _variant(settings["method"], own) if own else ""
    return Row(**{"method": None, "minus": minus, "variant": variant, **settings})


def _variant(method: str, settings: Mapping[str, Any]) -> str:
    """Name a variant whose settings the method's sections can have."""
    name = variant_name(method, settings)
    try:
        methods.load(name)
    except NotImplementedYet:  # there may be rows of such methods
        pass
    return name


def _scale(raw: Any, where: str) -> ScaleSettings:
    """Read the settings of one scale."""
    if isinstance(raw, dict) and "similarity" in raw:
        _check(raw, _FIGURE, (), where)
        images = raw["similarity"]
        _check(images, _SIMILARITY, tuple(_SIMILARITY), f"{where}: similarity")
        _check_dataset(images["dataset"], f"{where}: similarity")
        return ScaleSettings("", "", 1, 1, 1, (), raw.get("note", ""), Similarity(**images))
    _check(raw, _SCALE, ("protocol", "seeds", "repeats", "columns"), where)
    with _named(where):
        protocols.get_for_sets(raw["protocol"])
        if "full_protocol" in raw:
            protocols.get(raw["full_protocol"])
    columns = tuple(
        _column(column, f"{where}: column {i}") for i, column in enumerate(raw["columns"], start=1)
    )
    settings = {"full_protocol": "", "full_repeats": raw["repeats"], **raw}
    return ScaleSettings(**{**settings, "columns": columns})


def _column(raw: Any, where: str) -> Column:
    """Read one column of a scale."""
    _check(raw, _COLUMN, ("dataset", "ipc", "arch"), where)
    _check_dataset(raw["dataset"], where)
    with _named(where):
        models.parse_id(raw["arch"])
    paper_names = {arch: name for name, arch in PUBLISHED_ARCHS.items()}
    return Column(**{"published_arch": paper_names.get(raw["arch"], raw["arch"]), **raw})


def _check_labels(
    rows: tuple[Row, ...], scale: str, columns: tuple[Column, ...], where: str
) -> None:
    """Refuse two rows of one label that have cells in one column."""
    for column in columns:
        labels = [
            row.label
            for row in rows
            if hold(row.when, scale=scale, dataset=column.dataset, ipc=column.ipc)
        ]
        for label in labels:
            if labels.count(label) > 1:
                raise ValueError(
                    f"{where}: two rows are labelled {label!r} at scale {scale} on "
                    f"{column.dataset}, ipc {column.ipc}; rename one"
                )


def _check_dataset(name: str, where: str) -> None:
    """Refuse a data set that does not exist; one that is not on this machine will do."""
    with _named(where):
        try:
            data.spec(name)
        except DataMissing:
            pass


@contextmanager
def _named(where: str) -> Iterator[None]:
    """Say in the message of a ValueError where the value stands."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def _check(raw: Any, known: Mapping[str, str], required: tuple[str, ...], where: str) -> None:
    """Refuse unknown and missing keys by name, and values that a key cannot have."""
    if not isinstance(raw, dict):
        raise ValueError(f"{where}: expected a table of keys, got {raw!r}")
    for key, value in raw.items():
        if key not in known:
            raise ValueError(
                f"{where}: unknown key `{key}`; known: {', '.join(known)}{nearest(key, known)}"
            )
        expected, fits = _KINDS[known[key]]
        if not fits(value):
            raise ValueError(f"{where}: `{key}` is {value!r}; expected {expected}")
    for key in required:
        if key not in raw:
            raise ValueError(f"{where}: `{key}` is missing")
