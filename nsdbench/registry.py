"""Names in recipes: what they stand for, in nsdbench or in an installed package.

A package adds names by entry points. Their groups are

    nsdbench.objectives           name = "package:FAMILY"     an `ObjectiveFamily`
    nsdbench.parameterizations    name = "package:FAMILY"     a `ParameterizationFamily`
    nsdbench.coresets             name = "package:FAMILY"     a `CoresetFamily`
    nsdbench.priors               name = "package:FAMILY"     a `PriorFamily`
    nsdbench.methods              any name = "package"        its folder holds TOML files
    nsdbench.networks             name = "package.module:f"   f builds it, see `models.own`
    nsdbench.datasets             name = "package:DATASET"    a `DatasetFamily`
    nsdbench.protocols            name = "package:PROTOCOL"   a `Protocol`

Ours are entered in the same way. Names are listed without loading what they name. A family is
loaded when its name is looked up, and its target, which may need torch, when it is used. Whatever
is wrong with a plug-in is a ValueError that names it.
"""

import pkgutil
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import metadata, util
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from nsdbench.errors import checked, nearest

# The upper ends are ours: beyond them lies a slip of the pen.
Count = Annotated[int, Field(ge=1, le=10**6)]
Rate = Annotated[float, Field(ge=0, le=1e6)]


class Settings(BaseModel):
    """The settings that a recipe gives something, by name, with their types and ranges.

    A whole number will do for a float. Nothing else is converted, no key is ignored, and no number
    may be infinite.
    """

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True)
class Family:
    """What a name stands for: the settings it takes, and what makes it.

    Attributes:
        settings: the model that checks them.
        target: "module:attribute" of what makes it; loaded when it is used, so that plans and
            lists need no torch.
    """

    settings: type[Settings]
    target: str

    def load(self) -> Callable[..., Any]:
        """Return the target.

        Raises:
            ValueError: there is no such module or attribute.
        """
        try:
            return pkgutil.resolve_name(self.target)
        except (ImportError, AttributeError, ValueError) as error:
            raise ValueError(
                f"{self.target!r} cannot be loaded: {type(error).__name__}: {error}"
            ) from error


F = TypeVar("F", bound=Family)
T = TypeVar("T")


@dataclass(frozen=True)
class Registry(Generic[F]):
    """Families of one kind by name.

    Attributes:
        kind: what they are, as messages say it: "objective".
        group: entry point group that adds to them.
        family: their class.
        ours: "module:attribute" of those of this package.
    """

    kind: str
    group: str
    family: type[F]
    ours: Mapping[str, str]

    def names(self) -> list[str]:
        """List all names, sorted; imports nothing that they name."""
        return sorted({*self.ours, *(entry.name for entry in _entry_points(self.group))})

    def get(self, name: Any) -> F:
        """Return the family of a name; imports the module that holds it.

        Raises:
            ValueError: unknown name, a name given twice, or a plug-in that cannot be imported or
                gives something else than a family.
        """
        added = plugin(self.kind, self.group, name, self.ours)
        if name in self.ours:
            return pkgutil.resolve_name(self.ours[name])
        if added is None:
            known = self.names()
            raise ValueError(
                f"unknown {self.kind} {name!r}; known: {', '.join(known)}{nearest(name, known)}"
            )
        return load_plugin(self.kind, added, self.family)

    def read(self, section: Mapping[str, Any]) -> tuple[F, Any]:
        """Return the family that a recipe's section names, and its settings, checked.

        Args:
            section: `name`, and the settings of what it names.

        Raises:
            ValueError: as of `get`, or a setting is unknown, missing, of another type or out of
                range; the message names it and what was expected.
        """
        family = self.get(section.get("name"))
        given = {key: value for key, value in section.items() if key != "name"}
        return family, checked(family.settings, given, f"{self.kind} {section['name']!r}")


def plugin_names(group: str) -> list[str]:
    """List what packages outside add to a group, sorted; imports nothing."""
    return sorted({entry.name for entry in _entry_points(group)})


def plugin(
    kind: str, group: str, name: Any, ours: Container[str] = ()
) -> metadata.EntryPoint | None:
    """Find what adds a name to a group; None if nothing does. Imports nothing.

    Args:
        kind: what is named, as messages say it: "objective".
        group: of entry points.
        name: what is looked for.
        ours: names that nsdbench has itself, which nobody may add.

    Raises:
        ValueError: two packages add it, or one adds a name of ours.
    """
    added = [entry for entry in _entry_points(group) if entry.name == name]
    if added and name in ours:
        raise ValueError(
            f"{_plugin(added[0])} adds the {kind} {name!r}, which nsdbench has itself; rename it "
            "there, or uninstall the plug-in"
        )
    if len(added) > 1:
        raise ValueError(
            f"the {kind} {name!r} is added by {' and by '.join(map(_plugin, added))}; uninstall "
            "all but one"
        )
    return added[0] if added else None


def load_plugin(kind: str, entry: metadata.EntryPoint, expected: type[T]) -> T:
    """Import what an entry point names.

    Raises:
        ValueError: that fails, or gives something else than an `expected`.
    """
    try:
        found = entry.load()
    except Exception as error:  # a plug-in can fail in any way while it is imported
        raise ValueError(
            f"{_plugin(entry)} cannot be loaded as the {kind} {entry.name!r}: "
            f"{type(error).__name__}: {error}"
        ) from error
    if not isinstance(found, expected):
        raise ValueError(
            f"{_plugin(entry)} gives {found!r} as the {kind} {entry.name!r}; expected a "
            f"nsdbench.plugin.{expected.__name__}"
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
                f"{_plugin(entry)} is registered under {group}, but {entry.value!r} is not a "
                "package; name the package whose folder holds the TOML files"
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
