"""Operators that torch.func.vmap cannot vectorise say so, and what to do instead."""

from collections.abc import Callable
from typing import NoReturn

import torch


def refuse_vmap(operator: str) -> Callable[..., NoReturn]:
    """Make torch.func.vmap over an operator a clear error.

    Args:
        operator: its name within the namespace nsdbench.

    Returns:
        What the `vmap` of an autograd.Function around the operator is to be; calling it raises
        ValueError.
    """

    def refuse(info, in_dims, *arguments):
        raise ValueError(
            f"{operator} cannot run under torch.func.vmap: call it once for each element, or run "
            "the network's plain modules inside `with nsdbench.ops.convnet.composed():` or with "
            "NSDBENCH_NATIVE=0"
        )

    torch.library.register_vmap(f"nsdbench::{operator}", refuse)
    return refuse
