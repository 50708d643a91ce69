"""A stand-in for captures on a GPU: what was captured runs again, on the same memory."""

from contextlib import nullcontext

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from nsdbench.student.graph import CaptureFailed, Engine

aten = torch.ops.aten
# What makes the host wait for a GPU, which no capture survives.
READ_BACK = {aten._local_scalar_dense, aten.nonzero, aten.equal, aten.is_nonzero, aten._unique2}


class NothingReadBack(TorchDispatchMode):
    """Refuse whatever reads a number back from tensors, or brings one from the host."""

    def __torch_dispatch__(self, operator, types, arguments=(), options=None):
        options = options or {}
        packet = operator.overloadpacket
        is_masked = packet in (aten.index, aten.index_put, aten.index_put_) and any(
            index is not None and index.dtype == torch.bool for index in arguments[1]
        )
        if packet in READ_BACK or is_masked or options.get("pin_memory"):
            raise AssertionError(f"{operator} cannot be captured")
        return operator(*arguments, **options)


class FakeRecorder:
    """Replays a function by calling it; as merciless as a graph with who forgets to copy.

    A real graph reads and writes the memory of its capture. So does this one, if the function
    keeps to buffers of its own. Like the pool of a real one, the memory that the function computed
    in is not there afterwards: whatever it returned but did not copy out is spoilt.

    Attributes:
        captures, replays, waits, releases: how often.
        fails: how many captures are yet to fail.
        is_strict: whether what cannot be captured on a GPU is refused. On the CPU hard labels are
            checked by reading them, so it is for those that do not read them.
    """

    def __init__(self, fails=0, is_strict=False):
        self.is_strict = is_strict
        self.captures = self.replays = self.waits = self.releases = 0
        self.fails = fails

    def capture(self, function):
        if self.fails:
            self.fails -= 1
            raise CaptureFailed("the GPU's memory is full")
        self.captures += 1
        for _ in range(2):  # warm-ups: a function that changes its operands is found out
            with NothingReadBack() if self.is_strict else nullcontext():
                function()

        def replay():
            self.replays += 1
            function()

        return replay

    def wait(self):
        self.waits += 1

    def release(self):
        self.releases += 1


def spoil(tensors):
    """Write what no computation gives."""
    for tensor in tensors:
        if tensor is not None:
            tensor.fill_(float("nan") if tensor.is_floating_point() else -77)


class Spoiling(Engine):
    """Spoils the results of all graphs before every replay: who kept one without a copy sees it."""

    def run(self, *arguments):
        for kept in self._graphs.values():
            spoil(kept.results)
        return super().run(*arguments)
