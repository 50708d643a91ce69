"""What `list` shows: methods, data sets, tables, protocols, architectures, expert buffers."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from nsdbench import data, methods, models, protocols, tables

Section = tuple[str, tuple[str, ...], list[tuple[str, ...]]]


def sections(what: str = "all") -> list[Section]:
    """Return (heading, header, rows) of one section, or of all.

    Raises:
        ValueError: no such section.
    """
    known: dict[str, Callable[[], Section]] = {
        "methods": _methods,
        "datasets": _datasets,
        "tables": _tables,
        "protocols": _protocols,
        "archs": _archs,
    }
    if what != "all" and what not in known:
        raise ValueError(f"cannot list {what!r}; choose one of {', '.join(known)}")
    return [make() for name, make in known.items() if what in ("all", name)]


def expert_buffers(buffers: Iterable[Mapping[str, Any]]) -> tuple[tuple[str, ...], list[tuple]]:
    """Return header and rows for the buffers `experts.list_buffers` describes."""
    rows = []
    for buffer in buffers:
        done = f"{buffer['epochs_done']}/{buffer['num_experts'] * buffer['num_epochs']}"
        size = f"{buffer['num_bytes'] / 1e6:.1f} MB"
        rows.append((buffer["name"], buffer["kind"], buffer["dataset"], buffer["arch"], done, size))
    return ("buffer", "kind", "data set", "network", "epochs done", "size"), rows


def _methods() -> Section:
    rows = []
    declared = {entry.row.method for name in tables.names() for entry in _all_entries(name)}
    for name in sorted(declared | set(methods.names())):
        if name in methods.names():
            method = methods.load(name)
            rows.append((name, method.title, method.kind, method.source))
        else:
            rows.append((name, "", "not implemented", ""))
    return "methods", ("name", "title", "kind", "source"), rows


def _all_entries(name: str) -> list[tables.Entry]:
    """Return the cells of a table at its first scale; methods are the same at all."""
    table = tables.load(name)
    return table.entries(next(iter(table.scales)))


def _datasets() -> Section:
    rows = []
    for name in data.names():
        spec = data.spec(name)
        shape = "x".join(map(str, spec.image_shape))
        place = data.locate(name)
        here = "missing" if place is None else str(place)
        rows.append((name, shape, str(spec.num_classes), here))
    rows.append(("folder:PATH[@SIZE]", "", "", "your own images, a folder a class"))
    rows.append(("NAME-holdoutN-seedS", "", "", "N training images of NAME set aside to tune on"))
    return "datasets", ("name", "image", "classes", "where"), rows


def _tables() -> Section:
    rows = []
    for name in tables.names():
        table = tables.load(name)
        rows.append((name, table.title, ", ".join(table.scales)))
    return "tables", ("name", "title", "scales"), rows


def _protocols() -> Section:
    rows = []
    for name in protocols.names():
        if name == "full":
            rows.append(("full-<E>ep", "full data for E epochs"))
            continue
        settings = protocols.get(name).as_dict()
        text = ", ".join(f"{key} {value}" for key, value in settings.items() if key != "name")
        rows.append((name, text))
    rows.append(("<name>-<E>ep", "the same with another number of epochs"))
    return "protocols", ("name", "settings"), rows


def _archs() -> Section:
    rows = [
        (name, f"{name}<depth>-w<width>" if name == "convnet" else f"{name}[-w<width>]",
         str(models.PUBLISHED_WIDTHS[name]))
        for name in models.NAMES
    ]  # fmt: skip
    return "archs", ("name", "id", "published width"), rows
