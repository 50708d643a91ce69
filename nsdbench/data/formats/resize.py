"""Bilinear resizing to whole grey levels, as the reference code resizes tensors."""

import torch
import torch.nn.functional as F
from torch import Tensor


def resize_to_uint8(images: Tensor, height: int, width: int) -> Tensor:
    """Resize images bilinearly without antialiasing and round once to 0..255.

    Sample centres are at half pixels (align_corners=False). Not keeping the aspect and not
    antialiasing is what torchvision 0.12 did to the tensors of MTT's reference code. Computed in
    double so that rounding does not depend on the vector width of the machine.

    Args:
        images: uint8 [N, C, h, w].
        height, width: of the result, in pixels.

    Returns:
        uint8 [N, C, height, width].
    """
    if images.shape[2:] == (height, width):
        return images
    resized = F.interpolate(
        images.double(), size=(height, width), mode="bilinear", align_corners=False
    )
    return resized.round().clamp(0, 255).to(torch.uint8)
