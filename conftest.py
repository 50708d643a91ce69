"""What pytest collects: the tests or, with `--benchmark-only`, the benchmarks."""

from pathlib import Path

import pytest

TESTS = Path(__file__).parent / "tests"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--all-sizes",
        action="store_true",
        help="with --benchmark-only: every shape and every way of every benchmark, "
        "instead of those that a module of benchmarks/ lists as QUICK",
    )


def pytest_cmdline_main(config: pytest.Config) -> None:
    if config.getoption("benchmark_only") and config.getoption("numprocesses", None):
        raise pytest.UsageError("benchmarks are timed one at a time: leave out -n")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave the tests out where nothing but benchmarks runs: collecting them takes longer."""
    is_left_out = config.getoption("benchmark_only") and collection_path.is_relative_to(TESTS)
    return True if is_left_out else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the quick benchmarks, unless all are asked for."""
    if config.getoption("--all-sizes"):
        return
    left_out = [item for item in items if not _is_quick(item)]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


def _is_quick(item: pytest.Item) -> bool:
    """Say whether the module of a benchmark lists the case, or nothing."""
    quick = getattr(item.module, "QUICK", None)
    return quick is None or item.callspec.id in quick
