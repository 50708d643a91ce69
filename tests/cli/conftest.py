"""A folder with a table and a method of its own, and commands that run there."""

import pytest

from tests.cli.texts import TABLE, TINY


@pytest.fixture
def folder(tmp_path, monkeypatch, undescribed, add_to_suite):
    """Work in an empty folder with the table `mine`, without data and without downloads."""
    add_to_suite({"mine": TABLE}, {"tiny": TINY})
    monkeypatch.setenv("NSDBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NSDBENCH_OFFLINE", "1")
    monkeypatch.delenv("NSDBENCH_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def nsdbench(folder, run_command):
    """Run a command in this folder; OUT stands for the file of a set."""
    return lambda line: run_command(line.replace("OUT", "x.safetensors"))
