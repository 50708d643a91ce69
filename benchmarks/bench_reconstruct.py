"""`reconstruct` beside the fastest chain of torch.einsum calls, forward and backward.

Shapes are the cells of the tables (spec of the method, one spectrum tensor per class):
CIFAR10 at 1 and 10 images per class, an ImageNet subset at 1 image per class.
"""

import itertools
import math

import pytest
import torch
from torch import Tensor

from benchmarks.conftest import timed
from nsdbench import ops
from nsdbench.ops import reference

SHAPES = {  # num_spectra, num_kernel_sets, t, u
    "cifar10-ipc1": (10, 7, (3, 3, 16, 16), (8, 3, 32, 32)),
    "cifar10-ipc10": (10, 4, (32, 3, 16, 16), (62, 3, 32, 32)),
    "imagenet-subset-ipc1": (10, 4, (3, 3, 64, 64), (15, 3, 128, 128)),
}
QUICK = {"cifar10-ipc1-native-forward+backward", "cifar10-ipc1-einsum-forward+backward"}
AXES = ("abcd", "wxyz")  # indices of a mode before and after its product


def einsum_chain(order: tuple[int, ...]):
    """Return a function that contracts the modes in this order, all pairs at once."""

    def run(spectra: Tensor, kernels: list[Tensor]) -> Tensor:
        x, axes, pair = spectra, list(AXES[0]), "i"
        for mode in order:
            before, old, new = "".join(axes), AXES[0][mode], AXES[1][mode]
            axes[mode] = new
            equation = f"{pair}{before},j{old}{new}->ij{''.join(axes)}"
            x, pair = torch.einsum(equation, x, kernels[mode]), "ij"
        return x.flatten(0, 2)

    return run


def multiply_adds(t, u, order: tuple[int, ...]) -> int:
    """Count the multiply-adds of contracting one pair in this order."""
    sizes, total = list(t), 0
    for mode in order:
        total += math.prod(sizes) * u[mode]
        sizes[mode] = u[mode]
    return total


def cheapest_first(t, u) -> list[tuple[int, ...]]:
    """List the 24 orders by their multiply-adds."""
    return sorted(itertools.permutations(range(4)), key=lambda o: multiply_adds(t, u, o))


def draw(name: str) -> tuple[Tensor, list[Tensor], Tensor]:
    """Make operands that require gradients, and a gradient of the images."""
    num_spectra, num_kernel_sets, t, u = SHAPES[name]
    generator = torch.Generator().manual_seed(0)
    spectra = torch.randn(num_spectra, *t, generator=generator).requires_grad_()
    kernels = [
        (torch.randn(num_kernel_sets, a, b, generator=generator) / math.sqrt(a)).requires_grad_()
        for a, b in zip(t, u, strict=True)
    ]
    images = num_spectra * num_kernel_sets * u[0]
    return spectra, kernels, torch.randn(images, *u[1:], generator=generator)


def step(run, spectra, kernels, grad_images, with_backward):
    """One call as an optimiser makes it: images, and gradients of all operands."""
    images = run(spectra, kernels)
    if not with_backward:
        return (images,)
    return images, *torch.autograd.grad(images, [spectra, *kernels], grad_images)


def fastest_einsum(spectra, kernels, grad_images, with_backward):
    """Time the orders that cost at most twice the cheapest and return the fastest chain."""
    t, u = spectra.shape[1:], [kernel.shape[2] for kernel in kernels]
    orders = cheapest_first(t, u)
    limit = 2 * multiply_adds(t, u, orders[0])
    orders = [order for order in orders if multiply_adds(t, u, order) <= limit]
    chains = {order: einsum_chain(order) for order in orders}
    times = {
        order: timed(lambda c=c: step(c, spectra, kernels, grad_images, with_backward), rounds=3)
        for order, c in chains.items()
    }
    order = min(times, key=times.get)
    return chains[order], order


@pytest.mark.parametrize("with_backward", [False, True], ids=["forward", "forward+backward"])
@pytest.mark.parametrize("which", ["native", "einsum"])
@pytest.mark.parametrize("name", SHAPES)
def test_reconstruct(benchmark, record, name, which, with_backward):
    benchmark.group = f"reconstruct {name} {'forward+backward' if with_backward else 'forward'}"
    spectra, kernels, grad_images = draw(name)
    if which == "native":
        run, order = ops.reconstruct, None
    else:
        run, order = fastest_einsum(spectra, kernels, grad_images, with_backward)
    results = benchmark.pedantic(
        step,
        args=(run, spectra, kernels, grad_images, with_backward),
        rounds=15,
        warmup_rounds=2,
    )

    check_against_twin(name, run, with_backward)
    num_spectra, num_kernel_sets, t, u = SHAPES[name]
    pairs = num_spectra * num_kernel_sets
    passes = 3 if with_backward else 1  # a product's two gradients cost a product each
    record(
        shapes={"num_spectra": num_spectra, "num_kernel_sets": num_kernel_sets, "t": t, "u": u},
        flops=2 * passes * pairs * multiply_adds(t, u, cheapest_first(t, u)[0]),
        bytes_moved=sum(x.nbytes for x in results) + sum(x.nbytes for x in (spectra, *kernels)),
        code_path="native" if which == "native" else f"einsum, modes {order}",
    )


def check_against_twin(name, run, with_backward):
    """Compare with the twin in float64, for the first spectrum tensor."""
    spectra, kernels, _ = draw(name)
    wide = [x.detach().double().requires_grad_() for x in (spectra[:1], *kernels)]
    grad_images = torch.ones_like(run(wide[0], wide[1:]))
    ours = step(run, wide[0], wide[1:], grad_images, with_backward)
    twin = step(reference.reconstruct, wide[0], wide[1:], grad_images, with_backward)
    for x, exact in zip(ours, twin, strict=True):
        assert (x - exact).abs().max() <= 1e-10 * exact.abs().max()
