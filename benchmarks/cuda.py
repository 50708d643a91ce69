"""What the CUDA code gains on a GPU, measured side by side: `python -m benchmarks.cuda`.

Ways of doing a job take turns; a time is the median over rounds of calls that end with a
synchronisation, so it holds what the host spends on launching as well. Every way says the code
path it takes, and operators are compared with what they are measured against. All of it runs in one
process: the device's allocator counts memory by itself. Prints a table and writes
results/benchmarks/cuda.json. Convolutions are cuDNN's, with TensorFloat-32 as PyTorch sets it.
"""

import os
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager

import torch
from torch.nn import functional as F

from benchmarks import bench_dsa, bench_inorm_relu_pool, bench_reconstruct
from benchmarks.arms import MIB
from benchmarks.headline import machine, save
from nsdbench import models, ops
from nsdbench.student import augment, unroll

OUTER_WAYS = {  # way: (native code, mode of unrolled_sgd)
    "autograd": (False, "full"),
    "checkpointed": (False, "exact"),
    "fused": (True, "exact"),
    "fused, first order": (True, "first_order"),
}
OUTER_SHAPES = {  # width, channels, size, batch, steps
    "FashionMNIST at scale small, w32, B 64, N 40": (32, 1, 28, 64, 40),
    "CIFAR10, w128, B 64, N 8": (128, 3, 32, 64, 8),
    "CIFAR10, w128, B 256, N 30": (128, 3, 32, 256, 30),
}
CALLS = {"outer_step": 1, "training_step": 20, "operator": 20}


@contextmanager
def native_code(is_on: bool):
    """Switch the operators on or off for the calls inside."""
    before = os.environ.get("NSDBENCH_NATIVE")
    os.environ["NSDBENCH_NATIVE"] = "1" if is_on else "0"
    try:
        yield
    finally:
        os.environ.pop("NSDBENCH_NATIVE")
        if before is not None:
            os.environ["NSDBENCH_NATIVE"] = before


def seconds_of(run: Callable[[], object], calls: int) -> float:
    """Time a call, over `calls` of them and one synchronisation."""
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(calls):
        run()
    torch.cuda.synchronize()
    return (time.perf_counter() - start) / calls


def take_turns(ways: dict[str, tuple[bool, Callable]], calls: int, rounds: int = 3) -> dict:
    """Measure every way once for warmth, then `rounds` times in turn; return medians and peaks."""
    times, peaks = {name: [] for name in ways}, {}
    for turn in range(rounds + 1):
        for name, (is_native, run) in ways.items():
            with native_code(is_native):
                assert ops.is_native(torch.device("cuda")) == is_native
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()
                base = torch.cuda.memory_allocated()
                run()
                seconds = seconds_of(run, calls)
            peaks[name] = round((torch.cuda.max_memory_allocated() - base) / MIB, 1)
            if turn > 0:
                times[name].append(seconds)
    return {
        name: {
            "seconds": statistics.median(times[name]),
            "least_seconds": min(times[name]),
            "peak_mib": peaks[name],
        }
        for name in ways
    }


def outer_step(shape: tuple, mode: str, dtype=torch.float32) -> Callable[[], tuple]:
    """Make the outer step of trajectory matching: gradients of images and step size."""
    width, channels, size, batch, steps = shape
    generator = torch.Generator().manual_seed(0)
    model = models.build(
        "convnet", in_channels=channels, image_size=size, num_classes=10, width=width, depth=3
    )
    models.initialize(model, generator)
    theta = models.flatten(model)
    target = (theta + 0.01 * torch.randn(theta.shape, generator=generator)).to("cuda", dtype)
    theta = theta.to("cuda", dtype)
    images = torch.randn(batch, channels, size, size, generator=generator).to("cuda", dtype)
    labels = torch.randint(10, (batch,), generator=generator).cuda()
    lr = torch.tensor(0.01, device="cuda", dtype=dtype, requires_grad=True)
    batches = torch.arange(batch, device="cuda").expand(steps, -1)
    model.to("cuda")
    images.requires_grad_()

    def run():
        is_native = ops.is_native(torch.device("cuda")) and mode != "full"
        assert unroll.code_path(model, mode) == ("fused" if is_native else "generic")
        end = unroll.unrolled_sgd(model, theta, images, labels, batches, lr, mode=mode)
        loss = (end - target).square().sum() / (theta - target).square().sum()
        return torch.autograd.grad(loss, (images, lr))

    return run


def cudnn(is_reduced: bool):
    """Let cuDNN round the factors of its products to TensorFloat-32, or not."""
    return torch.backends.cudnn.flags(enabled=True, allow_tf32=is_reduced)


def gradient_errors() -> dict[str, float]:
    """Relative error of dJ/dimages against autograd in float64, w128, B 8, N 4."""
    shape = (128, 3, 32, 8, 4)
    with native_code(False):
        exact = outer_step(shape, "full", torch.float64)()[0]
    found = {}
    for precision, is_reduced in (("TensorFloat-32", True), ("float32", False)):
        for way, (is_native, mode) in OUTER_WAYS.items():
            with native_code(is_native), cudnn(is_reduced):
                gradient = outer_step(shape, mode)()[0]
            found[f"{way}, {precision}"] = float((gradient - exact).norm() / exact.norm())
    return found


