"""The parts of methods: how they read a recipe, and which of them no installed package provides."""

from collections.abc import Iterable
from typing import Any

from nsdbench import coresets, data, methods, models
from nsdbench.distillation import objectives
from nsdbench.errors import nearest
from nsdbench.sets import parameterizations, priors

# Sections of a recipe that name a part: which kind of method needs one, and the parts there are.
_PARTS = {
    "parameterization": ("distillation", parameterizations.names),
    "objective": ("distillation", objectives.names),
    "coreset": ("coreset", coresets.names),
}

_READERS = {
    "parameterization": parameterizations.read,
    "objective": objectives.read,
    "coreset": coresets.read,
}


def setting(recipe: methods.Recipe, path: str) -> Any:
    """Return a setting of a recipe as the part that takes it reads it.

    That is a float where a whole number stands for one, and the part's default where the recipe
    says nothing; None where there is no default.

    Args:
        recipe: whose values are looked at.
        path: "section.key".

    Raises:
        ValueError: the section has a setting that its part does not know, or not with this value.
    """
    section, _, key = path.partition(".")
    values = recipe.values.get(section, {})
    if section not in _READERS:
        return methods.typed(section, values).get(key)
    if key == "name" or "name" not in values:
        return values.get(key)
    _, settings = _READERS[section](values)
    return getattr(settings, key, None)


def check(recipe: methods.Recipe, paths: Iterable[str]) -> None:
    """Refuse a recipe that its parts do not take, as far as can be known without its data.

    Args:
        recipe: of a method that lacks no part.
        paths: settings, "section.key", that are to have an effect.

    Raises:
        ValueError: a part lacks a setting or takes another value, a preprocessing or network that
            there is not, or one of the paths is of a part that the method does not have.
    """
    for path in paths:
        section = path.partition(".")[0]
        if section in _PARTS and _PARTS[section][0] != recipe.kind:
            raise ValueError(
                f"{path} has no effect: the method {recipe.method} has no {section}; leave it out"
            )
    for section, (kind, _) in _PARTS.items():
        if kind == recipe.kind:
            _READERS[section](recipe.values.get(section, {}))
    preprocessing = recipe.values.get("data", {}).get("preprocessing")
    if preprocessing is not None and preprocessing not in data.KINDS:
        raise ValueError(
            f"`data.preprocessing` is {preprocessing!r}; expected one of {', '.join(data.KINDS)}"
            f"{nearest(preprocessing, data.KINDS)}"
        )
    network = recipe.values.get("network", {})
    if "name" in network:
        norm = network.get("norm", models.NORMS[0])
        models.arch_id(network["name"], network.get("depth"), network.get("width"), norm)
        if recipe.kind == "distillation":
            objectives.check_network(recipe.values["objective"], norm)


def made_of(method: methods.Method) -> dict[str, list[str]]:
    """Return the names in every section that names a part: those of all cells, and of some."""
    return {section: _names(method, section) for section in _PARTS}


def missing(method: methods.Method | None) -> list[str]:
    """Say what a method lacks to be run, empty if it is implemented; None is one without a file."""
    if method is None:
        return ["no file describes it"]
    lacking = []
    for section, named in made_of(method).items():
        kind, known = _PARTS[section]
        lacking += [f"{section} {part!r}" for part in named if part not in known()]
        if kind == method.kind and not named:
            lacking.append(f"a name in the section {section}")
    return lacking


def needs(recipe: methods.Recipe) -> str:
    """Say which prior a recipe decodes with that nobody provides, and how to; empty if none."""
    return priors.lacking(recipe.values.get("parameterization", {}))


def lacks(method: methods.Method) -> str:
    """Name the prior that a method decodes with and nobody provides, empty if there is none."""
    named = [block.values.get("parameterization", {}).get("prior") for block in method.blocks]
    prior = next((name for name in reversed(named) if name), None)
    return f"prior {prior!r}" if priors.lacking({"prior": prior}) else ""


def _names(method: methods.Method, section: str) -> list[str]:
    """List the names that a section may have: the last one of all cells, and those of some."""
    found: list[str] = []
    for block in method.blocks:
        if name := block.values.get(section, {}).get("name"):
            found = [*found, name] if str(block.when) else [name]
    return list(dict.fromkeys(found))
