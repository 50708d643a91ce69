"""The errors nsdbench raises besides ValueError (the caller's mistake), and words they share."""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import ValidationError


class NsdbenchError(Exception):
    """Base of all errors that are not the caller's mistake in an argument."""


class DataMissing(NsdbenchError):
    """A dataset is not on this machine; the message names every way to provide it."""


class DataCorrupt(NsdbenchError):
    """A file exists but is truncated, altered or not what its name says; the message names it."""


class BudgetExceeded(NsdbenchError):
    """A parameterization would store more bits than Eq. 3 of the paper allows."""


class ExtensionUnavailable(NsdbenchError):
    """The compiled extension could not be loaded; the message lists the likely causes."""


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
    found = get_close_matches(str(name).lower(), by_lower, n=3)
    return f"; did you mean {' or '.join(by_lower[lower] for lower in found)}?" if found else ""


_EXPECTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a finite number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "string_type": "text",
    "greater_than_equal": "at least {ge}",
    "greater_than": "above {gt}",
    "less_than_equal": "at most {le}",
    "less_than": "below {lt}",
    "literal_error": "{expected}",
}


def explain_validation(error: "ValidationError", where: str, known: Iterable[str]) -> str:
    """Say what a pydantic model refuses, as our messages do: key, value, expected, nearest.

    Args:
        error: what the model raised.
        where: what has the values, as the message begins: "objective 'gradient'".
        known: the keys of the model.
    """
    return "; ".join(_explain(fault, where, list(known)) for fault in error.errors())


def _explain(fault: Any, where: str, known: list[str]) -> str:
    key, value, context = ".".join(map(str, fault["loc"])), fault["input"], fault.get("ctx", {})
    if fault["type"] == "extra_forbidden":
        names = ", ".join(known) or "none"
        return f"{where}: unknown key `{key}`; known: {names}{nearest(key, known)}"
    if fault["type"] == "missing":
        return f"{where}: `{key}` is missing"
    if fault["type"] == "value_error":  # a check of the model's own
        return f"{where}: {f'`{key}`: ' if key else ''}{context['error']}"
    expected = _EXPECTED.get(fault["type"], fault["msg"]).format_map(context)
    hint = nearest(value, context["expected"].split("'")[1::2]) if "expected" in context else ""
    return f"{where}: `{key}` is {value!r}; expected {expected}{hint}"
