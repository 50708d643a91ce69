"""What the CUDA code gains on a GPU, measured side by side: `python -m benchmarks.cuda`.

Ways of doing a job take turns; a time is the median over rounds of calls that end with a
synchronisation, so it holds what the host spends on launching as well. Every way says the code
path it takes, and operators are compared with what they are measured against. All of it runs in one
process: the device's allocator counts memory by itself, captures included. Prints a table and
writes results/benchmarks/cuda.json, or what --out names, after every group. Convolutions are
cuDNN's, with TensorFloat-32 as PyTorch sets it.

    graph               our step, captured once and replayed
    fused               our step, launched by Python (NSDBENCH_GRAPH=0)
    stock PyTorch       the modules of the same network (NSDBENCH_NATIVE=0)
    torch.compile       these through torch.compile, mode="reduce-overhead"
    autograd            PyTorch's modules, one graph through all steps

--dry-run goes the same ways on the CPU with tiny shapes and measures nothing worth keeping.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch.nn import functional as F

from benchmarks import bench_dsa, bench_inorm_relu_pool, bench_reconstruct
from benchmarks.arms import MIB
from benchmarks.headline import RESULTS, machine
from nsdbench import data, experts, files, models, ops
from nsdbench.evaluation import evaluate
from nsdbench.ops import convnet_blocks
from nsdbench.ops.precision import PRECISIONS, computing_in
from nsdbench.student import augment, capture, unroll
from nsdbench.student.training_step import TrainingStep

STRATEGY = "color_crop_cutout_flip_scale_rotate"
SWITCHES = ("NSDBENCH_NATIVE", "NSDBENCH_GRAPH")


@dataclass(frozen=True)
class Way:
    """A way of doing a job: with our operators or not, with captures or not."""

    is_native: bool
    is_captured: bool
    run: Callable[[], object] = lambda: None
    mode: str = "exact"  # of unrolled_sgd

    @property
    def code_path(self) -> str:
        """What a student's step says on CUDA."""
        if not self.is_native or self.mode == "full":
            return "generic"
        return "graph" if self.is_captured else "fused"


OUTER_WAYS = {
    "graph": Way(True, True),
    "fused": Way(True, False),
    "autograd": Way(False, False, mode="full"),
}
ERROR_WAYS = OUTER_WAYS | {
    "checkpointed": Way(False, False),
    "first order": Way(True, True, mode="first_order"),
}


@dataclass(frozen=True)
class Sizes:
    """What is measured.

    Attributes:
        outer: width, channels, size, batch, steps, augmented, by name.
        error: the same of the gradient's error.
        training: channels, size, width, batch, by name.
        judged: data set, images, architecture, protocol, networks.
        expert: data set, architecture, batch, epochs.
        calls: of a step and of an operator in a round.
        rounds: how often ways take turns.
    """

    outer: dict[str, tuple]
    error: tuple
    training: dict[str, tuple]
    judged: tuple
    expert: tuple
    calls: int
    rounds: int = 3


REAL = Sizes(
    outer={
        "FashionMNIST at scale small, w32, B 64, N 40": (32, 1, 28, 64, 40, False),
        "CIFAR10, w128, B 64, N 8": (128, 3, 32, 64, 8, False),
        "CIFAR10, w128, B 256, N 30": (128, 3, 32, 256, 30, False),
        "CIFAR10, w128, B 256, N 30, DSA": (128, 3, 32, 256, 30, True),
    },
    error=(128, 3, 32, 8, 4, False),
    training={
        "B 256, 3x32x32, w128": (3, 32, 128, 256),
        "B 100, 3x32x32, w128": (3, 32, 128, 100),
        "B 256, 1x28x28, w32": (1, 28, 32, 256),
    },
    judged=("synthetic:10x3x32x32@5000+1000", 100, "convnet3-w128", "common", 5),
    expert=("synthetic:10x3x32x32@5000+1000", "convnet3-w128", 256, 4),
    calls=20,
)
TINY = Sizes(
    outer={"tiny": (4, 1, 8, 3, 2, False), "tiny, DSA": (4, 3, 8, 3, 2, True)},
    error=(4, 3, 8, 3, 2, False),
    training={"tiny": (3, 8, 4, 5)},
    judged=("synthetic:3x3x8x8@10+5", 6, "convnet1-w4", "common-2ep", 2),
    expert=("synthetic:3x3x8x8@10+5", "convnet1-w4", 8, 3),
    calls=1,
    rounds=1,
)


load = cache(data.load)  # drawing 60,000 pictures takes seconds


