"""Variants: a method with a few settings changed, which its name spells out.

    nsd+objective.guided_weight=0.1+parameterization.t1=2

Such a name is taken wherever a method's is, so that cells, sets and records of a variant are kept
apart like those of any method. Equal settings make equal names.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

MAX_LENGTH = 150  # a file name has at most 255 characters, and a set's says more than the method
_SEPARATOR = re.compile(r"\+(?=[a-z_]+\.)")  # the plus of 1e+20 separates nothing
_SETTING = re.compile(r"([a-z_]+)\.([a-z0-9_]+)=([A-Za-z0-9_.-]+|-?[0-9.]+e\+[0-9]+)")


def variant_name(method: str, settings: Mapping[str, Any]) -> str:
    """Name a method with settings that replace all others.

    Args:
        method: name of the method.
        settings: values by "section.key": numbers, booleans or plain words.

    Raises:
        ValueError: a key or value that has no place in a name, or a name too long for files.
    """
    parts = [method]
    for path, value in sorted(settings.items()):
        part = f"{path}={value if isinstance(value, str) else json.dumps(value)}"
        if not _SETTING.fullmatch(part) or _read(part.partition("=")[2]) != value:
            raise ValueError(
                f"{method}: setting {path} = {value!r}: expected section.key and a number, a "
                "boolean or a word of letters, digits, '.', '_' and '-'"
            )
        parts.append(part)
    name = "+".join(parts)
    if settings and len(name) > MAX_LENGTH:
        raise ValueError(
            f"the variant {name!r} has {len(name)} characters, file names have room for "
            f"{MAX_LENGTH}; write a method file that extends {method!r} instead"
        )
    return name


def split_variant(name: str) -> tuple[str, dict[str, Any]]:
    """Split the name of a variant into the method's and the settings; no settings for a method.

    Raises:
        ValueError: the settings are not written as `variant_name` writes them.
    """
    method, *parts = _SEPARATOR.split(name)
    settings = {}
    for part in parts:
        if not (match := _SETTING.fullmatch(part)):
            raise ValueError(f"{name!r}: {part!r} is not a setting; expected section.key=value")
        settings[f"{match[1]}.{match[2]}"] = _read(match[3])
    canonical = variant_name(method, settings)
    if canonical != name:
        raise ValueError(f"the variant {name!r} is called {canonical!r}")
    return method, settings


def _read(text: str) -> Any:
    """Read a value: JSON, or else a word."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text
