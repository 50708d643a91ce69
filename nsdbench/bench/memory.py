"""Say what would fit where a cell ran out of memory.

Nothing is tried again with smaller batches: the sum of the gradients of parts differs from that of
the batch in its last bits, and training carries that on, so the result would be another one.
"""

import os
from contextlib import suppress
from math import inf
from pathlib import Path

import torch

from nsdbench.bench.cost import judging_bytes
from nsdbench.bench.plan import Task
from nsdbench.bench.sharing import whole_estimate
from nsdbench.data import spec
from nsdbench.models.sizes import network_size

_CGROUP = Path("/sys/fs/cgroup/memory.max")


def there_is(device: str) -> float:
    """Return the bytes that a process can have on a device: of the card, or of this machine."""
    if device.startswith("cuda"):
        return float(torch.cuda.get_device_properties(device).total_memory)
    limits = [inf]
    with suppress(ValueError, OSError, AttributeError):
        limits.append(float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")))
    with suppress(ValueError, OSError):
        limits.append(float(_CGROUP.read_text()))
    return min(limits)


def what_fits(task: Task, available: float) -> str:
    """Say what a cell needs by prediction, and what would fit; empty where nobody can predict.

    Args:
        task: the cell.
        available: bytes, see `there_is`.
    """
    cost = whole_estimate(task)
    if cost is None:
        return ""
    text = f"{_gigabytes(cost.peak_bytes)} are predicted, {_gigabytes(available)} are there"
    if cost.peak_bytes <= available:
        return f"{text}; they may be taken by other programs"
    fixed = cost.peak_bytes - max(cost.judging_bytes, cost.distilling_bytes)
    room = max(0.0, available - fixed)
    if cost.judging_bytes > room:
        about = spec(task.cell.dataset)
        size = network_size(
            task.protocol.network(task.cell.arch), about.image_shape, about.num_classes
        )
        batch = min(task.protocol.batch_size, cost.num_images)
        fitting = sum(judging_bytes(size, b) <= room for b in range(1, batch + 1))
        smaller = f"at batches of {fitting} instead of {batch}, under another protocol"
        text += f"; networks would fit {smaller if fitting else 'at no batch'}"
    if cost.distilling_bytes > room:
        share = room / cost.distilling_bytes
        text += f"; {share:.0%} of what a step of distillation keeps would fit: smaller batches do"
    return text


def _gigabytes(num_bytes: float) -> str:
    return f"{num_bytes / 1e9:.2f} GB"
