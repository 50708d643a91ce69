"""What methods are made of, and which of their parts nobody provides."""

from nsdbench import methods

# Sections of a recipe that name a part, and which kind of method needs one.
_NEEDED_BY = {"parameterization": "distillation", "objective": "distillation", "coreset": "coreset"}


def made_of(method: methods.Method) -> dict[str, list[str]]:
    """Return the names in every section that names a part: those of all cells, and of some."""
    return {section: _names(method, section) for section in _NEEDED_BY}


def missing(method: methods.Method | None) -> list[str]:
    """Say what a method lacks to be run, empty if it is implemented; None is one without a file."""
    if method is None:
        return ["no file describes it"]
    lacking = []
    for section, named in made_of(method).items():
        lacking += [f"{section} {part!r}" for part in named if part not in _known(section)]
        if _NEEDED_BY[section] == method.kind and not named:
            lacking.append(f"a name in the section {section}")
    return lacking


def _known(section: str) -> list[str]:
    """List the parts there are."""
    from nsdbench import coresets
    from nsdbench.distillation import objectives
    from nsdbench.sets import parameterizations

    parts = {
        "parameterization": parameterizations.names,
        "objective": objectives.names,
        "coreset": coresets.names,
    }
    return parts[section]()


def _names(method: methods.Method, section: str) -> list[str]:
    """List the names that a section may have: the last one of all cells, and those of some."""
    found: list[str] = []
    for block in method.blocks:
        if name := block.values.get(section, {}).get("name"):
            found = [*found, name] if str(block.when) else [name]
    return list(dict.fromkeys(found))
