"""The jobs of `benchmarks.cuda`: what is measured and in which ways, a function for each group."""

import statistics
import tempfile
import time
from collections.abc import Callable
from functools import cache

import torch
from torch.nn import functional as F

from benchmarks import bench_dsa, bench_inorm_relu_pool, bench_reconstruct
from benchmarks.cuda_bench import Bench, Way, switched
from nsdbench import data, experts, models, ops
from nsdbench.evaluation import evaluate
from nsdbench.ops import convnet_blocks
from nsdbench.ops.precision import PRECISIONS, computing_in
from nsdbench.student import augment, capture, unroll
from nsdbench.student.training_step import TrainingStep

STRATEGY = "color_crop_cutout_flip_scale_rotate"
OUTER_WAYS = {
    "graph": Way(True, True),
    "fused": Way(True, False),
    "autograd": Way(False, False, mode="full"),
}
ERROR_WAYS = OUTER_WAYS | {
    "checkpointed": Way(False, False),
    "first order": Way(True, True, mode="first_order"),
}

load = cache(data.load)  # drawing 60,000 pictures takes seconds


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


def measure_gradient_errors(bench: Bench) -> dict[str, float]:
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