class Bench:
    """A device and the sizes that are measured on it."""

    def __init__(self, is_dry: bool) -> None:
        self.is_dry = is_dry
        self.device = torch.device("cpu" if is_dry else "cuda")
        self.sizes = TINY if is_dry else REAL

    def synchronize(self) -> None:
        if not self.is_dry:
            torch.cuda.synchronize()

    def seconds_of(self, run: Callable[[], object], calls: int) -> float:
        """Time a call, over `calls` of them and one synchronisation."""
        self.synchronize()
        start = time.perf_counter()
        for _ in range(calls):
            run()
        self.synchronize()
        return (time.perf_counter() - start) / calls

    def take_turns(self, ways: dict[str, Way], calls: int) -> dict:
        """Measure every way once for warmth, then in turn; return medians and highest peaks."""
        times = {name: [] for name in ways}
        peaks = dict.fromkeys(ways, 0.0)
        for turn in range(self.sizes.rounds + 1):
            for name, way in ways.items():
                with switched(way):
                    assert self.is_dry or ops.is_native(self.device) == way.is_native
                    base = self._start_of_peak()
                    way.run()
                    seconds = self.seconds_of(way.run, calls)
                peaks[name] = max(peaks[name], self._peak(base))
                if turn > 0:
                    times[name].append(seconds)
        return {
            name: {
                "seconds": statistics.median(times[name]),
                "least_seconds": min(times[name]),
                "peak_mib": round(peaks[name], 1),
            }
            for name in ways
        }

    def _start_of_peak(self) -> int:
        if self.is_dry:
            return 0
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()

    def _peak(self, base: int) -> float:
        return 0.0 if self.is_dry else (torch.cuda.max_memory_allocated() - base) / MIB


@contextmanager
def switched(way: Way):
    """Switch operators and captures on or off for the calls inside."""
    before = {name: os.environ.get(name) for name in SWITCHES}
    for name, is_on in zip(SWITCHES, (way.is_native, way.is_captured), strict=True):
        os.environ[name] = "1" if is_on else "0"
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


def build(channels: int, size: int, width: int, generator: torch.Generator) -> models.ConvNet:
    sizes = {"in_channels": channels, "image_size": size, "num_classes": 10}
    model = models.build("convnet", **sizes, width=width, depth=3)
    models.initialize(model, generator)
    return model


def outer_step(bench: Bench, shape: tuple, way: Way, dtype=torch.float32) -> Callable[[], tuple]:
    """Make the outer step of trajectory matching: gradients of images and step size."""
    width, channels, size, batch, steps, is_augmented = shape
    device, generator = bench.device, torch.Generator().manual_seed(0)
    model = build(channels, size, width, generator)
    theta = models.flatten(model)
    target = (theta + 0.01 * torch.randn(theta.shape, generator=generator)).to(device, dtype)
    theta = theta.to(device, dtype)
    images = torch.randn(batch, channels, size, size, generator=generator).to(device, dtype)
    labels = torch.randint(10, (batch,), generator=generator).to(device)
    lr = torch.tensor(0.01, device=device, dtype=dtype, requires_grad=True)
    batches = torch.arange(batch).expand(steps, -1)
    draws = None
    if is_augmented:
        draws = [
            augment.sample(STRATEGY, batch, (channels, size, size), generator) for _ in batches
        ]
    model.to(device)
    images.requires_grad_()

    def run():
        assert bench.is_dry or unroll.code_path(model, way.mode) == way.code_path
        end = unroll.unrolled_sgd(
            model, theta, images, labels, batches, lr, augment=draws, mode=way.mode
        )
        loss = (end - target).square().sum() / (theta - target).square().sum()
        return torch.autograd.grad(loss, (images, lr))

    return run


def measure_outer_steps(bench: Bench) -> dict:
    """Compare the ways of the unrolled gradient."""
    found = {}
    for name, shape in bench.sizes.outer.items():
        ways = {
            key: Way(way.is_native, way.is_captured, outer_step(bench, shape, way))
            for key, way in OUTER_WAYS.items()
        }
        found[name] = bench.take_turns(ways, 1)
    return found


def gradient_errors(bench: Bench) -> dict[str, float]:
    """Relative error of dJ/dimages against autograd in float64."""
    shape, full = bench.sizes.error, OUTER_WAYS["autograd"]
    with switched(full):
        exact = outer_step(bench, shape, full, torch.float64)()[0]
    found = {}
    for precision in PRECISIONS:
        for name, way in ERROR_WAYS.items():
            with switched(way), computing_in(precision):
                gradient = outer_step(bench, shape, way)()[0]
            found[f"{name}, {precision}"] = float((gradient - exact).norm() / exact.norm())
    return found


