"""Explain a cell: its recipe, the source of every value, protocol and code path.

Needs no data, and says for a method that does not exist what it would be.
"""

import json
from dataclasses import replace

from nsdbench import methods, models
from nsdbench.bench.cell import Cell
from nsdbench.bench.cost import estimate
from nsdbench.bench.tables import SCALES, load, names
from nsdbench.bench.tables.where import keep_where
from nsdbench.data import spec
from nsdbench.errors import NsdbenchError, counted
from nsdbench.evaluation import protocols
from nsdbench.experts import student_arch
from nsdbench.ops import backend
from nsdbench.student import unroll


def find_cells(cell_id: str) -> list[Cell]:
    """Find the cells with an id in all tables and scales.

    The protocol at its end may be another one than the table's, as with `--protocol`.

    Raises:
        ValueError: no table declares such a cell.
    """
    cells = []
    for scale in SCALES:
        for name in names():
            table = load(name)
            for entry in table.entries(scale) if scale in table.scales else []:
                cell = entry.cell
                without_protocol = cell.id.removesuffix(entry.cell.protocol)
                protocol = cell_id.removeprefix(without_protocol)
                if entry.cell.ipc and protocol != cell_id and _is_protocol(protocol):
                    cell = replace(cell, protocol=protocol)
                if cell.id == cell_id and cell not in cells:
                    cells.append(cell)
    if not cells:
        raise ValueError(
            f"no table declares the cell {cell_id!r}; `python -m nsdbench plan TABLE --scale S` "
            "lists their ids"
        )
    return cells


def _is_protocol(name: str) -> bool:
    try:
        protocols.get_for_sets(name)
    except ValueError:
        return False
    return True


def select_cells(
    table: str, scale: str, where: dict[str, list[str]], protocol: str | None = None
) -> list[Cell]:
    """Select cells of a table by the filters of `tables.where`.

    Raises:
        ValueError: unknown scale or protocol, or a filter that no cell of the table matches.
    """
    entries = load(table).entries(scale, protocol=protocol)
    return list(dict.fromkeys(entry.cell for entry in keep_where(entries, where)))


def explain(cell: Cell) -> str:
    """Write the explanation of one cell as plain text."""
    lines = [f"{cell.id} at scale {cell.scale}", ""]
    described = spec(cell.dataset)
    budget = "full data" if cell.ipc == 0 else f"{counted(cell.ipc, 'image')} per class"
    shape = "x".join(map(str, described.image_shape))
    lines += [
        f"data set   {cell.dataset}: {described.num_classes} classes of {shape} images, {budget}",
        f"           source: {described.source}",
    ]
    if described.stands_for:
        lines.append(f"           stands for {described.stands_for}: its recipes and numbers hold")
    protocol = protocols.get(cell.protocol)
    lines += [
        f"judged by  {protocol.network(cell.arch)}",
        f"protocol   {protocol.name}: {protocol}",
        f"           {protocol.hash}",
    ]
    try:
        recipe = methods.resolve(cell.method, cell.dataset, cell.ipc, cell.scale)
    except NsdbenchError as error:
        return "\n".join([*lines, f"method     {error}"])
    lines += [
        f"method     {recipe.title} ({recipe.kind})",
        f"           source: {methods.load(cell.method).source}",
        f"recipe     {recipe.hash}",
        *_settings(recipe),
    ]
    if recipe.kind == "distillation":
        lines += ["", f"distils with {student_arch(recipe, described)}{_code_path(recipe, cell)}"]
    lines += [_cost(recipe, cell)]
    return "\n".join(lines)


def _settings(recipe: methods.Recipe) -> list[str]:
    """List every setting with its source, section by section."""
    rows = [
        (f"{section}.{key}", json.dumps(value))
        for section, settings in recipe.values.items()
        for key, value in settings.items()
    ]
    name_width = max((len(name) for name, _ in rows), default=0)
    value_width = max((len(value) for _, value in rows), default=0)
    return [
        f"  {name:<{name_width}}  {value:<{value_width}}  {recipe.sources[name]}"
        for name, value in rows
    ]


def _code_path(recipe: methods.Recipe, cell: Cell) -> str:
    """Say which implementation differentiates a student's training here, if one is unrolled."""
    mode = recipe.values["objective"].get("mode")
    if mode is None:
        return ""
    described = spec(cell.dataset)
    model = models.for_dataset(student_arch(recipe, described), described)
    paths = ", ".join(
        f"{unroll.code_path(model.to(device), mode)} code path on {name}"
        for device, name in (("cpu", "the CPU"), ("cuda", "CUDA"))
        if device in backend.devices()
    )
    return f", unrolled gradient: mode {mode}, {paths}"


def _cost(recipe: methods.Recipe, cell: Cell) -> str:
    """Say what is stored and how many images it decodes to."""
    described = spec(cell.dataset)
    protocol = protocols.get(cell.protocol)
    try:
        cost = estimate(recipe, described, cell.ipc, cell.arch, protocol, 1, 1)
    except (NsdbenchError, ValueError, KeyError) as error:
        return f"cannot be run as it stands: {error}"
    if cost.stored_bytes is None:
        return f"trains on {cost.num_images} real images"
    excess = "" if cost.excess_ipc is None else f" ({cost.excess_ipc:.2f} ipc: over budget)"
    return f"stores {cost.stored_bytes:.0f} bytes{excess}, trains on {cost.num_images} images"
