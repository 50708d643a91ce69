"""The floors of the house: a package imports from those below it alone, and nothing goes round."""

import ast
from pathlib import Path

import nsdbench

ROOT = Path(nsdbench.__file__).parent
# From the top down; packages of one floor do not import each other.
FLOORS = (
    ("__main__",),
    ("cli",),
    ("plugin",),
    ("report",),
    ("bench",),
    ("coresets",),
    ("distillation",),
    ("evaluation",),
    ("experts",),
    ("sets", "methods"),
    ("unroll", "augment"),
    ("student",),
    ("models", "data"),
    ("provenance",),
    ("ops",),
    ("_build_info", "errors", "files", "progress", "registry", "seeding", "spread", "sums"),
)
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names}
# Within the lowest floor these are below the others.
GROUND = ("errors", "files")


def modules() -> dict[str, Path]:
    found = {}
    for path in sorted([*ROOT.rglob("*.py"), *ROOT.rglob("*.pyi")]):
        parts = ["nsdbench", *path.relative_to(ROOT).with_suffix("").parts]
        found[".".join(part for part in parts if part != "__init__")] = path
    return found


def imported(path: Path, module: str, known: dict[str, Path]) -> set[str]:
    """List the modules of the package that a file imports, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            package = module if path.stem == "__init__" else module.rpartition(".")[0]
            base = ".".join([*([package] if node.level else []), *filter(None, [node.module])])
            names = [f"{base}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            while name not in known and "." in name:
                name = name.rpartition(".")[0]
            if name in known and name != "nsdbench":
                found.add(name)
    return found


def package(module: str) -> str:
    return module.split(".")[1]


def test_every_module_has_a_floor():
    names = {package(module) for module in modules() if module != "nsdbench"}
    assert names == set(FLOOR)


def test_no_package_imports_upward():
    known = modules()
    wrong = []
    for module, path in known.items():
        if module == "nsdbench":
            continue
        for other in imported(path, module, known):
            own, theirs = package(module), package(other)
            is_below = FLOOR[theirs] > FLOOR[own] or (theirs in GROUND and own != theirs)
            if own != theirs and not is_below:
                wrong.append(f"{module} imports {other}")
    assert wrong == []


def test_no_import_goes_round_in_a_circle():
    known = modules()
    # What a package offers by name (its stub) is loaded when it is asked for.
    graph = {
        module: imported(path, module, known) - {module}
        for module, path in known.items()
        if path.name != "__init__.pyi"
    }
    done: set[str] = set()

    def visit(module: str, way: tuple[str, ...]) -> None:
        assert module not in way, " -> ".join((*way[way.index(module) :], module))
        if module not in done:
            for other in sorted(graph.get(module, ())):
                visit(other, (*way, module))
            done.add(module)

    for module in graph:
        visit(module, ())
