"""A stand-in for captures on a GPU: what was captured runs again, on the same memory."""

from nsdbench.student.graph import CaptureFailed


class FakeRecorder:
    """Replays a function by calling it; as merciless as a graph with who forgets to copy.

    A real graph reads and writes the memory of its capture. So does this one, if the function
    keeps to buffers of its own. Like the pool of a real one, the memory that the function computed
    in is not there afterwards: whatever it returned but did not copy out is spoilt.

    Attributes:
        captures, replays, waits, releases: how often.
        fails: how many captures are yet to fail.
    """

    def __init__(self, fails=0):
        self.captures = self.replays = self.waits = self.releases = 0
        self.fails = fails

    def capture(self, function):
        if self.fails:
            self.fails -= 1
            raise CaptureFailed("the GPU's memory is full")
        self.captures += 1
        for _ in range(2):  # warm-ups: a function that changes its operands is found out
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
