"""Methods as TOML files: read them, and resolve one to the recipe of a cell.

A file `<name>.toml` holds a method:

    name = "nsd"                 # equals the file's name
    title = "NSD"                # as reports print it
    kind = "distillation"        # distillation | coreset | full
    extends = "mtt"              # optional: all blocks of that method come first
    source = "..."               # citation

    [[settings]]                 # blocks apply in order, later matching blocks override key by key;
                                 # another objective or parameterization starts its section afresh
    source = "paper, sec. 4.1"   # where the values of this block come from; required
    [settings.objective]         # every key but `when` and `source` is a section
    syn_steps = 50

    [[settings]]
    when = { scale = "smoke", ipc = [1, 10] }     # a value or a list; empty = always
    source = "our choice: ..."
    [settings.optimiser]
    iterations = 200

Files come from this folder, from the folders of the environment variable NSDBENCH_METHODS and from
installed packages (entry points of the group nsdbench.methods, see `registry`).
A variant, "nsd+objective.guided_weight=0.1", is a method with settings of its own (`variants`).
A method that no file describes is `NotImplementedYet`; a file that is wrong is a ValueError that
names the file and the key.
"""

import hashlib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nsdbench.errors import NotImplementedYet, nearest
from nsdbench.files import search_folders, toml_files
from nsdbench.methods.conditions import Conditions, check_scale, hold, read_conditions
from nsdbench.methods.values import Settings, check_value
from nsdbench.methods.variants import split_variant
from nsdbench.registry import plugin_folders

KINDS = ("distillation", "coreset", "full")
# Every section with the keys it may hold. None: which keys there are depends on the section's
# `name`, and the constructor it names refuses those it does not know. The others are read key by
# key, or only in part (beside `buffer` nothing trains experts), so that a misspelt key would go
# unnoticed if it were not refused here.
SECTIONS: dict[str, tuple[str, ...] | None] = {
    "data": ("preprocessing",),
    "parameterization": None,
    "objective": None,
    "experts": (
        "buffer", "num_experts", "epochs", "lr", "momentum", "weight_decay", "batch_size",
        "dsa_strategy", "optimiser", "rho", "alpha", "keeps_correctness",
    ),
    "optimiser": ("momentum", "iterations", "lr_syn", "lr_kernels", "lr_lr", "ema_decay"),
    "network": ("name", "depth", "width"),
    "coreset": ("name", "draw_per_network"),
}  # fmt: skip
FOLDERS_VARIABLE = "NSDBENCH_METHODS"
_TOP_LEVEL = ("name", "title", "kind", "extends", "source", "settings")


@dataclass(frozen=True)
class Block:
    """Settings that hold under a condition, and where they come from."""

    when: Conditions
    source: str
    values: dict[str, dict[str, Any]]
    file: str

    @property
    def origin(self) -> str:
        """Return the block's source with its file and condition, for `explain`."""
        condition = ", ".join(
            f"{key}={'|'.join(map(str, allowed))}" for key, allowed in self.when.items()
        )
        return f"{self.source} [{self.file}{': ' + condition if condition else ''}]"


@dataclass(frozen=True)
class Method:
    """One method as its file, and those it extends, describe it."""

    name: str
    title: str
    kind: str
    source: str
    blocks: tuple[Block, ...]
    path: Path


@dataclass(frozen=True)
class Recipe:
    """The settings of one method for one dataset, ipc and scale.

    `values[section][key]` holds the settings (one that is not there is a ValueError that names it),
    `sources["section.key"]` says where each comes from.
    """

    method: str
    dataset: str
    ipc: int
    scale: str
    title: str
    kind: str
    values: dict[str, dict[str, Any]]
    sources: dict[str, str]

    @property
    def hash(self) -> str:
        """Return the SHA-256 of the method's name and its values (sources do not count)."""
        content = {"method": self.method, "values": self.values}
        text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()


def names() -> list[str]:
    """Return the names of all methods, sorted."""
    return sorted(_files())


def is_described(name: str) -> bool:
    """Say whether a file describes a method, or the method of a variant."""
    return split_variant(name)[0] in _files()


def load(name: str) -> Method:
    """Read a method, with the methods it extends; a variant's settings are its last block.

    Raises:
        NotImplementedYet: no file describes it.
        ValueError: a file or a variant is wrong; the message names it and the key.
    """
    base, settings = split_variant(name)
    method = _load(base, _files(), ())
    if not settings:
        return method
    raw: dict[str, Any] = {"source": "what makes the variant"}
    for path, value in settings.items():
        section, _, key = path.partition(".")
        raw.setdefault(section, {})[key] = value
    title = f"{method.title} with {', '.join(f'{path} = {settings[path]}' for path in settings)}"
    blocks = (*method.blocks, _block(raw, name, name))
    return replace(method, name=name, title=title, blocks=blocks)


