"""The outer step of trajectory matching: exact gradient of the unrolled student, time and memory.

Arms, each in processes of its own with the C library's allocator as it comes and tuned:
full autograd (how MTT computes it), one checkpoint a step with double backward ("checkpointed"),
the native step, and the first-order approximation of TESLA. ConvNet3, width 128, 3x32x32, B = 64.
"""

import pytest
import torch

from benchmarks.arms import MIB, Arm, Job
from nsdbench import models
from nsdbench.student import unroll

WAYS = {
    "autograd": ("generic", "full"),
    "checkpointed": ("generic", "exact"),
    "native": ("native", "exact"),
    "native-first-order": ("native", "first_order"),
}
# Convolutions of one image, times two for multiply-adds, of the ConvNet3 above.
CONV_FLOPS = 2 * 9 * 128 * (3 * 32 * 32 + 128 * 16 * 16 + 128 * 8 * 8)
UNITS = {"full": 11, "exact": 11, "first_order": 9}  # convolutions a step
CASES = [
    *((8, way, allocator) for way in WAYS for allocator in ("stock", "tuned")),
    *((24, way, "stock") for way in WAYS),  # for its memory
]
QUICK = {
    "8-autograd-stock",
    "8-native-stock",
    "8-autograd-tuned",
    "8-checkpointed-tuned",
    "8-native-tuned",
    "24-autograd-stock",
    "24-native-stock",
}


@pytest.mark.parametrize(("num_steps", "way", "allocator"), CASES)
def test_outer_step(benchmark, record, num_steps, way, allocator):
    benchmark.group = f"outer step, N = {num_steps}, allocator {allocator}"
    code_path, mode = WAYS[way]
    job = Job("outer_step", code_path, allocator, mode=mode, num_steps=num_steps)
    rounds = 1 if num_steps == 24 else 2 if code_path == "generic" else 5
    with Arm(job) as arm:
        arm.warm_up()
        run = benchmark.pedantic(arm.run, rounds=rounds)
    record(
        shapes={"width": 128, "depth": 3, "image": (3, 32, 32), "batch": 64, "steps": num_steps},
        flops=UNITS[mode] * CONV_FLOPS * job.batch_size * num_steps,
        bytes_moved=0,
        code_path=code_path,
        peak_mib=round(run["peak_bytes"] / MIB),
        gradient_error=gradient_error(code_path, mode),
    )


def gradient_error(code_path, mode) -> float:
    """Relative error in float32 of dJ/dimages against autograd in float64, N = 4, B = 8."""
    generator = torch.Generator().manual_seed(0)
    model = models.build("convnet", in_channels=3, image_size=32, num_classes=10)
    models.initialize(model, generator)
    theta = models.flatten(model)
    images = torch.randn(8, 3, 32, 32, generator=generator)
    labels = torch.randint(10, (8,), generator=generator)
    target = theta + 0.01 * torch.randn(theta.shape, generator=generator)

    def gradient(dtype, mode):
        leaf = images.to(dtype).requires_grad_()
        batches = torch.arange(8).expand(4, -1)
        end = unroll.unrolled_sgd(model, theta.to(dtype), leaf, labels, batches, 0.01, mode=mode)
        return torch.autograd.grad((end - target.to(dtype)).square().sum(), leaf)[0]

    with pytest.MonkeyPatch.context() as context:
        context.setenv("NSDBENCH_NATIVE", "1" if code_path == "native" else "0")
        assert unroll.code_path(model, mode) == code_path
        exact = gradient(torch.float64, "full")
        error = float((gradient(torch.float32, mode) - exact).norm() / exact.norm())
    assert mode == "first_order" or error < 1e-3
    return error