def measure_outer_steps() -> dict:
    """Compare the ways of the unrolled gradient."""
    found = {}
    for name, shape in OUTER_SHAPES.items():
        ways = {way: (on, outer_step(shape, mode)) for way, (on, mode) in OUTER_WAYS.items()}
        found[name] = take_turns(ways, CALLS["outer_step"])
    return found


def compared(ways: dict[str, tuple[bool, Callable]]) -> dict:
    """Measure operators that must give the same tensors, up to rounding."""
    results = []
    for is_native, run in ways.values():
        with native_code(is_native):
            results.append(run())
    for ours, theirs in zip(*results, strict=True):
        assert (ours - theirs).norm() <= 1e-4 * theirs.norm()
    return take_turns(ways, CALLS["operator"])


def measure_operators() -> dict:
    """Compare single operators, forward and backward."""
    found = {}
    for name in bench_reconstruct.SHAPES:
        spectra, kernels, grad = bench_reconstruct.draw(name)
        spectra, *kernels = (x.detach().cuda().requires_grad_() for x in (spectra, *kernels))
        arguments = (spectra, kernels, grad.cuda(), True)
        einsum, _ = bench_reconstruct.fastest_einsum(*arguments)
        found[f"reconstruct, {name}"] = compared(
            {
                "native": (True, lambda a=arguments: bench_reconstruct.step(ops.reconstruct, *a)),
                "fastest order of einsum": (
                    False,
                    lambda a=arguments, e=einsum: bench_reconstruct.step(e, *a),
                ),
            }
        )
    for name, shape in bench_inorm_relu_pool.SHAPES.items():
        tensors, grad = bench_inorm_relu_pool.draw(shape)
        arguments = [x.detach().cuda().requires_grad_() for x in tensors], grad.cuda(), True
        found[f"norm, ReLU, pool, {name}"] = compared(
            {
                "native": (
                    True,
                    lambda a=arguments: bench_inorm_relu_pool.call(ops.inorm_relu_pool, *a),
                ),
                "PyTorch's three layers": (
                    False,
                    lambda a=arguments: bench_inorm_relu_pool.call(
                        bench_inorm_relu_pool.composed, *a
                    ),
                ),
            }
        )
    shape = bench_dsa.SHAPES["cifar10"]
    for operation in bench_dsa.OPERATIONS:
        generator = torch.Generator().manual_seed(0)
        params = augment.sample(operation, bench_dsa.BATCH, shape, generator).to("cuda")
        images = torch.randn(bench_dsa.BATCH, *shape, generator=generator).cuda().requires_grad_()
        grad = torch.randn(images.shape, generator=generator).cuda()

        def run(images=images, params=params, grad=grad):
            return bench_dsa.step(augment.apply, images, params, grad)

        found[f"DSA, cifar10, {operation}"] = compared(
            {"native": (True, run), "vectorised PyTorch": (False, run)}
        )
    return found


def measure_training() -> dict:
    """Compare a training step of an evaluation: forward, backward, SGD; batch 256."""
    found = {}
    for name, (channels, size, width) in {
        "3x32x32, w128": (3, 32, 128),
        "1x28x28, w32": (1, 28, 32),
    }.items():
        generator = torch.Generator().manual_seed(0)
        model = models.build(
            "convnet", in_channels=channels, image_size=size, num_classes=10, width=width, depth=3
        )
        models.initialize(model, generator)
        model.cuda()
        images = torch.randn(256, channels, size, size, generator=generator).cuda()
        labels = torch.randint(10, (256,), generator=generator).cuda()
        sgd = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)

        def run(model=model, images=images, labels=labels, sgd=sgd):
            sgd.zero_grad(set_to_none=True)
            F.cross_entropy(model(images), labels).backward()
            sgd.step()

        found[name] = take_turns(
            {"fused": (True, run), "stock PyTorch": (False, run)}, CALLS["training_step"]
        )
    return found


GROUPS = {
    "operators": measure_operators,
    "training_step": measure_training,
    "gradient_error": gradient_errors,
    "outer_step": measure_outer_steps,
}


def main() -> int:
    """Measure, print, write."""
    if not torch.cuda.is_available():
        print("no CUDA device is available: nothing was measured")
        return 2
    device = {
        "gpu": torch.cuda.get_device_name(),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "threads": torch.get_num_threads(),
    }
    result = {"machine": machine() | device}
    for group, measure in GROUPS.items():
        result[group] = measure()
        save("cuda", result)
    for group in ("outer_step", "training_step", "operators"):
        for name, ways in result[group].items():
            for way, facts in ways.items():
                print(
                    f"{name:46} {way:26} {1e3 * facts['seconds']:9.3f} ms "
                    f"{facts['peak_mib']:9.1f} MiB"
                )
    for name, error in result["gradient_error"].items():
        print(f"gradient error, {name:36} {error:.1e}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
