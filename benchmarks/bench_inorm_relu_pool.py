"""`inorm_relu_pool` beside PyTorch's group norm, ReLU and mean pool, forward and backward.

Shapes are the blocks of the tables' ConvNets: 32x32 images, a batch of 64 (trajectory matching),
and 128x128 images, a batch of 10 (an ImageNet subset at 1 image per class).
"""

import pytest
import torch
from torch.nn import functional as F

from nsdbench import ops

SHAPES = {
    "32px-block1": (64, 128, 32, 32),
    "32px-block2": (64, 128, 16, 16),
    "32px-block3": (64, 128, 8, 8),
    "128px-block1": (10, 128, 128, 128),
}
QUICK = {"32px-block1-native-forward+backward", "32px-block1-composed-forward+backward"}


def composed(x, weight, bias):
    return F.avg_pool2d(F.relu(F.group_norm(x, x.shape[1], weight, bias, 1e-5)), 2)


WAYS = {"native": ops.inorm_relu_pool, "composed": composed}


def draw(shape):
    """x, weight, bias and a gradient of the result."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=generator).requires_grad_()
    weight, bias = (torch.randn(shape[1], generator=generator).requires_grad_() for _ in range(2))
    grad = torch.randn(*shape[:2], shape[2] // 2, shape[3] // 2, generator=generator)
    return (x, weight, bias), grad


def call(run, tensors, grad, with_backward):
    out = run(*tensors)
    return (out, *torch.autograd.grad(out, tensors, grad)) if with_backward else (out,)


@pytest.mark.parametrize("with_backward", [False, True], ids=["forward", "forward+backward"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", SHAPES)
def test_inorm_relu_pool(benchmark, record, name, way, with_backward):
    suffix = "forward+backward" if with_backward else "forward"
    benchmark.group = f"inorm_relu_pool {name} {suffix}"
    tensors, grad = draw(SHAPES[name])
    results = benchmark.pedantic(
        call, args=(WAYS[way], tensors, grad, with_backward), rounds=9, warmup_rounds=2
    )
    other = call(composed, tensors, grad, with_backward)
    for ours, expected in zip(results, other, strict=True):
        assert (ours - expected).norm() < 1e-4 * expected.norm()
    passes = 5 if with_backward else 2  # operations per element that no implementation avoids
    record(
        shapes=SHAPES[name],
        flops=passes * tensors[0].numel(),
        bytes_moved=sum(t.nbytes for t in results) + tensors[0].nbytes,
        code_path=way,
    )
