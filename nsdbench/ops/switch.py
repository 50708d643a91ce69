"""Whether the native operators are used: one switch for everything that has a plain-PyTorch twin.

NSDBENCH_NATIVE=0 turns them off, to compare speed or to find out whether native code is at fault.
"""

import os

import torch

from nsdbench.ops import library

VARIABLE = "NSDBENCH_NATIVE"
CPU = torch.device("cpu")


def is_native_enabled(device: torch.device = CPU) -> bool:
    """Say whether native operators are to be used for tensors on a device.

    The environment is read at every call, so that a test or a benchmark may switch.

    Args:
        device: where the tensors are.

    Returns:
        True on the CPU, and on CUDA where the CUDA operators are loaded, unless NSDBENCH_NATIVE=0.

    Raises:
        ValueError: NSDBENCH_NATIVE is neither 0 nor 1.
    """
    wish = os.environ.get(VARIABLE, "1")
    if wish not in ("0", "1"):
        raise ValueError(f"{VARIABLE}: expected 0 or 1, got {wish!r}")
    if wish == "0":
        return False
    if device.type == "cuda":
        return not library.cuda_unavailable_because
    return device.type == "cpu"