def training_ways(bench: Bench, shape: tuple) -> dict[str, Way]:
    """Make the ways of a training step: forward, backward, SGD; each with a network of its own."""
    channels, size, width, batch = shape
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(batch, channels, size, size, generator=generator).to(bench.device)
    labels = torch.randint(10, (batch,), generator=generator).to(bench.device)

    def made() -> tuple[models.ConvNet, torch.optim.SGD]:
        model = build(channels, size, width, torch.Generator().manual_seed(1)).to(bench.device)
        sgd = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
        return model, sgd

    def ours(is_captured: bool) -> Way:
        model, sgd = made()
        step = TrainingStep(model, sgd, lambda x, y: (F.cross_entropy(model(x), y),))
        way = Way(True, is_captured)

        def run() -> None:
            step(images, labels)
            assert bench.is_dry or step.code_path == way.code_path

        return Way(True, is_captured, run)

    def stock(is_compiled: bool) -> Way:
        model, sgd = made()

        def loss(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return F.cross_entropy(model(x), y)

        if is_compiled:
            loss = torch.compile(loss, mode="reduce-overhead")

        def run() -> None:
            if is_compiled:
                torch.compiler.cudagraph_mark_step_begin()
            sgd.zero_grad(set_to_none=True)
            loss(images, labels).backward()
            sgd.step()

        return Way(False, False, run)

    ways = {"graph": ours(True), "fused": ours(False), "stock PyTorch": stock(False)}
    return ways if bench.is_dry else ways | {"torch.compile": stock(True)}


def measure_training(bench: Bench) -> dict:
    """Compare the training step of an evaluation."""
    return {
        name: bench.take_turns(training_ways(bench, shape), bench.sizes.calls)
        for name, shape in bench.sizes.training.items()
    }


def measure_determinism(bench: Bench) -> dict:
    """Compare cuDNN's repeatable algorithms with those that it would choose, step and adjoint."""
    found = {}
    for name, (width, channels, size, batch, *_) in bench.sizes.outer.items():
        generator = torch.Generator().manual_seed(0)
        model = build(channels, size, width, generator)
        shape, theta = models.native_shape(model), models.flatten(model).to(bench.device)
        x = torch.randn(batch, channels, size, size, generator=generator).to(bench.device)
        y = torch.randint(10, (batch,), generator=generator).to(bench.device)
        engine = capture.engine_for(bench.device)

        def gradient(theta, x, y, shape=shape):
            return [convnet_blocks.convnet_gradient(theta, x, y, shape)]

        def adjoint(theta, x, y, shape=shape):
            along, parts = convnet_blocks.convnet_adjoint(theta, x, y, theta, shape)
            return [along, *parts]

        def run_both(is_repeatable, engine=engine, operands=(theta, x, y), name=name):
            with torch.backends.cudnn.flags(
                enabled=True, deterministic=is_repeatable, allow_tf32=True
            ):
                for function in (gradient, adjoint):
                    if engine is None:
                        function(*operands)
                    else:
                        engine.run(("determinism", name), function.__name__, function, operands)

        found[name] = bench.take_turns(
            {
                "repeatable": Way(True, True, lambda run=run_both: run(True)),
                "as cuDNN chooses": Way(True, True, lambda run=run_both: run(False)),
            },
            bench.sizes.calls,
        )
    return found


def measure_expert(bench: Bench) -> dict:
    """Time the epochs of an expert after its first, with DSA; snapshots are written as always."""
    name, arch, batch, epochs = bench.sizes.expert
    dataset = load(name)
    preprocessing = data.preprocessing("standardise", dataset)
    recipe = experts.ExpertRecipe(num_experts=1, epochs=epochs, batch_size=batch)
    found = {}
    for way_name, way in (("graph", OUTER_WAYS["graph"]), ("fused", OUTER_WAYS["fused"])):
        ends: list[float] = []
        run = experts.Run(
            device=str(bench.device), progress=lambda *_, e=ends: e.append(time.perf_counter())
        )
        with switched(way), tempfile.TemporaryDirectory() as folder:
            experts.record(dataset, preprocessing, arch, recipe, seed=0, root=folder, run=run)
        seconds = [after - before for before, after in zip(ends, ends[1:], strict=False)]
        found[way_name] = {"seconds": statistics.median(seconds), "least_seconds": min(seconds)}
    return found


def measure_judging(bench: Bench) -> dict:
    """Time the judging of a small set, captures and tests included; one network without a graph."""
    name, count, arch, protocol, networks = bench.sizes.judged
    dataset = load(name)
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(count, *dataset.image_shape, generator=generator)
    labels = torch.arange(count) % dataset.num_classes
    found = {}
    for way_name, repeats in (("graph", networks), ("fused", 1)):
        with switched(OUTER_WAYS[way_name]):
            started = time.perf_counter()
            judged = evaluate(
                (images, labels),
                dataset,
                arch,
                protocol,
                repeats,
                pixels="normalised",
                device=str(bench.device),
                progress=experts.silent,
            )
            seconds = time.perf_counter() - started
        assert bench.is_dry or judged.code_path == way_name
        found[way_name] = {"seconds": seconds, "networks": repeats, "steps": judged.steps}
    return found


def compared(bench: Bench, ways: dict[str, Way]) -> dict:
    """Measure operators that must give the same tensors, up to rounding."""
    results = []
    for way in ways.values():
        with switched(way):
            results.append(way.run())
    for ours, theirs in zip(*results, strict=True):
        assert (ours - theirs).norm() <= 1e-4 * theirs.norm()
    return bench.take_turns(ways, bench.sizes.calls)


def measure_operators(bench: Bench) -> dict:
    """Compare single operators, forward and backward; not in a dry run, which has no small ones."""
    if bench.is_dry:
        return {}
    found = {}
    for name in bench_reconstruct.SHAPES:
        spectra, kernels, grad = bench_reconstruct.draw(name)
        spectra, *kernels = (x.detach().cuda().requires_grad_() for x in (spectra, *kernels))
        arguments = (spectra, kernels, grad.cuda(), True)
        einsum, _ = bench_reconstruct.fastest_einsum(*arguments)
        found[f"reconstruct, {name}"] = compared(
            bench,
            {
                "native": Way(
                    True, False, lambda a=arguments: bench_reconstruct.step(ops.reconstruct, *a)
                ),
                "fastest order of einsum": Way(
                    False, False, lambda a=arguments, e=einsum: bench_reconstruct.step(e, *a)
                ),
            },
        )
    for name, shape in bench_inorm_relu_pool.SHAPES.items():
        tensors, grad = bench_inorm_relu_pool.draw(shape)
        arguments = [x.detach().cuda().requires_grad_() for x in tensors], grad.cuda(), True
        found[f"norm, ReLU, pool, {name}"] = compared(
            bench,
            {
                "native": Way(
                    True,
                    False,
                    lambda a=arguments: bench_inorm_relu_pool.call(ops.inorm_relu_pool, *a),
                ),
                "PyTorch's three layers": Way(
                    False,
                    False,
                    lambda a=arguments: bench_inorm_relu_pool.call(
                        bench_inorm_relu_pool.composed, *a
                    ),
                ),
            },
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
            bench, {"native": Way(True, False, run), "vectorised PyTorch": Way(False, False, run)}
        )
    return found


GROUPS = {  # what matters most comes first: a run that is cut short keeps what it has
    "outer_step": measure_outer_steps,
    "training_step": measure_training,
    "gradient_error": gradient_errors,
    "expert_epoch": measure_expert,
    "judging": measure_judging,
    "determinism": measure_determinism,
    "operators": measure_operators,
}


def show(group: str, found: dict) -> None:
    """Print what a group found."""
    if group == "gradient_error":
        for name, error in found.items():
            print(f"gradient error, {name:30} {error:.1e}")
        return
    cases = {group: found} if group in ("expert_epoch", "judging") else found
    for name, ways in cases.items():
        for way, facts in ways.items():
            peak = f"{facts['peak_mib']:9.1f} MiB" if "peak_mib" in facts else ""
            print(f"{name:46} {way:26} {1e3 * facts['seconds']:9.3f} ms {peak}")


def main(words: list[str] | None = None) -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="benchmarks.cuda", description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=RESULTS / "cuda.json", help="file to write")
    parser.add_argument("--groups", default=",".join(GROUPS), help="some of them, as a,b")
    parser.add_argument("--dry-run", action="store_true", help="tiny shapes on the CPU")
    asked = parser.parse_args(words)
    groups = asked.groups.split(",")
    if unknown := [name for name in groups if name not in GROUPS]:
        parser.error(f"unknown group {unknown[0]!r}; there are {', '.join(GROUPS)}")
    if asked.dry_run and asked.out == RESULTS / "cuda.json":
        parser.error("a dry run measures nothing worth keeping: give --out another file")
    if not asked.dry_run and not torch.cuda.is_available():
        print("no CUDA device is available: nothing was measured")
        return 2
    bench, result = Bench(asked.dry_run), {"machine": machine()}
    if not asked.dry_run:
        result["machine"] |= {
            "gpu": torch.cuda.get_device_name(),
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
            "threads": torch.get_num_threads(),
        }
    started, failed = time.perf_counter(), False
    for group in groups:
        try:
            result[group] = GROUPS[group](bench)
            show(group, result[group])
        except Exception:  # time on a device is scarce: the other groups may still be measured
            traceback.print_exc()
            failed = True
        result["machine"]["seconds"] = round(time.perf_counter() - started, 1)
        text = json.dumps(result, indent=1) + "\n"
        files.write_atomically(asked.out, lambda path, text=text: path.write_text(text))
        print(f"({group}: {result['machine']['seconds']:.0f} s since the start)", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
