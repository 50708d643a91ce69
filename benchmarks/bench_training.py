"""A training step (forward, backward, SGD) and inference of ConvNet3, width 128, B = 256.

Stock PyTorch beside the same model on its native operators, with the C library's allocator as it
comes and tuned; each in a process of its own.
"""

import pytest

from benchmarks.arms import MIB, Arm, Job

QUICK = {
    "training_step-3-32-generic-stock",
    "training_step-3-32-native-stock",
    "training_step-3-32-generic-tuned",
    "training_step-3-32-native-tuned",
    "training_step-1-28-generic-stock",
    "training_step-1-28-native-stock",
    "inference-3-32-generic-stock",
    "inference-3-32-native-stock",
}


@pytest.mark.parametrize("allocator", ["stock", "tuned"])
@pytest.mark.parametrize("code_path", ["generic", "native"])
@pytest.mark.parametrize(("channels", "size"), [(3, 32), (1, 28)])
@pytest.mark.parametrize("task", ["training_step", "inference"])
def test_training(benchmark, record, task, channels, size, code_path, allocator):
    benchmark.group = f"{task} {channels}x{size}x{size}, allocator {allocator}"
    job = Job(task, code_path, allocator, batch_size=256, channels=channels, size=size)
    with Arm(job) as arm:
        arm.warm_up()
        run = benchmark.pedantic(arm.run, rounds=5)
    convolutions = 2 * 9 * 128 * (channels * 32 * 32 + 128 * 16 * 16 + 128 * 8 * 8)
    record(
        shapes={"width": 128, "depth": 3, "image": (channels, size, size), "batch": 256},
        flops=(3 if task == "training_step" else 1) * convolutions * job.batch_size,
        bytes_moved=0,
        code_path=code_path,
        peak_mib=round(run["peak_bytes"] / MIB),
    )
