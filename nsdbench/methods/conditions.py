"""Conditions, written `when = { scale = "smoke", ipc = [1, 10] }`: the cells something is for."""

from typing import Any

from nsdbench.data.holdout import base_name
from nsdbench.errors import nearest

CONDITIONS = ("scale", "dataset", "ipc")
SCALES = ("smoke", "small", "paper")

Conditions = dict[str, tuple]


def read_conditions(raw: Any, where: str) -> Conditions:
    """Read a `when`: of every key the values that are allowed, one or a list of them.

    Raises:
        ValueError: an unknown key or a value of the wrong type; the message begins with `where`.
    """
    if not isinstance(raw, dict):
        raise ValueError(f"{where}: `when` must be a table such as {{ scale = 'smoke', ipc = 1 }}")
    conditions = {}
    for key, allowed in raw.items():
        if key not in CONDITIONS:
            raise ValueError(
                f"{where}: unknown condition `when.{key}`; known: {', '.join(CONDITIONS)}"
            )
        allowed = tuple(allowed) if isinstance(allowed, list) else (allowed,)
        expected: type = int if key == "ipc" else str
        if not all(type(value) is expected for value in allowed):
            raise ValueError(
                f"{where}: `when.{key}` is {raw[key]!r}; expected {expected.__name__} values"
            )
        for scale in allowed if key == "scale" else ():
            check_scale(scale, f"{where}: `when.scale`: ")
        conditions[key] = allowed
    return conditions


def check_scale(scale: str, where: str = "") -> None:
    """Raise ValueError for an unknown scale; the message begins with `where`."""
    if scale not in SCALES:
        raise ValueError(
            f"{where}unknown scale {scale!r}; choose one of {', '.join(SCALES)}"
            f"{nearest(scale, SCALES)}"
        )


def hold(conditions: Conditions, *, scale: str, dataset: str, ipc: int) -> bool:
    """Say whether every condition names the cell's value; a hold-out counts as the whole."""
    cell = {"scale": scale, "dataset": base_name(dataset), "ipc": ipc}
    return all(cell[key] in allowed for key, allowed in conditions.items())
