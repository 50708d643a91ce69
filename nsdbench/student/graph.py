"""Steps captured once and replayed: what a GPU needs a step's launches for is done beforehand.

A graph repeats the kernels of a function on the memory they were captured with. So every graph has
buffers of its own: operands are copied in before a replay, results copied out within it. Nothing
else outlives a replay, and the pool that all graphs of an engine share holds scratch alone: graphs
may be replayed in any order, one after another.

Augmentation stays outside. Which of its operations a batch takes is drawn on the host, so a graph
would be needed for each of them; its two launches hide behind the replay before them, and its
parameters reach the device in one copy for all steps (`augment.place`).

    Recorder            captures a function that reads and writes fixed memory
    Engine              graphs by what they compute, shapes and settings; the oldest give way
    GraphStep           a student's step and its adjoint through an engine

Host-tested with a recorder that runs the function again (tests/student/test_graph.py).
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Protocol

import torch
from torch import Tensor

from nsdbench.student.convnet_step import ConvNetStep
from nsdbench.student.step import InnerStep
from nsdbench.sums import notice

MAX_GRAPHS = 32  # our choice: a run needs about six; each holds the operands and results of a step
MAX_FAILURES = 2  # our choice: memory may be there the second time
_WARM_UPS = 3  # cuDNN plans and workspaces, as torch.cuda.make_graphed_callables

Function = Callable[..., Sequence[Tensor | None]]


class CaptureFailed(Exception):
    """A function could not be captured; the message says why."""


class Recorder(Protocol):
    """Captures functions; what an engine needs of a device."""

    def capture(self, function: Callable[[], None]) -> Callable[[], None]:
        """Run a function a few times, capture it, and return what replays it.

        Raises:
            CaptureFailed: it could not be captured, for want of memory for example.
        """

    def wait(self) -> None:
        """Wait for the replays that run, so that a graph may be dropped."""

    def release(self) -> None:
        """Give back the memory of graphs, all of which have been dropped."""


class CudaRecorder:
    """Captures on a stream of its own, into one pool.

    Args:
        device: number of the GPU.
    """

    def __init__(self, device: int) -> None:
        self._device = torch.device("cuda", device)
        self._stream = torch.cuda.Stream(self._device)
        self._pool = torch.cuda.graph_pool_handle()

    def capture(self, function: Callable[[], None]) -> Callable[[], None]:
        """See `Recorder.capture`."""
        before = torch.cuda.current_stream(self._device)
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.device(self._device):
                self._stream.wait_stream(before)
                with torch.cuda.stream(self._stream):  # plans are kept by thread and stream
                    for _ in range(_WARM_UPS):
                        function()
                before.wait_stream(self._stream)
                with torch.cuda.graph(graph, pool=self._pool, stream=self._stream):
                    function()
        except torch.OutOfMemoryError as error:
            raise CaptureFailed("the GPU's memory is full") from error
        except RuntimeError as error:
            raise CaptureFailed(str(error).partition("\n")[0]) from error
        finally:
            torch.cuda.set_stream(before)  # a capture that failed leaves its own
        return graph.replay

    def wait(self) -> None:
        """See `Recorder.wait`."""
        torch.cuda.synchronize(self._device)

    def release(self) -> None:
        """See `Recorder.release`."""
        self._pool = torch.cuda.graph_pool_handle()
        with torch.cuda.device(self._device):
            torch.cuda.empty_cache()


@dataclass(frozen=True)
class _Graph:
    operands: list[Tensor]
    results: list[Tensor | None]
    replay: Callable[[], None]


class Engine:
    """Captures functions when they are first called, and replays them from then on.

    Args:
        recorder: captures.
        max_graphs: the least recently used of more are dropped.
    """

    def __init__(self, recorder: Recorder, max_graphs: int = MAX_GRAPHS) -> None:
        self._recorder = recorder
        self._max_graphs = max_graphs
        self._graphs: OrderedDict[tuple, _Graph] = OrderedDict()
        self._failures: dict[Hashable, int] = {}
        self._forgotten: list[Hashable] = []

    def __len__(self) -> int:
        return sum(key[0] not in self._forgotten for key in self._graphs)

    def refuses(self, family: Hashable) -> bool:
        """Say whether a family of functions is not captured any more, after MAX_FAILURES."""
        return self._failures.get(family, 0) >= MAX_FAILURES

    def run(
        self, family: Hashable, what: Hashable, function: Function, operands: Sequence[Tensor]
    ) -> list[Tensor | None] | None:
        """Compute function(*operands), by a replay.

        Args:
            family, what: together they name what the function computes; numbers that are no
                operands are captured with it and belong in `what`.
            function: of tensors; reads no other memory that moves, and changes none.
            operands: on the engine's device, constants.

        Returns:
            The results, which the next call of equal family, `what`, shapes and settings
            overwrites. None where the function could not be captured: then call it as it is. All
            graphs are dropped and their memory is given back; a notice says so.
        """
        if self.refuses(family):
            return None
        if self._forgotten:
            self._drop_forgotten()
        operands = [operand.detach() for operand in operands]
        key = (family, what, _settings(), tuple(_kind(operand) for operand in operands))
        with torch.no_grad():
            graph = self._graphs.get(key)
            if graph is None:
                try:
                    graph = self._captured(function, operands)
                except CaptureFailed as failure:
                    self._fail(family, failure)
                    return None
                self._graphs[key] = graph
            self._graphs.move_to_end(key)
            for buffer, operand in zip(graph.operands, operands, strict=True):
                buffer.copy_(operand)
            graph.replay()
        return graph.results

    def forget(self, family: Hashable) -> None:
        """Have the graphs of a family dropped: the memory that they read is no longer there.

        That waits for the device, so the next `run` does it: who calls this from a finaliser may be
        in the middle of a capture.
        """
        self._forgotten.append(family)

    def _drop_forgotten(self) -> None:
        families, self._forgotten = self._forgotten, []
        keys = [key for key in self._graphs if key[0] in families]
        if keys:
            self._recorder.wait()
        for key in keys:
            del self._graphs[key]
        for family in families:
            self._failures.pop(family, None)

    def _captured(self, function: Function, operands: list[Tensor]) -> _Graph:
        if len(self._graphs) >= self._max_graphs:
            self._recorder.wait()
            self._graphs.popitem(last=False)
        try:
            buffers = [operand.clone() for operand in operands]
            # The first call of all is no capture: it loads kernels and says what results look like.
            found = function(*buffers)
            results = [None if result is None else torch.empty_like(result) for result in found]
        except torch.OutOfMemoryError as error:
            raise CaptureFailed("the GPU's memory is full") from error
        del found

        def body() -> None:
            for result, computed in zip(results, function(*buffers), strict=True):
                if result is not None and computed is not None:
                    result.copy_(computed)

        return _Graph(buffers, results, self._recorder.capture(body))

    def _fail(self, family: Hashable, failure: CaptureFailed) -> None:
        self._failures[family] = self._failures.get(family, 0) + 1
        self._recorder.wait()
        self._graphs.clear()
        self._recorder.release()
        then = "from now on" if self.refuses(family) else "this once"
        notice(f"a step could not be captured ({failure}): it runs without a graph {then}")


@cache
def engine(device: int, stream: int) -> Engine:
    """Return the engine of a stream of a GPU: graphs of two streams may run at the same time.

    Args:
        device: number of the GPU.
        stream: its handle, `torch.cuda.Stream.cuda_stream`.
    """
    return Engine(CudaRecorder(device))


@cache
def lane(device: int, number: int) -> torch.cuda.Stream:
    """Return a stream for the work with that number of several that run side by side."""
    return torch.cuda.Stream(device)


class GraphStep(InnerStep):
    """A student's step through an engine; where that captures nothing, as it is.

    Args:
        eager: the step.
        engine: of the device on which it is taken.
    """

    name = "graph"

    def __init__(self, eager: ConvNetStep, engine: Engine) -> None:
        super().__init__(eager.model)
        self.eager = eager
        self.family = family_of(eager)
        self._engine = engine

    def gradient(self, theta: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """Compute g = grad_theta L(theta; x, y), detached."""
        found = self._run("gradient", lambda *o: [self.eager.gradient(*o)], theta, x, y)
        return self.eager.gradient(theta, x, y) if found is None else _only(found[0])

    def advance(
        self,
        theta: Tensor,
        velocity: Tensor | None,
        x: Tensor,
        y: Tensor,
        lr: Tensor,
        momentum: float,
    ) -> tuple[Tensor, Tensor]:
        """Take one step of SGD, as InnerStep.advance; without momentum no velocity is read."""
        operands = [theta, x, y, lr.to(theta)]
        if momentum:
            operands.append(torch.zeros_like(theta) if velocity is None else velocity)

        def step(
            theta: Tensor, x: Tensor, y: Tensor, lr: Tensor, velocity: Tensor | None = None
        ) -> tuple[Tensor, Tensor]:
            return self.eager.advance(theta, velocity, x, y, lr, momentum)

        found = self._run(("advance", momentum), step, *operands)
        if found is None:
            return self.eager.advance(theta, velocity, x, y, lr, momentum)
        return _only(found[0]), _only(found[1])

    def adjoint(
        self,
        theta: Tensor,
        x: Tensor,
        y: Tensor,
        direction: Tensor,
        needs: tuple[bool, bool, bool],
    ) -> tuple[Tensor, list[Tensor | None]]:
        """Compute <g, p> and the derivatives of the gradients along p, as InnerStep.adjoint."""

        def adjoint(theta: Tensor, x: Tensor, y: Tensor, direction: Tensor) -> list[Tensor | None]:
            along, gradients = self.eager.adjoint(theta, x, y, direction, needs)
            return [along, *gradients]

        found = self._run(("adjoint", needs), adjoint, theta, x, y, direction)
        if found is None:
            return self.eager.adjoint(theta, x, y, direction, needs)
        return _only(found[0]), [None if part is None else part.clone() for part in found[1:]]

    def _run(
        self, what: Hashable, function: Function, *operands: Tensor
    ) -> list[Tensor | None] | None:
        return self._engine.run(self.family, what, function, operands)


def family_of(eager: ConvNetStep) -> Hashable:
    """Name the graphs of a step: networks of one shape share them, theta is an operand."""
    return (type(eager).__name__, eager.shape)


def _only(result: Tensor | None) -> Tensor:
    """Copy a result: the next replay overwrites it."""
    assert result is not None, "a step and its gradient are always computed"
    return result.clone()


def _kind(operand: Tensor) -> Hashable:
    return (operand.shape, operand.stride(), operand.dtype, operand.device)


def _settings() -> Hashable:
    """Return the settings of torch that choose kernels: a graph keeps those of its capture."""
    cudnn = torch.backends.cudnn
    return (
        cudnn.enabled,
        cudnn.allow_tf32,
        cudnn.benchmark,
        cudnn.deterministic,
        torch.backends.cuda.matmul.allow_tf32,
        torch.are_deterministic_algorithms_enabled(),
    )
