"""Filters on cells, as the option --where gives them."""

import re
from collections.abc import Iterable
from dataclasses import fields

from nsdbench.bench.cell import Cell
from nsdbench.bench.tables.table import Entry
from nsdbench.errors import nearest

WHERE_KEYS = tuple(field.name for field in fields(Cell) if field.name != "scale")
_BEFORE_KEY = re.compile(r",(?=\s*(?:[a-z]+\s*=|$))")


def parse_where(conditions: Iterable[str]) -> dict[str, list[str]]:
    """Read filters such as "dataset=FashionMNIST,ipc=1|10,method=nsd".

    A comma with no "key=" behind it is one of the value, as of a path.

    Raises:
        ValueError: a part is not key=value, or the key is unknown.
    """
    where: dict[str, list[str]] = {}
    for part in (part for text in conditions for part in _BEFORE_KEY.split(text) if part.strip()):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or not value or key not in WHERE_KEYS:
            raise ValueError(
                f"--where {part!r}: expected key=value with a key of {', '.join(WHERE_KEYS)}; "
                "several values as ipc=1|10"
            )
        where.setdefault(key, []).extend(value.split("|"))
    return where


def keep_where(entries: list[Entry], where: dict[str, list[str]]) -> list[Entry]:
    """Keep the entries that match every filter.

    Raises:
        ValueError: no entry has a value that was asked for; the message names those known.
    """
    for key, wanted in where.items():
        known = dict.fromkeys(str(getattr(entry.cell, key)) for entry in entries)
        if not known:
            raise ValueError(f"--where {key}={wanted[0]} matches no cell: there is none to choose")
        for value in wanted:
            if value not in known:
                raise ValueError(
                    f"--where {key}={value} matches no cell; {key} is one of {', '.join(known)}"
                    f"{nearest(value, known)}"
                )
    return [
        entry
        for entry in entries
        if all(str(getattr(entry.cell, key)) in wanted for key, wanted in where.items())
    ]
