"""Whether steps on a device are captured once and replayed, by what, and how many at a time.

The engine (graph.py) is for CUDA, where a step's launches take longer than its arithmetic. It is
imported where it is used: a machine without CUDA never loads it. NSDBENCH_GRAPH=0 turns it off.
"""

import os
from collections.abc import Generator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, TypeVar

import torch

from nsdbench.ops.registration import are_transforms_active

if TYPE_CHECKING:
    from nsdbench.student.graph import Engine

VARIABLE = "NSDBENCH_GRAPH"
T = TypeVar("T")


def engine_for(device: torch.device) -> "Engine | None":
    """Return the engine that captures steps on a device's current stream, None where none does.

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
    return graph.engine(index, torch.cuda.current_stream(device).cuda_stream)


def run_side_by_side(works: Sequence[Generator[None, None, T]], device: torch.device) -> list[T]:
    """Run pieces of work to their ends, up to a `yield` of each in turn, and return what they give.

    Several on CUDA are given a stream each, and so an engine each: what one computes may run beside
    what another does. They begin after all that was asked of the device before, and what is asked
    of it afterwards begins when they have ended.
    """
    if device.type != "cuda" or len(works) == 1:
        return _in_turn(works, [nullcontext()] * len(works))
    from nsdbench.student import graph

    before = torch.cuda.current_stream(device)
    index = torch.cuda.current_device() if device.index is None else device.index
    lanes = [graph.lane(index, number) for number in range(len(works))]
    for lane in lanes:
        lane.wait_stream(before)
    try:
        return _in_turn(works, [torch.cuda.stream(lane) for lane in lanes])
    finally:
        for lane in lanes:
            before.wait_stream(lane)


def _in_turn(
    works: Sequence[Generator[None, None, T]], contexts: Sequence[AbstractContextManager]
) -> list[T]:
    ends: dict[int, T] = {}
    while len(ends) < len(works):
        for number, (work, context) in enumerate(zip(works, contexts, strict=True)):
            if number not in ends:
                with context:
                    try:
                        next(work)
                    except StopIteration as end:
                        ends[number] = end.value
    return [ends[number] for number in range(len(works))]
