"""`trajectory_distance` beside the PyTorch expression, forward and with its gradient in theta.

The shape is the parameters of ConvNet3 with width 128 on 3x32x32 images and 10 classes.
"""

import pytest
import torch

from nsdbench import ops
from nsdbench.ops import reference

NUM_PARAMETERS = 320_010
WAYS = {"native": ops.trajectory_distance, "composed": reference.trajectory_distance}


def draw():
    """theta, which requires a gradient, theta_start and theta_target."""
    stream = torch.Generator().manual_seed(0)
    start = torch.randn(NUM_PARAMETERS, generator=stream)
    theta, target = (
        start + 0.1 * torch.randn(NUM_PARAMETERS, generator=stream) for _ in range(2)
    )
    return theta.requires_grad_(), start, target


def call(run, operands, with_backward):
    value = run(*operands)
    return (value, *torch.autograd.grad(value, operands[0])) if with_backward else (value,)


@pytest.mark.parametrize("with_backward", [False, True], ids=["forward", "forward+backward"])
@pytest.mark.parametrize("way", WAYS)
def test_trajectory_distance(benchmark, record, way, with_backward):
    suffix = "forward+backward" if with_backward else "forward"
    benchmark.group = f"trajectory_distance {suffix}"
    operands = draw()
    results = benchmark.pedantic(
        call, args=(WAYS[way], operands, with_backward), rounds=101, warmup_rounds=5
    )
    wide = [operand.detach().double() for operand in operands]
    wide[0].requires_grad_()
    exact = call(reference.trajectory_distance, wide, with_backward)
    for ours, expected in zip(results, exact, strict=True):
        assert (ours - expected).norm() < 1e-5 * expected.norm()
    record(
        shapes=[NUM_PARAMETERS],
        flops=(8 if with_backward else 6) * NUM_PARAMETERS,
        bytes_moved=(6 if with_backward else 3) * operands[0].nbytes,
        code_path=way,
        relative_error=abs(results[0].item() / exact[0].item() - 1),
    )
