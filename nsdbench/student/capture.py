"""Whether steps on a device are captured once and replayed, and by what.

The engine (graph.py) is for CUDA, where a step's launches take longer than its arithmetic. It is
imported where it is used: a machine without CUDA never loads it. NSDBENCH_GRAPH=0 turns it off.
"""

import os
from typing import TYPE_CHECKING

import torch

from nsdbench.ops.registration import are_transforms_active

if TYPE_CHECKING:
    from nsdbench.student.graph import Engine

VARIABLE = "NSDBENCH_GRAPH"


def engine_for(device: torch.device) -> "Engine | None":
    """Return the engine that captures the steps on a device, None where they run as they are.

    They do on every device but CUDA, with NSDBENCH_GRAPH=0, under the transforms of torch.func,
    whose tensors are no memory that a graph could read, and inside a capture of the caller's.

    Raises:
        ValueError: NSDBENCH_GRAPH is neither 0 nor 1.
    """
    wish = os.environ.get(VARIABLE, "1")
    if wish not in ("0", "1"):
        raise ValueError(f"{VARIABLE}: expected 0 or 1, got {wish!r}")
    if wish == "0" or device.type != "cuda" or are_transforms_active():
        return None
    if torch.cuda.is_current_stream_capturing():
        return None
    from nsdbench.student import graph

    index = torch.cuda.current_device() if device.index is None else device.index
    return graph.engine(index)
