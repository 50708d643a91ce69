"""The folder of everything that can be made again."""

import os
from pathlib import Path


def cache_dir() -> Path:
    """The folder for downloads, resized images, whitening matrices and expert buffers.

    $NSDBENCH_CACHE, else $XDG_CACHE_HOME/nsdbench, else ~/.cache/nsdbench. Not created here.
    """
    if os.environ.get("NSDBENCH_CACHE"):
        return Path(os.environ["NSDBENCH_CACHE"]).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "nsdbench"
