"""Read the files of methods, and resolve one to the recipe of a cell."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from nsdbench.errors import NotImplementedYet, checked, nearest
from nsdbench.files import read_once, read_toml, search_folders, toml_files
from nsdbench.methods.conditions import Conditions, check_scale
from nsdbench.methods.schema import SECTIONS, BlockForm, FileForm
from nsdbench.methods.variants import split_variant
from nsdbench.registry import plugin_folders

FOLDERS_VARIABLE = "NSDBENCH_METHODS"
# Another `name` starts these sections afresh: what one objective is told means nothing to another.
_BY_NAME = ("parameterization", "objective")

Values = dict[str, dict[str, Any]]


class Settings(dict[str, Any]):
    """Settings by key; to ask for one that is not there is a ValueError that names it.

    Args:
        values: the settings.
        lacks: how the message begins, up to the key: "method 'nsd' at scale paper has no `".
    """

    def __init__(self, values: Mapping[str, Any], lacks: str) -> None:
        super().__init__(values)
        self._lacks = lacks

    def __missing__(self, key: str) -> Any:
        raise ValueError(
            f"{self._lacks}{key}`; set it in a [[settings]] block of its file, with the source of "
            "the value"
        )


@dataclass(frozen=True)
class Recipe:
    """The settings of one method for one dataset, ipc and scale; `Method.resolve` makes it.

    `values[section][key]` holds the settings (one that is not there is a ValueError that names it),
    `sources["section.key"]` says where each comes from.
    """

    method: str
    dataset: str
    ipc: int
    scale: str
    title: str
    kind: str
    values: dict[str, Any]
    sources: dict[str, str]

    @cached_property
    def hash(self) -> str:
        """Return the SHA-256 of the method's name and its values (sources do not count)."""
        content = {"method": self.method, "values": self.values}
        text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Block:
    """Settings as a file has them, when they hold, and where they come from."""

    when: Conditions
    origin: str
    values: Values


@dataclass(frozen=True)
class Method:
    """One method as its file, and those it extends, describe it."""

    name: str
    title: str
    kind: str
    source: str
    blocks: tuple[Block, ...]
    path: Path

    def resolve(
        self, dataset: str, ipc: int, scale: str, overrides: Mapping[str, Any] | None = None
    ) -> Recipe:
        """Resolve the method to its settings for one dataset, ipc and scale.

        Args:
            dataset: dataset name, compared as written; a hold-out has the settings of the whole,
                a copy those of the dataset it stands for.
            ipc: images per class; 0 stands for the full data.
            scale: "smoke", "small" or "paper".
            overrides: values that replace all others, by "section.key".

        Raises:
            ValueError: unknown scale, or an override is wrong.
        """
        check_scale(scale)
        blocks = [b for b in self.blocks if b.when.hold(scale=scale, dataset=dataset, ipc=ipc)]
        if overrides:
            blocks.append(_given(overrides, "override", "given by the user for this run"))
        values: Values = {}
        sources: dict[str, str] = {}
        for block in blocks:
            for section, settings in block.values.items():
                known = values.setdefault(section, {})
                name = settings.get("name", known.get("name"))
                if section in _BY_NAME and known.get("name", name) != name:
                    for key in known:
                        del sources[f"{section}.{key}"]
                    known.clear()
                known.update(settings)
                sources.update({f"{section}.{key}": block.origin for key in settings})
        lacks = f"method {self.name!r} on {dataset}, ipc {ipc}, scale {scale} has no `"
        named = {key: Settings(value, f"{lacks}{key}.") for key, value in values.items()}
        settings = Settings(named, lacks)
        return Recipe(self.name, dataset, ipc, scale, self.title, self.kind, settings, sources)


def names() -> list[str]:
    """Return the names of all methods, sorted."""
    return sorted(_files())


def is_described(name: str) -> bool:
    """Say whether a file describes a method, or the method of a variant."""
    return split_variant(name)[0] in _files()


def resolve(
    name: str, dataset: str, ipc: int, scale: str, overrides: Mapping[str, Any] | None = None
) -> Recipe:
    """Resolve a method by name, see `Method.resolve`.

    Raises:
        NotImplementedYet: no file describes the method.
        ValueError: unknown scale, or a file or an override is wrong.
    """
    return load(name).resolve(dataset, ipc, scale, overrides)


def load(name: str) -> Method:
    """Read a method, with the methods it extends; a variant's settings are its last block.

    Raises:
        NotImplementedYet: no file describes it.
        ValueError: a file or a variant is wrong; the message names it and the key.
    """
    base, settings = split_variant(name)
    method = _load(base)
    if not settings:
        return method
    block = _given(settings, name, f"what makes the variant [{name}]")
    title = f"{method.title} with {', '.join(f'{path} = {settings[path]}' for path in settings)}"
    return replace(method, name=name, title=title, blocks=(*method.blocks, block))


def _load(name: str) -> Method:
    """Read a method's file, and those of the methods that it extends, the first of them last."""
    files = _files()
    line = {name: _read(_file_of(name, files))}
    path, (form, _) = files[name], line[name]
    while form.extends:
        child, parent = form.name, form.extends
        if parent in line:
            circle = " -> ".join((*line, parent))
            raise ValueError(f"{files[child]}: `extends` goes round in a circle: {circle}")
        form, _ = line[parent] = _read(_file_of(parent, files, f" (extended by {child!r})"))
    forms = [form for form, _ in line.values()]
    kind = next(form.kind for form in forms if form.kind)
    source = next(form.source for form in forms if form.source)
    blocks = tuple(block for _, own in reversed(line.values()) for block in own)
    return Method(name, forms[0].title, kind, source, blocks, path)


def _files() -> dict[str, Path]:
    """Map every method's name to its file; two files of one name are an error."""
    folders = search_folders(Path(__file__).parent, FOLDERS_VARIABLE)
    return toml_files([*folders, *plugin_folders("nsdbench.methods")], "method")


def _file_of(name: str, files: Mapping[str, Path], by: str = "") -> Path:
    """Return a method's file, or say which methods there are."""
    if name not in files:
        raise NotImplementedYet(
            f"method {name!r}{by} is not implemented; available: {', '.join(sorted(files))}"
            f"{nearest(name, files)}"
        )
    return files[name]


@read_once
def _read(path: Path) -> tuple[FileForm, tuple[Block, ...]]:
    """Read one method's file and its own blocks."""
    form = checked(FileForm, read_toml(path), str(path))
    blocks = (
        _block(raw, f"{path}: settings block {number}", path.name)
        for number, raw in enumerate(form.settings, start=1)
    )
    return form, tuple(blocks)


def _block(raw: Any, where: str, file: str = "") -> Block:
    """Check one [[settings]] block; recipes are hashed, so its values stay as they are written."""
    form = checked(BlockForm, raw, where)
    place = ": ".join(filter(None, [file, str(form.when)]))
    values = {section: raw[section] for section in raw if section in SECTIONS}
    return Block(form.when, f"{form.source} [{place}]" if place else form.source, values)


def _given(settings: Mapping[str, Any], where: str, origin: str) -> Block:
    """Make a block of settings by "section.key"; messages begin with `where`."""
    raw: dict[str, Any] = {"source": origin}
    for path, value in settings.items():
        section, _, key = path.partition(".")
        if section not in SECTIONS or not key or "." in key:
            raise ValueError(
                f"{where}: {path!r}: expected section.key with a section of {', '.join(SECTIONS)}"
                f"{nearest(section, SECTIONS)}"
            )
        raw.setdefault(section, {})[key] = value
    return _block(raw, where)
