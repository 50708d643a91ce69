"""How the native convolutions round in float32: `python -m benchmarks.errors`.

Relative errors against float64 of one convolution, 128 -> 128 channels, and its gradients, by
Winograd's transforms at the points that csrc/cpu/winograd.h uses and at the usual ones, and by the
library; then of dJ/dimages of the unrolled student, native and by the library's convolutions. A
ReLU that flips in a draw moves that gradient a thousand times as far as rounding does, so the draws
are listed one by one. Writes results/benchmarks/errors.json. Nothing here depends on a clock.
"""

import os
from collections.abc import Callable

import numpy as np
import torch
from torch.nn import functional as F

from benchmarks.headline import machine, save
from nsdbench import models
from nsdbench.student import unroll

CHANNELS, IMAGES = 128, 16
SMALL = (0, 1, -1)
USUAL = (0, 1, -1, 2, -2)
OURS = (0, 5 / 8, -5 / 8, 3 / 2, -3 / 2)
DRAWS = {4: range(10), 30: range(5)}  # by number of steps: seeds


def matrices(points: tuple[float, ...]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return B^T, G and A^T of F(m x m, 3x3) at m + 1 points and infinity, in float64."""
    points = np.array(points, dtype=float)
    others = [np.delete(points, n) for n in range(len(points))]
    rows = [np.append(np.poly(rest)[::-1], 0) for rest in others] + [np.poly(points)[::-1]]
    scale = [np.prod(point - rest) for point, rest in zip(points, others, strict=True)]
    weight = np.vstack([np.vander(points, 3, increasing=True) / np.c_[scale], [0, 0, 1]])
    powers = np.vander(points, len(points) - 1, increasing=True).T
    output = np.hstack([powers, np.eye(len(powers))[:, -1:]])
    return tuple(map(torch.from_numpy, (np.vstack(rows), weight, output)))


def winograd(points: tuple[float, ...]) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """Return a 3x3 convolution with padding 1 of maps that whole tiles cover."""
    exact = matrices(points)

    def convolve(x: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
        into, weight, out = (matrix.to(x.dtype) for matrix in exact)
        n, m = len(into), len(out)
        patches = F.pad(x, (1, 1, 1, 1)).unfold(2, n, m).unfold(3, n, m)
        images, channels, rows, columns = patches.shape[:4]
        v = (into @ patches @ into.T).permute(4, 5, 0, 2, 3, 1).reshape(n * n, -1, channels)
        u = (weight @ g @ weight.T).permute(2, 3, 1, 0).reshape(n * n, channels, -1)
        z = (v @ u).reshape(n, n, images, rows, columns, -1).permute(2, 5, 3, 4, 0, 1)
        return (out @ z @ out.T).permute(0, 1, 2, 4, 3, 5).flatten(4).flatten(2, 3)

    return convolve


def library(x: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
    return F.conv2d(x, g, padding=1)


WAYS = {
    "PyTorch": library,
    "F(2x2)": winograd(SMALL),
    "F(4x4), points 1 and 2": winograd(USUAL),
    "F(4x4), points 5/8 and 3/2": winograd(OURS),
}


def relative(found: torch.Tensor, exact: torch.Tensor) -> float:
    return float((found - exact).norm() / exact.norm())


def convolution_errors(size: int) -> dict[str, dict[str, float]]:
    """Errors of the output and of both gradients of a convolution of maps of this size."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(IMAGES, CHANNELS, size, size, generator=generator).relu()
    g = torch.randn(CHANNELS, CHANNELS, 3, 3, generator=generator) / (3 * CHANNELS**0.5)
    dz = torch.randn(x.shape, generator=generator)

    def run(way, dtype):
        leaves = [t.to(dtype).requires_grad_() for t in (x, g)]
        z = way(*leaves)
        return z.detach(), *torch.autograd.grad(z, leaves, dz.to(dtype))

    exact = run(library, torch.float64)
    names = ("output", "data gradient", "weight gradient")
    return {
        name: dict(zip(names, map(relative, run(way, torch.float32), exact), strict=True))
        for name, way in WAYS.items()
    }


def gradient_errors(seed: int, num_steps: int) -> dict[str, float]:
    """Errors of dJ/dimages, B = 8, w128, 3x32x32; float64 is the native path's."""
    generator = torch.Generator().manual_seed(seed)
    model = models.build("convnet", in_channels=3, image_size=32, num_classes=10)
    models.initialize(model, generator)
    theta = models.flatten(model)
    images = torch.randn(8, 3, 32, 32, generator=generator)
    labels = torch.randint(10, (8,), generator=generator)
    target = theta + 0.01 * torch.randn(theta.shape, generator=generator)
    batches = torch.arange(8).expand(num_steps, -1)

    def gradient(dtype, is_native):
        os.environ["NSDBENCH_NATIVE"] = str(int(is_native))
        leaf = images.to(dtype).requires_grad_()
        end = unroll.unrolled_sgd(model, theta.to(dtype), leaf, labels, batches, 0.01)
        return torch.autograd.grad((end - target.to(dtype)).square().sum(), leaf)[0]

    exact = gradient(torch.float64, True)
    ways = {"native": True, "PyTorch": False}
    return {name: relative(gradient(torch.float32, on), exact) for name, on in ways.items()}


def main() -> None:
    """Measure, print, write."""
    result = {
        "machine": machine(),
        "convolution": {f"{n}x{n}": convolution_errors(n) for n in (16, 8)},
        "gradient": {
            f"N = {n}": [gradient_errors(seed, n) for seed in seeds] for n, seeds in DRAWS.items()
        },
    }
    save("errors", result)
    for size, ways in result["convolution"].items():
        for name, errors in ways.items():
            print(f"{size:6} {name:28}", *(f"{what} {e:.1e}" for what, e in errors.items()))
    for steps, draws in result["gradient"].items():
        for draw in draws:
            print(f"{steps:7}", *(f"{name} {error:.1e}" for name, error in draw.items()))


if __name__ == "__main__":
    main()
