"""Where campaigns work: in memory if there is room, as they write some ten thousand small files."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest

_ROOM = 2**25  # bytes


@pytest.fixture(scope="module")
def folder():
    memory = Path("/dev/shm")
    is_roomy = os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > _ROOM
    with tempfile.TemporaryDirectory(dir=memory if is_roomy else None) as name:
        yield Path(name)
