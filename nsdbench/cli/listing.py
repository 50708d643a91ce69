"""What `list` shows: methods, data sets, tables, protocols, architectures, expert buffers."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from nsdbench import data, methods, models, registry
from nsdbench.bench import parts, tables
from nsdbench.errors import nearest
from nsdbench.evaluation import protocols

Rows = list[tuple[str, ...]]
Section = tuple[str, tuple[str, ...], Rows]


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
        raise ValueError(
            f"cannot list {what!r}; choose one of {', '.join(known)}{nearest(what, known)}"
        )
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
    rows = [_method(methods.load(name)) for name in methods.names()]
    declared: dict[str, list[str]] = {}
    titles: dict[str, str] = {}
    for table in map(tables.load, tables.names()):
        for row in table.rows:
            if row.method is not None and row.method not in methods.names():
                declared.setdefault(row.method, []).append(table.name)
                titles.setdefault(row.method, row.label)
    for name, by in declared.items():
        missing = f"no file describes it; named by {', '.join(dict.fromkeys(by))}"
        rows.append((name, titles[name], *[""] * 4, "not implemented", missing, ""))
    header = (
        "name", "title", "kind", "parameterization", "objective", "selection", "status", "missing",
        "source",
    )  # fmt: skip
    return "methods", header, sorted(rows)


def _method(method: methods.Method) -> tuple[str, ...]:
    """List the parts of a method, and those that are not installed."""
    made_of = [", ".join(names) for names in parts.made_of(method).values()]
    missing, lacks = ", ".join(parts.missing(method)), parts.lacks(method)
    status = "not implemented" if missing else "data missing" if lacks else "runnable"
    return (
        method.name, method.title, method.kind, *made_of, status, missing or lacks, method.source,
    )  # fmt: skip


def _datasets() -> Section:
    rows: Rows = []
    for name in data.names():
        spec = data.spec(name)
        shape = "x".join(map(str, spec.image_shape))
        place = data.locate(name)
        here = "missing" if place is None else str(place)
        rows.append((name, shape, str(spec.num_classes), here))
    rows.append(("folder:PATH[@SIZE]", "", "", "your own images, a folder a class"))
    rows.append(("folder:PATH[@SIZE]=NAME", "", "", "a copy of NAME, judged beside it"))
    rows.append(("NAME-holdoutN-seedS", "", "", "N training images of NAME set aside to tune on"))
    return "datasets", ("name", "image", "classes", "where"), rows


def _tables() -> Section:
    rows: Rows = []
    for name in tables.names():
        table = tables.load(name)
        rows.append((name, table.title, ", ".join(table.scales)))
    return "tables", ("name", "title", "scales"), rows


def _protocols() -> Section:
    rows: Rows = []
    for name in protocols.names():
        if name == "full":
            rows.append(("full-<E>ep", "full data for E epochs"))
            continue
        rows.append((name, str(protocols.get(name))))
    rows.append(("<name>-<E>ep", "the same with another number of epochs"))
    rows.append(("common-equal-steps-<S>", "the same with another number of steps"))
    rows.append(("kip-<S>steps", "the same with another number of steps"))
    return "protocols", ("name", "settings"), rows


def _archs() -> Section:
    rows: Rows = []
    for name, network in models.NETWORKS.items():
        pattern = f"{name}[-w<width>]" if network.depth is None else f"{name}<depth>-w<width>"
        pattern += "[-bn|-nonorm]" if network.norms else ""
        rows.append((name, pattern, str(network.width)))
    for name in registry.plugin_names(models.own.GROUP):
        rows.append((name, f"{name}[-d<depth>][-w<width>][-bn|-nonorm]", "of a plug-in"))
    rows.append(("FILE.py:FACTORY", "FILE.py:FACTORY[-d<depth>][-w<width>][-bn|-nonorm]", "yours"))
    return "archs", ("name", "id", "published width"), rows
