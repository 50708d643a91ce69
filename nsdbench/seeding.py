"""Derive every random stream from one seed and the names of what it is for."""

import hashlib

import torch


def generator(seed: int, *names: str | int) -> torch.Generator:
    """Make a CPU generator for one named stream of a run.

    Streams with different names are independent for all practical purposes, and a stream does not
    depend on how much was drawn from any other: step 700 of a resumed run draws what step 700 of an
    undisturbed run drew.

    Args:
        seed: the run's seed.
        names: the path of the stream, for example ("distill", "step", 700).

    Returns:
        A fresh `torch.Generator` on the CPU.
    """
    path = "/".join([str(int(seed)), *map(str, names)])
    digest = hashlib.sha256(path.encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
