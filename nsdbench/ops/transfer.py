"""Copies from the host to a device that nobody waits for."""

import torch
from torch import Tensor


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor to a device, without waiting for what that computes.

    A plain copy from the host to a GPU waits for all work before it, so that the next step is
    prepared while the GPU stands still. One from page-locked memory does not, and such memory is
    used again only when the copy is done.
    """
    if device.type != "cuda" or tensor.device.type != "cpu":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