def resolve(
    name: str,
    dataset: str,
    ipc: int,
    scale: str,
    overrides: Mapping[str, Any] | None = None,
) -> Recipe:
    """Resolve a method to its settings for one dataset, ipc and scale.

    Args:
        name: the method.
        dataset: dataset name, compared as written; a hold-out has the settings of the whole.
        ipc: images per class; 0 stands for the full data.
        scale: "smoke", "small" or "paper".
        overrides: values that replace all others, by "section.key".

    Raises:
        NotImplementedYet: no file describes the method.
        ValueError: unknown scale, or a file or an override is wrong.
    """
    check_scale(scale)
    method = load(name)
    values: dict[str, dict[str, Any]] = {}
    sources: dict[str, str] = {}
    for block in method.blocks:
        if not hold(block.when, scale=scale, dataset=dataset, ipc=ipc):
            continue
        for section, settings in block.values.items():
            _forget_other(section, settings.get("name"), values, sources)
            for key, value in settings.items():
                values.setdefault(section, {})[key] = value
                sources[f"{section}.{key}"] = block.origin
    for section in SECTIONS:
        _forget_other(section, (overrides or {}).get(f"{section}.name"), values, sources)
    for path, value in (overrides or {}).items():
        section, _, key = path.partition(".")
        if section not in SECTIONS or not key or "." in key:
            raise ValueError(
                f"override {path!r}: expected section.key with a section of {', '.join(SECTIONS)}"
            )
        _check_setting(section, key, value, f"override {path!r}")
        values.setdefault(section, {})[key] = value
        sources[path] = "given by the user for this run"
    whose = f"method {name!r} on {dataset}, ipc {ipc}, scale {scale}"
    named = {section: Settings(found, whose, f"{section}.") for section, found in values.items()}
    settings = Settings(named, whose)
    return Recipe(
        method.name, dataset, ipc, scale, method.title, method.kind, settings, sources
    )


def _forget_other(
    section: str, name: str | None, values: dict[str, dict[str, Any]], sources: dict[str, str]
) -> None:
    """Drop what a section says of another objective or parameterization than `name`, if given."""
    there = values.get(section, {})
    if name is None or SECTIONS[section] is not None or there.get("name") in (None, name):
        return
    for key in values.pop(section):
        del sources[f"{section}.{key}"]


def _files() -> dict[str, Path]:
    """Map every method's name to its file; two files of one name are an error."""
    folders = search_folders(Path(__file__).parent, FOLDERS_VARIABLE)
    return toml_files([*folders, *plugin_folders("nsdbench.methods")], "method")


def _load(name: str, files: dict[str, Path], children: tuple[str, ...]) -> Method:
    """Read one method's file after the file it extends."""
    if name not in files:
        by = f" (extended by {children[-1]!r})" if children else ""
        raise NotImplementedYet(
            f"method {name!r}{by} is not implemented; available: {', '.join(sorted(files))}"
            f"{nearest(name, files)}"
        )
    path = files[name]
    if name in children:
        cycle = " -> ".join((*children, name))
        raise ValueError(f"{path}: `extends` goes round in a circle: {cycle}")
    raw = _parse(path)
    inherited: tuple[Block, ...] = ()
    kind, source = raw.get("kind"), raw.get("source")
    if "extends" in raw:
        parent = _load(_text(raw, "extends", path), files, (*children, name))
        inherited = parent.blocks
        kind, source = kind or parent.kind, source or parent.source
    if kind not in KINDS:
        raise ValueError(f"{path}: `kind` is {kind!r}; expected one of {', '.join(KINDS)}")
    if not isinstance(source, str) or not source:
        raise ValueError(f"{path}: `source` is missing; cite the paper or code of the method")
    settings = raw.get("settings", [])
    if not isinstance(settings, list):
        raise ValueError(f"{path}: `settings` must be blocks, written [[settings]]")
    own = tuple(
        _block(block, f"{path}: settings block {number}", path.name)
        for number, block in enumerate(settings, start=1)
    )
    return Method(name, _text(raw, "title", path), kind, source, inherited + own, path)


def _parse(path: Path) -> dict[str, Any]:
    """Read a file and check its top level."""
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not valid TOML: {error}") from error
    unknown = sorted(set(raw) - set(_TOP_LEVEL))
    if unknown:
        raise ValueError(f"{path}: unknown key `{unknown[0]}`; known: {', '.join(_TOP_LEVEL)}")
    if _text(raw, "name", path) != path.stem:
        raise ValueError(
            f"{path}: `name` is {raw['name']!r} but the file is called {path.stem}; make them equal"
        )
    return raw


def _text(raw: Mapping[str, Any], key: str, path: Path) -> str:
    """Return a required string of the top level."""
    value = raw.get(key)
    if not isinstance(value, str) or not value:
        raise ValueError(f"{path}: `{key}` is {value!r}; expected a non-empty string")
    return value


def _block(raw: Any, where: str, file: str) -> Block:
    """Check one [[settings]] block of a file; messages begin with `where`."""
    if not isinstance(raw, dict):
        raise ValueError(f"{where}: expected a table written [[settings]]")
    source = raw.get("source")
    if not isinstance(source, str) or not source:
        raise ValueError(f"{where}: `source` is missing; say where its values come from")
    conditions = read_conditions(raw.get("when", {}), where)
    values = {key: value for key, value in raw.items() if key not in ("when", "source")}
    for section, settings in values.items():
        if section not in SECTIONS:
            raise ValueError(
                f"{where}: unknown section `{section}`; known: {', '.join(SECTIONS)}"
                f"{nearest(section, SECTIONS)}"
            )
        if not isinstance(settings, dict):
            raise ValueError(f"{where}: `{section}` must be a table, [settings.{section}]")
        for key, value in settings.items():
            _check_setting(section, key, value, where)
    return Block(conditions, source, values, file)


def _check_setting(section: str, key: str, value: Any, where: str) -> None:
    """Refuse a key that its section does not know, and a value that it cannot have."""
    known = SECTIONS[section]
    if known is not None and key not in known:
        raise ValueError(
            f"{where}: unknown key `{section}.{key}`; known: {', '.join(known)}"
            f"{nearest(key, known)}"
        )
    check_value(section, key, value, where)
