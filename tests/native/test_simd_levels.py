"""CPU kernels at every instruction set this processor has: same results to rounding."""

import os
import subprocess
import sys

import pytest

RECONSTRUCT = """
import torch
from nsdbench import ops
from nsdbench.ops import reference

generator = torch.Generator().manual_seed(1)
for t, u in [((3, 3, 5, 4), (6, 2, 9, 37)), ((2, 1, 33, 7), (5, 1, 35, 70))]:
    operands = [torch.randn(2, *t, generator=generator, dtype=torch.float64)]
    operands += [
        torch.randn(3, a, b, generator=generator, dtype=torch.float64)
        for a, b in zip(t, u, strict=True)
    ]
    for index in (None, torch.tensor([3, 0, 9, 9])):
        values = []
        for run in (ops.reconstruct, reference.reconstruct):
            leaves = [x.clone().requires_grad_() for x in operands]
            images = run(leaves[0], leaves[1:], index)
            images.square().sum().backward()
            values.append([images.detach(), *(x.grad for x in leaves)])
        for ours, twin in zip(*values, strict=True):
            torch.testing.assert_close(ours, twin, rtol=1e-11, atol=1e-11 * twin.abs().max())
print(ops.backend.simd_level())
"""


DSA = """
import math
import torch
from nsdbench import ops
from nsdbench.ops import reference

generator = torch.Generator().manual_seed(1)
for dtype, tolerance in ((torch.float64, 1e-11), (torch.float32, 3e-5)):
    for shape in ((3, 4, 7, 7), (2, 3, 19, 16), (2, 1, 33, 45)):
        parameters = {
            "color": [[0.3, 1.7, 0.6]],
            "crop": [[2.0, -1]],
            "cutout": [[1.0, 2, 5, 6]],
            "flip": [[1.0]],
            "scale": [[0.84, 1.19]],
            "rotate": [[0.26]],
        }
        images, grad = torch.randn(2, *shape, generator=generator, dtype=torch.float64).to(dtype)
        for operation, row in parameters.items():
            row = torch.tensor(row, dtype=torch.float64)
            values = []
            for run in (ops.dsa, reference.dsa):
                leaf = images.clone().requires_grad_()
                out = run(leaf, operation, row)
                values.append((out.detach(), *torch.autograd.grad(out, leaf, grad)))
            for ours, twin in zip(*values):
                torch.testing.assert_close(ours, twin, rtol=0, atol=tolerance)
print(ops.backend.simd_level())
"""


def run_at(level: str, program: str) -> str:
    environment = os.environ | {"NSDBENCH_SIMD": level}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.slow
@pytest.mark.parametrize("program", [RECONSTRUCT, DSA], ids=["reconstruct", "dsa"])
def test_every_level_agrees_with_the_twin(program):
    ladder = ["baseline", "avx2", "avx512"]
    widest = run_at("", program)
    assert widest in ladder
    for level in ladder:
        expected = ladder[min(ladder.index(level), ladder.index(widest))]
        assert run_at(level, program) == expected
