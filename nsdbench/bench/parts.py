"""What methods are made of, and which of their parts nobody provides."""

from nsdbench import coresets, methods
from nsdbench.distillation import objectives
from nsdbench.errors import NotImplementedYet
from nsdbench.sets import parameterizations

# Sections of a recipe that name a part: which kind of method needs one, and the parts there are.
_PARTS = {
    "parameterization": ("distillation", parameterizations.names),
    "objective": ("distillation", objectives.names),
    "coreset": ("coreset", coresets.names),
}


def made_of(method: methods.Method) -> dict[str, list[str]]:
    """Return the names in every section that names a part: those of all cells, and of some."""
    return {section: _names(method, section) for section in _PARTS}


def missing(name: str) -> list[str]:
    """Say what a method or variant lacks to be run, empty if it is implemented.

    Raises:
        ValueError: its file is wrong.
    """
    try:
        method = methods.load(name)
    except NotImplementedYet:
        return ["no file describes it"]
    lacking = []
    for section, names in made_of(method).items():
        kind, known = _PARTS[section]
        lacking += [f"{section} {part!r}" for part in names if part not in known()]
        if kind == method.kind and not names:
            lacking.append(f"a name in the section {section}")
    return lacking


def _names(method: methods.Method, section: str) -> list[str]:
    """List the names that a section may have: the last one of all cells, and those of some."""
    found: list[str] = []
    for block in method.blocks:
        name = block.values.get(section, {}).get("name")
        if name is not None:
            found = [*found, name] if block.when else [name]
    return list(dict.fromkeys(found))
