"""One way of doing a job, in a process of its own: time of a call, peak memory, code path.

An allocator cannot be tuned back, and a peak belongs to a process, so what is compared runs in
processes of its own, which wait while others are measured. Run as a program, this file is one.
"""

import ctypes
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

MIB = 1 << 20


@dataclass(frozen=True)
class Job:
    """What an arm does.

    Attributes:
        task: "outer_step" (trajectory matching: unroll, then gradients of images and step size),
            "training_step" (forward, backward, SGD), "inference", or "judging" (train a network on
            all images as judged networks are).
        code_path: "native" or "generic"; an arm that would run the other one fails.
        allocator: "stock", or "tuned": blocks are never mapped afresh nor given back.
        mode: of unrolled_sgd.
        num_steps: N of the outer step; optimiser steps of judging.
        batch_size, channels, size, width, depth: of the images and the ConvNet.
        threads: PyTorch's number of threads.
    """

    task: str
    code_path: str
    allocator: str = "stock"
    mode: str = "exact"
    num_steps: int = 8
    batch_size: int = 64
    channels: int = 3
    size: int = 32
    width: int = 128
    depth: int = 3
    threads: int = 2

    def label(self) -> str:
        mode = f" {self.mode}" if self.task == "outer_step" else ""
        return f"{self.task}{mode} {self.code_path} {self.allocator}"


class Arm:
    """A process that does a job whenever it is asked to. Use it as a context manager."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.base_bytes = 0

    @property
    def pid(self) -> int:
        return self._process.pid

    def __enter__(self) -> "Arm":
        environment = {
            **os.environ,
            "NSDBENCH_NATIVE": "1" if self.job.code_path == "native" else "0",
            "OMP_NUM_THREADS": str(self.job.threads),
            "OMP_WAIT_POLICY": "PASSIVE",  # a waiting arm must not spin beside a working one
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.arms", json.dumps(asdict(self.job))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        ready = self._answer()
        if ready["code_path"] != self.job.code_path:
            raise RuntimeError(f"{self.job.label()}: runs the {ready['code_path']} code path")
        self.base_bytes = ready["peak_bytes"]
        return self

    def __exit__(self, *exception) -> None:
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def warm_up(self) -> None:
        """Do the job once, an outer step with a single inner step."""
        self._ask("warm up")

    def run(self) -> dict:
        """Do the job once; return its `seconds` and the process's `peak_bytes` above its start."""
        return self._ask("run")

    def _ask(self, request: str) -> dict:
        self._process.stdin.write(request + "\n")
        self._process.stdin.flush()
        answer = self._answer()
        answer["peak_bytes"] -= self.base_bytes
        return answer

    def _answer(self) -> dict:
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.job.label()}: the process ended, {self._process.wait()}")
        return json.loads(line)


def tune_allocator() -> None:
    """Have the C library keep all memory it ever got: no fresh pages after the first call."""
    libc = ctypes.CDLL("libc.so.6")
    mmap_max, trim_threshold = -4, -1  # malloc.h
    if not (libc.mallopt(mmap_max, 0) and libc.mallopt(trim_threshold, 2**31 - 1)):
        raise RuntimeError("the C library refused mallopt")


def peak_bytes() -> int:
    """High-water mark of this process's resident memory."""
    with open("/proc/self/status") as status:
        return 1024 * int(re.search(r"VmHWM:\s+(\d+)", status.read())[1])


def make(job: Job) -> tuple[Callable[[], object], str]:
    """Return a function that does the job once, and the code path it takes."""
    import torch
    from torch.nn import functional as F

    from nsdbench import models
    from nsdbench.evaluation.protocols import Protocol
    from nsdbench.evaluation.training import train
    from nsdbench.evaluation.training_set import TrainingSet
    from nsdbench.student import unroll

    torch.set_num_threads(job.threads)
    generator = torch.Generator().manual_seed(0)
    model = models.build(
        "convnet",
        in_channels=job.channels,
        image_size=job.size,
        num_classes=10,
        width=job.width,
        depth=job.depth,
    )
    models.initialize(model, generator)
    shape = (job.batch_size, job.channels, job.size, job.size)
    images = torch.randn(shape, generator=generator)
    labels = torch.randint(10, (job.batch_size,), generator=generator)

    if job.task == "outer_step":
        theta = models.flatten(model)
        target = theta + 0.01 * torch.randn(theta.shape, generator=generator)
        images.requires_grad_()
        lr = torch.tensor(0.01, requires_grad=True)
        batches = torch.arange(job.batch_size).expand(job.num_steps, -1)

        def outer_step():
            end = unroll.unrolled_sgd(model, theta, images, labels, batches, lr, mode=job.mode)
            loss = (end - target).square().sum() / (theta - target).square().sum()
            return torch.autograd.grad(loss, (images, lr))

        return outer_step, unroll.code_path(model, job.mode)

    sgd = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)

    def training_step():
        sgd.zero_grad(set_to_none=True)
        F.cross_entropy(model(images), labels).backward()
        sgd.step()

    @torch.no_grad()
    def inference():
        return model(images)

    def judging():
        models.initialize(model, torch.Generator().manual_seed(0))
        return train(
            model,
            TrainingSet(len(images), lambda rows: (images[rows], labels[rows])),
            Protocol("judging", epochs=None, steps=job.num_steps),
            0.01,
            "color_crop_cutout_flip_scale_rotate",
            torch.Generator().manual_seed(1),
        )

    tasks = {"training_step": training_step, "inference": inference, "judging": judging}
    return tasks[job.task], models.code_path(model)


def serve(job: Job) -> None:
    """Do the job for every line of standard input."""
    if job.allocator == "tuned":
        tune_allocator()
    run, code_path = make(job)
    warm_up, _ = make(replace(job, num_steps=1))
    print(json.dumps({"code_path": code_path, "peak_bytes": peak_bytes()}), flush=True)
    for line in sys.stdin:
        do = warm_up if line.strip() == "warm up" else run
        start = time.perf_counter()
        do()
        seconds = time.perf_counter() - start
        print(json.dumps({"seconds": seconds, "peak_bytes": peak_bytes()}), flush=True)


if __name__ == "__main__":
    serve(Job(**json.loads(sys.argv[1])))
