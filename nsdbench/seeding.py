"""Derive every random stream from one seed and the names of what it is for."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

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


@contextmanager
def global_draws(seed: int, device: torch.device) -> Iterator[None]:
    """Have torch's global generators begin at a seed, for code that draws from them, as dropout.

    They are left as they were found.

    Args:
        seed: of both generators, that of the CPU and that of the device.
        device: where the code computes; a CPU or a CUDA device.
    """
    is_cuda = device.type == "cuda"
    with torch.random.fork_rng([device] if is_cuda else []):
        torch.default_generator.manual_seed(seed)
        if is_cuda:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield
