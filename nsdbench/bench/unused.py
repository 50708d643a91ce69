"""Find the work that nobody refers to, and remove it.

Referred to is what belongs to a recipe that a table of this installation or a record of the results
folder names. Not referred to are

    sets, checkpoints       of another recipe, that of `distill --set` among them
    pictures                of another recipe
    checkpoints             whose distillation has ended: its set is there
    judged networks         of another recipe, or of another protocol under the name of a cell
    set aside               what was damaged, or diverged, and was made anew
    experts                 that no recipe asks for; imported ones are the user's and stay

Experts lie in the user's cache, which other results folders may share.
"""

import shutil
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

from nsdbench.bench import kept, tables
from nsdbench.bench.record import Record
from nsdbench.bench.store import Store
from nsdbench.data import spec
from nsdbench.data.fetching.cache import find_cache_dir
from nsdbench.errors import DataCorrupt, NsdbenchError
from nsdbench.evaluation import protocols
from nsdbench.experts import expert_recipe, list_buffers, student_arch
from nsdbench.experts.buffer_manifest import read_manifest
from nsdbench.files import pictures_name, set_prefix
from nsdbench.methods import Recipe
from nsdbench.sums import read_summed_json


@dataclass(frozen=True)
class Unused:
    """A file, or a folder of experts, that nobody refers to.

    `lock` is held by whoever works on it; `is_shared` says that other results folders may use it.
    """

    path: Path
    kind: str
    reason: str
    num_bytes: int
    lock: Path | None = None
    is_shared: bool = False


@dataclass
class _References:
    """What tables and records name.

    Attributes:
        prefixes: how the names of sets begin.
        pictures: names, as "<scale>/<name>".
        recipes: hashes.
        protocols: hashes by cell, as "<scale>-<cell id>".
        experts: data set, network and settings; settings are None where any may be asked for.
    """

    prefixes: set[str] = field(default_factory=set)
    pictures: set[str] = field(default_factory=set)
    recipes: set[str] = field(default_factory=set)
    protocols: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    experts: set[tuple[str, str, str | None]] = field(default_factory=set)

    def add(self, scale: str, cell_id: str, recipe: Recipe, recipe_hash: str, judge: str) -> None:
        """Refer to all that a cell is made from."""
        self.prefixes.add(set_prefix(recipe.method, recipe.dataset, recipe.ipc, recipe_hash))
        name = pictures_name(recipe.dataset, recipe.ipc, recipe.method, recipe_hash)
        self.pictures.add(f"{scale}/{name}")
        self.recipes.add(recipe_hash)
        self.protocols[f"{scale}-{cell_id}"].add(judge)
        if "experts" not in recipe.values or "buffer" in recipe.values["experts"]:
            return
        try:
            about = spec(recipe.dataset)
            wanted = expert_recipe(recipe, about).settings()
            self.experts.add((about.name, student_arch(recipe, about), str(wanted)))
        except (NsdbenchError, ValueError, KeyError):  # its data set is gone, for one
            self.experts.add((recipe.dataset, "", None))

    def has_experts(self, manifest: dict) -> bool:
        """Say whether a recipe asks for the experts of a manifest, whatever their seed."""
        dataset, settings = manifest["dataset"], str(manifest["recipe"])
        return bool({(dataset, manifest["arch"], settings), (dataset, "", None)} & self.experts)


def find(results: Path) -> tuple[list[Unused], list[str]]:
    """Find what nobody refers to.

    Returns:
        It, and one warning per file that is not a record: what that refers to is not known.

    Raises:
        ValueError: the file of a table or of a method is wrong.
    """
    records, warnings = Store(results).records()
    references = _references(records)
    found = [
        *_sets(results, references),
        *_checkpoints(results, references),
        *_networks(results, references),
        *_pictures(results, references),
        *_aside(results),
        *_experts(references),
    ]
    return found, warnings


