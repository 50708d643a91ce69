"""`dsa` at every instruction set this processor has: same results to rounding."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
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


def run_at(level: str) -> str:
    environment = os.environ | {"NSDBENCH_SIMD": level}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.slow
def test_every_level_agrees_with_the_twin():
    ladder = ["baseline", "avx2", "avx512"]
    widest = run_at("")
    assert widest in ladder
    for level in ladder:
        expected = ladder[min(ladder.index(level), ladder.index(widest))]
        assert run_at(level) == expected
