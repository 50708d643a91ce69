"""Augmentation, forward and backward, beside what one would otherwise use.

For every operation: `augment.apply` and its gradient on native code, the same through its
vectorised PyTorch twin, the two native operators without autograd (operator), and copying as many
bytes into other tensors (copy). For scale and rotate also the way of the reference code, which
builds one matrix per image in a Python loop. What is compared is timed in turns of a few calls, so
that none finds its memory returned to the system by another. Ratios are of the least times: other
processes on the machine add to a time, never take from it; medians are kept beside them. Batches
are those of training: 256 images.
"""

import statistics
import time

import pytest
import torch
from torch.nn import functional as F

from nsdbench import ops, provenance
from nsdbench.student import augment

BATCH = 256
SHAPES = {"cifar10": (3, 32, 32), "fashion-mnist": (1, 28, 28)}
OPERATIONS = augment.OPERATIONS
QUICK = {f"cifar10-{operation}" for operation in OPERATIONS}
TURNS, CALLS = 10, 4


def reference_loop(x: torch.Tensor, params: augment.DsaParams) -> torch.Tensor:
    """Scale or rotate as the reference code does: a list of matrices, then two calls for all."""
    if params.op == "scale":
        sx, sy = params.values["factor"].unbind(dim=1)
        theta = [[[sx[i], 0, 0], [0, sy[i], 0]] for i in range(len(x))]
    else:
        angle = params.values["angle"]
        theta = [
            [
                [torch.cos(angle[i]), torch.sin(-angle[i]), 0],
                [torch.sin(angle[i]), torch.cos(angle[i]), 0],
            ]
            for i in range(len(x))
        ]
    grid = F.affine_grid(torch.tensor(theta), list(x.shape), align_corners=True)
    return F.grid_sample(x, grid, align_corners=True)


def step(run, images, params, grad):
    """One call in training: images forward, their gradient backward."""
    out = run(images, params)
    return out, *torch.autograd.grad(out, images, grad)


def timed_in_turns(runs: dict) -> dict[str, list[float]]:
    """Seconds of every run, in turns of CALLS after one that is not counted."""
    times = {name: [] for name in runs}
    for _ in range(TURNS):
        for name, run in runs.items():
            run()
            for _ in range(CALLS):
                start = time.perf_counter()
                run()
                times[name].append(time.perf_counter() - start)
    return times


def check(native, other, exact) -> None:
    """Native and the other way agree with float64; native is not the worse one."""
    for ours, theirs, x in zip(native, other, exact, strict=True):
        tiny = torch.finfo(torch.float32).eps * x.abs().max()
        error = (ours.double() - x).abs().max()
        assert error <= 2 * (theirs.double() - x).abs().max() + tiny


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("name", SHAPES)
def test_dsa(benchmark, monkeypatch, name, operation):
    shape = SHAPES[name]
    benchmark.group = f"dsa {name} {operation} forward+backward"
    generator = torch.Generator().manual_seed(0)
    params = augment.sample(operation, BATCH, shape, generator)
    images = torch.randn(BATCH, *shape, generator=generator).requires_grad_()
    grad = torch.randn(BATCH, *shape, generator=generator)
    targets = torch.empty_like(grad), torch.empty_like(grad)
    parameters = augment.native_parameters(params)
    arguments = OPERATIONS.index(operation), parameters, params.align_corners

    def native():
        monkeypatch.setenv("NSDBENCH_NATIVE", "1")
        return step(augment.apply, images, params, grad)

    def pytorch(x=images, g=grad):
        monkeypatch.setenv("NSDBENCH_NATIVE", "0")
        return step(augment.apply, x, params, g)

    def operator():
        out = torch.ops.nsdbench.dsa(images.detach(), *arguments, False)
        return out, torch.ops.nsdbench.dsa_backward(grad, *arguments)

    def copy():
        targets[0].copy_(images.detach())
        targets[1].copy_(grad)

    runs = {"native": native, "pytorch": pytorch, "operator": operator, "copy": copy}
    if operation in ("scale", "rotate"):
        runs["reference_loop"] = lambda: step(reference_loop, images, params, grad)
    times = timed_in_turns(runs)
    seconds = {key: min(values) for key, values in times.items()}

    # What ran, and that it was right.
    out, _ = native()
    assert type(out.grad_fn).__name__ == "dsaBackward"
    assert type(pytorch()[0].grad_fn).__name__ != "dsaBackward"
    exact = pytorch(images.detach().double().requires_grad_(), grad.double())
    check(native(), pytorch(), exact)
    assert all(map(torch.equal, native(), operator()))
    if "reference_loop" in runs:
        check(native(), runs["reference_loop"](), exact)

    ratios = {
        f"speedup_over_{other}": round(seconds[other] / seconds["native"], 2)
        for other in runs
        if other in ("pytorch", "reference_loop")
    }
    benchmark.extra_info.update(
        shape=[BATCH, *shape],
        operation=operation,
        dtype="float32",
        threads=torch.get_num_threads(),
        simd=provenance.machine("cpu")["build"]["simd"],
        code_path="native",
        milliseconds={key: round(1e3 * value, 3) for key, value in seconds.items()},
        median_milliseconds={
            key: round(1e3 * statistics.median(values), 3) for key, values in times.items()
        },
        fraction_of_copy_bandwidth=round(seconds["copy"] / seconds["native"], 3),
        fraction_of_copy_bandwidth_operator=round(seconds["copy"] / seconds["operator"], 3),
        bytes_moved=4 * grad.nbytes,
        **ratios,
    )
    benchmark.pedantic(native, rounds=TURNS * CALLS, warmup_rounds=2)
    assert ops.is_native()