def remove(unused: Iterable[Unused]) -> list[Unused]:
    """Remove files and folders; returns those that stay, since somebody works on them."""
    busy = []
    for one in unused:
        lock = FileLock(one.lock) if one.lock is not None and one.lock.exists() else None
        try:
            if lock is not None:
                lock.acquire(timeout=0)
        except Timeout:
            busy.append(one)
            continue
        try:
            if one.path.is_dir():
                shutil.rmtree(one.path)
            else:
                one.path.unlink(missing_ok=True)
        finally:
            if lock is not None:
                lock.release()
    return busy


def _references(records: Iterable[Record]) -> _References:
    """Collect what the tables at all scales, and all records, name."""
    references = _References()
    for name in tables.names():
        table = tables.load(name)
        for scale in table.scales:
            for entry in table.entries(scale):
                if entry.is_described:
                    judge = protocols.get(entry.cell.protocol).hash
                    recipe = entry.recipe
                    references.add(scale, entry.cell.id, recipe, recipe.hash, judge)
    for record in records:
        cell = record.cell
        recipe = Recipe(cell.method, cell.dataset, cell.ipc, cell.scale, "", "", record.recipe, {})
        references.add(cell.scale, cell.id, recipe, record.recipe_hash, record.protocol_hash)
    return references


def _sets(results: Path, references: _References) -> Iterator[Unused]:
    prefixes = tuple(references.prefixes)
    for path in sorted((results / "artefacts").glob("*.safetensors")):
        if not path.name.startswith(prefixes):
            yield _file(path, "set", "of no recipe", path.with_suffix(".lock"))


def _checkpoints(results: Path, references: _References) -> Iterator[Unused]:
    prefixes = tuple(references.prefixes)
    for path in sorted((results / "work").glob("*.pt")):
        made = results / "artefacts" / f"{path.stem}-draw0.safetensors"
        reason = "" if path.name.startswith(prefixes) else "of no recipe"
        reason = reason or ("its set is made" if made.exists() else "")
        if reason:
            yield _file(path, "checkpoint", reason, made.with_suffix(".lock"))


def _networks(results: Path, references: _References) -> Iterator[Unused]:
    for path in sorted((results / "work").glob("*.json")):
        try:
            key = str(read_summed_json(path, "a file of finished networks").get("key")).split()
        except (OSError, DataCorrupt):  # whoever needs it sets it aside
            continue
        judges = references.protocols.get(path.stem)
        if len(key) < 2 or key[0] not in references.recipes:
            reason = "of no recipe"
        elif judges is not None and key[1] not in judges:
            reason = "its protocol has changed since"
        else:
            continue
        lock = results / "work" / "locks" / f"{path.stem}.lock"
        yield _file(path, "judged networks", reason, lock)


def _pictures(results: Path, references: _References) -> Iterator[Unused]:
    for path in sorted((results / "images").glob("*/*.npz")):
        if f"{path.parent.name}/{path.stem}" not in references.pictures:
            yield _file(path, "pictures", "of no recipe")


def _aside(results: Path) -> Iterator[Unused]:
    for folder in ("artefacts", "work", "records/*"):
        for ending in kept.ASIDE:
            for path in sorted(results.glob(f"{folder}/*{ending}")):
                yield _file(path, "set aside", ending.removeprefix("."))


def _experts(references: _References) -> Iterator[Unused]:
    cache = find_cache_dir()
    for buffer in list_buffers(cache / "experts") if cache else ():
        folder = buffer["path"]
        if buffer["kind"] == "recorded" and not references.has_experts(read_manifest(folder)):
            size, lock = buffer["num_bytes"], folder / ".lock"
            yield Unused(folder, "experts", "no recipe asks for them", size, lock, is_shared=True)


def _file(path: Path, kind: str, reason: str, lock: Path | None = None) -> Unused:
    return Unused(path, kind, reason, path.stat().st_size, lock)
