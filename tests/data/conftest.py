"""Every data test gets an empty cache of its own and sees no data folder of the user."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("user") / "cache"
    monkeypatch.setenv("NSDBENCH_CACHE", str(folder))
    monkeypatch.delenv("NSDBENCH_DATA", raising=False)
    monkeypatch.setenv("NSDBENCH_OFFLINE", "1")
    return folder
