"""What a name in a recipe stands for: something of ours, or what an installed package adds.

A package adds names by entry points. Their groups are

    nsdbench.objectives           name = "package:build"      as those of `objectives`
    nsdbench.parameterizations    name = "package:family"     a `parameterizations.Family`
    nsdbench.coresets             name = "package:select"     as those of `coresets`
    nsdbench.methods              any name = "package"        its folder holds TOML files

Nothing of a plug-in is imported before its name is looked up, and whatever is wrong with it is a
ValueError that names the plug-in.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import metadata, util
from pathlib import Path
from typing import Any

from nsdbench.errors import nearest


@dataclass(frozen=True)
class Registry:
    """Things of one kind by name.

    Attributes:
        kind: what they are, as messages say it: "objective".
        group: entry point group that adds to them.
        ours: those of this package.
    """

    kind: str
    group: str
    ours: Mapping[str, Any]

    def names(self) -> list[str]:
        """List all names, sorted; imports no plug-in."""
        return sorted({*self.ours, *(entry.name for entry in _entry_points(self.group))})

    def get(self, name: Any) -> Any:
        """Return what a name stands for; imports the plug-in that adds it.

        Raises:
            ValueError: unknown name, a name given twice, or a plug-in that cannot be imported.
        """
        added = [entry for entry in _entry_points(self.group) if entry.name == name]
        if name in self.ours:
            if added:
                raise ValueError(
                    f"{_plugin(added[0])} adds the {self.kind} {name!r}, which nsdbench has "
                    "itself; rename it there, or uninstall the plug-in"
                )
            return self.ours[name]
        if not added:
            known = self.names()
            raise ValueError(
                f"unknown {self.kind} {name!r}; known: {', '.join(known)}{nearest(name, known)}"
            )
        if len(added) > 1:
            raise ValueError(
                f"the {self.kind} {name!r} is added by {' and by '.join(map(_plugin, added))}; "
                "uninstall all but one"
            )
        try:
            found = added[0].load()
        except Exception as error:  # a plug-in can fail in any way while it is imported
            raise ValueError(
                f"{_plugin(added[0])} cannot be loaded as the {self.kind} {name!r}: "
                f"{type(error).__name__}: {error}"
            ) from error
        if not callable(found):
            raise ValueError(
                f"{_plugin(added[0])} gives {found!r} as the {self.kind} {name!r}; expected a "
                "function or a class"
            )
        return found


def plugin_folders(group: str) -> list[Path]:
    """Return the folders of the packages that a group's entry points name, without importing them.

    Raises:
        ValueError: an entry point names no package of this environment.
    """
    folders: list[Path] = []
    for entry in _entry_points(group):
        try:
            spec = util.find_spec(entry.value)
        except (ImportError, ValueError):  # a parent package that is not there; a malformed name
            spec = None
        if spec is None or not spec.submodule_search_locations:
            raise ValueError(
                f"{_plugin(entry)} is entered in {group}, but {entry.value!r} is no package; name "
                "the package whose folder holds the TOML files"
            )
        folders += map(Path, spec.submodule_search_locations)
    return list(dict.fromkeys(folders))


@cache
def _entry_points(group: str) -> tuple[metadata.EntryPoint, ...]:
    """Read a group's entry points once; reading all installed packages takes a while."""
    return tuple(metadata.entry_points(group=group))


def _plugin(entry: metadata.EntryPoint) -> str:
    """Name a plug-in as messages do: its distribution and what it points to."""
    where = f" of {entry.dist.name} {entry.dist.version}" if entry.dist else ""
    return f"the plug-in {entry.name} = {entry.value}{where}"
