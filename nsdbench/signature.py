"""The settings of a recipe against the function they are for, before anything costs time."""

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any, get_args

_EXPECTED = {int: "a whole number", float: "a finite number", bool: "true or false", str: "text"}


def check_settings(
    function: Callable, positional: int, settings: Mapping[str, Any], whose: str, **more: type
) -> None:
    """Refuse a setting that a function does not take, lacks, or wants of another type.

    Types are checked of parameters annotated with int, float, bool or str, or with one of them or
    None; a whole number is a float, and true is no number.

    Args:
        function: called as function(*positional arguments, **settings).
        positional: number of its positional arguments, which are no settings.
        settings: by name.
        whose: what has them, as messages begin: "objective 'gradient'".
        more: types of settings, by name, that somebody takes beside the function.

    Raises:
        ValueError: the message names the setting and what was expected.
    """
    signature = inspect.signature(function)
    beside = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=kind)
        for name, kind in more.items()
    ]
    signature = signature.replace(parameters=[*signature.parameters.values(), *beside])
    try:
        signature.bind(*[None] * positional, **settings)
    except TypeError as error:
        raise ValueError(f"{whose}: {error}; its settings: {dict(settings)}") from None
    for name, value in settings.items():
        parameter = signature.parameters.get(name)  # none where the function takes any keyword
        if parameter is None:
            continue
        annotation = parameter.annotation
        kinds = [kind for kind in get_args(annotation) or [annotation] if kind in _EXPECTED]
        may_be_none = type(None) in get_args(annotation)
        if not kinds or (value is None and may_be_none):
            continue
        if not any(_is_of(value, kind) for kind in kinds):
            expected = " or ".join(_EXPECTED[kind] for kind in kinds)
            raise ValueError(f"{whose}: {name} is {value!r}; expected {expected}")


def _is_of(value: Any, kind: type) -> bool:
    if kind is float:
        return type(value) in (int, float) and math.isfinite(value)
    return type(value) is kind
