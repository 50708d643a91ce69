"""The errors nsdbench raises besides ValueError (the caller's mistake), and message helpers."""

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, TypeVar

T = TypeVar("T")


class NsdbenchError(Exception):
    """Base of all errors that are not the caller's mistake in an argument."""


class DataMissing(NsdbenchError):
    """A data set, or a prior, is not on this machine; the message says how to provide it."""


class DataCorrupt(NsdbenchError):
    """A file exists but is truncated, altered or not what its name says; the message names it."""


class BudgetExceeded(NsdbenchError):
    """A parameterization would store more bits than Eq. 3 of the paper allows."""


class ExtensionUnavailable(NsdbenchError):
    """The compiled operators do not load; the message says why and what to do."""


class TestSplitSealed(NsdbenchError):
    """The test split was opened by something other than evaluation."""

    __test__ = False  # the name starts with "Test": keep pytest from collecting it


class Diverged(NsdbenchError):
    """A loss or a learned value became NaN or infinite."""


class NotImplementedYet(NsdbenchError):
    """A method named in a table of the paper that this version does not provide."""


def nearest(name: object, known: Iterable[str]) -> str:
    """End a message about an unknown name: "; did you mean NSD?", or nothing if none is near."""
    by_lower = {other.lower(): other for other in known}
    close = get_close_matches(str(name).lower(), by_lower, n=3)
    return f"; did you mean {' or '.join(by_lower[lower] for lower in close)}?" if close else ""


def checked(kind: type[T], value: Any, where: str) -> T:
    """Check plain values against a pydantic model, and return them as one.

    Args:
        kind: the model. Messages know its keys, types, ranges and choices, and those of the models
            and lists within it.
        value: what was read from a file, or given by a user.
        where: what has the values, as the message begins: a file, "objective 'gradient'".

    Raises:
        ValueError: the first fault. The message names the key, its value and what was expected, or
            the known keys and the nearest of them.
    """
    from pydantic import TypeAdapter, ValidationError

    adapter = TypeAdapter(kind)
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        faults = error.errors(include_url=False)
        # A misspelt key says more than that the right one is missing.
        fault = min(faults, key=lambda fault: fault["type"] != "extra_forbidden")
        raise ValueError(f"{where}: {_fault(fault, adapter.json_schema())}") from error


def _fault(fault: Mapping[str, Any], schema: dict[str, Any]) -> str:
    """Say what is wrong with one value; the model's JSON schema knows what was expected.

    Keys are joined by dots, items counted from 1: "item 2 of `rows`: `when.ipc` is ...".
    """
    kind, place, value = fault["type"], fault["loc"], fault["input"]
    items = ""
    keys: list[str] = []
    for part in place:
        if isinstance(part, int):
            items += f"item {part + 1} of `{'.'.join(keys)}`: "
            keys = []
        else:
            keys.append(part)
    where = f"{items}`{'.'.join(keys)}`" if keys else items.removesuffix(": ")
    if kind == "extra_forbidden":
        known = _at(schema, place[:-1]).get("properties", {})
        hint = f"known: {', '.join(known)}{nearest(place[-1], known)}"
        return f"{items}unknown key `{'.'.join(keys)}`; {hint}"
    if kind == "missing":
        return f"{where} is missing"
    if kind == "value_error":  # a check of the model's own
        return f"{where}: {fault['ctx']['error']}" if where else str(fault["ctx"]["error"])
    expected = _at(schema, place)
    words = _words(expected) or fault["msg"]
    hint = nearest(value, _choices(expected))
    return f"{where} is {value!r:.200}; expected {words}{hint}".strip()


def _at(schema: dict[str, Any], place: Sequence[str | int]) -> dict[str, Any]:
    """Return the part of a JSON schema that describes a place; empty if none does."""
    part, definitions = schema, schema.get("$defs", {})
    for step in (None, *place):
        if isinstance(step, int):
            items = part.get("prefixItems")
            part = items[step] if items else part.get("items", {})
        elif step is not None:
            other = part.get("additionalProperties")
            part = part.get("properties", {}).get(step, other if isinstance(other, dict) else {})
        others = [one for one in part.get("anyOf", ()) if one.get("type") != "null"]
        part = others[0] if len(others) == 1 else part
        part = definitions[part["$ref"].rpartition("/")[2]] if "$ref" in part else part
    return part


def _choices(schema: dict[str, Any]) -> list[str]:
    choices = [schema["const"]] if "const" in schema else schema.get("enum", [])
    return [str(choice) for choice in choices]


_TYPES = {
    "integer": "a whole number",
    "number": "a finite number",
    "boolean": "true or false",
    "string": "text",
    "array": "a list",
    "object": "a table of keys",
}
_RANGES = {
    "minimum": "of at least {}",
    "exclusiveMinimum": "above {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "below {}",
    "minLength": "that is not empty",
    "minItems": "of at least {}",
    "maxItems": "at most {}",
}


def _words(schema: dict[str, Any]) -> str:
    """Say what a JSON schema allows; empty if it says nothing."""
    if choices := _choices(schema):
        return f"one of {', '.join(choices)}"
    if kinds := schema.get("anyOf"):
        return " or ".join(_words(kind) for kind in kinds if kind.get("type") != "null")
    ranges = [words.format(schema[key]) for key, words in _RANGES.items() if key in schema]
    return " ".join(filter(None, [_TYPES.get(schema.get("type", "")), " and ".join(ranges)]))


def counted(number: int, thing: str) -> str:
    """Write how many things there are: "1 cell", "93 cells"."""
    return f"{number} {thing}" if number == 1 else f"{number:,} {thing}s"
