"""Sets stored as one level of Haar wavelet bands, of which some are drawn whenever they decode.

The paper (sec. 4.4) samples "some frequency bands at a time during the inverse transform" and says
no more, so there are two readings:

    mask      an image keeps its low band and each of its three detail bands with probability 1/2
    fusion    an image joins its low band with the three detail bands of a random image of its class

The transform is orthonormal and stores as many numbers as the image has, so whatever it gains over
pixels comes from the draw.
"""

from dataclasses import asdict

import torch
from torch import Tensor, nn

from nsdbench.data.training import TrainingData
from nsdbench.sets.budget import Entry, Ledger
from nsdbench.sets.parameterizations.base import Parameterization
from nsdbench.sets.parameterizations.families.wavelet import WaveletShape


def haar(images: Tensor) -> tuple[Tensor, Tensor]:
    """Split images into bands; of every 2x2 block [[p, q], [r, s]]

        low         (p + q + r + s) / 2
        details     (p + q - r - s) / 2,  (p - q + r - s) / 2,  (p - q - r + s) / 2

    which PyWavelets calls cA and cH, cV, cD.

    Args:
        images: [n, C, H, W], H and W even.

    Returns:
        low [n, C, H/2, W/2] and details [n, 3, C, H/2, W/2].
    """
    p, q = images[:, :, 0::2, 0::2], images[:, :, 0::2, 1::2]
    r, s = images[:, :, 1::2, 0::2], images[:, :, 1::2, 1::2]
    details = torch.stack((p + q - r - s, p - q + r - s, p - q - r + s), dim=1)
    return (p + q + r + s) / 2, details / 2


def inverse_haar(low: Tensor, details: Tensor) -> Tensor:
    """Join bands to images [n, C, H, W]; the inverse of `haar`, shapes as there."""
    h, v, d = details.unbind(1)
    n, channels, height, width = low.shape
    blocks = torch.stack((low + h + v + d, low + h - v - d, low - h + v - d, low - h - v + d), -1)
    blocks = (blocks / 2).view(n, channels, height, width, 2, 2)
    return blocks.transpose(3, 4).reshape(n, channels, 2 * height, 2 * width)


class Wavelet(Parameterization):
    """Learned Haar bands; without a generator decoding draws nothing and keeps all bands.

    Args:
        shape: its sizes.

    Attributes:
        low: [num_classes * num_low, C, H/2, W/2] float32 parameter, class by class.
        details: [num_classes * num_details, 3, C, H/2, W/2] float32 parameter, class by class.
    """

    is_stochastic = True

    def __init__(self, shape: WaveletShape):
        super().__init__()
        self.shape = shape
        self.settings = asdict(shape)
        channels, height, width = shape.image_shape
        band = (channels, height // 2, width // 2)
        labels = torch.arange(shape.num_classes).repeat_interleave(shape.num_low)
        self.register_buffer("labels", labels, persistent=False)
        self.low = nn.Parameter(torch.zeros(shape.num_classes * shape.num_low, *band))
        self.details = nn.Parameter(torch.zeros(shape.num_classes * shape.num_details, 3, *band))

    def decode(
        self, index: Tensor | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Decode all images or the rows asked for, drawing bands for each of them anew.

        Without a generator masks keep every band, and fusion takes details in turn.
        """
        if index is None:
            index = torch.arange(self.num_images, device=self.labels.device)
        labels = self.labels[index]
        if self.shape.draw == "mask":
            details = self.details[index]
            if generator is not None:
                kept = torch.rand(len(index), 3, generator=generator) < 0.5
                details = details * kept.to(details)[:, :, None, None, None]
        else:
            count = self.shape.num_details
            if generator is None:
                partner = index % self.shape.num_low % count
            else:
                partner = torch.randint(count, (len(index),), generator=generator).to(index)
            details = self.details[labels * count + partner]
        return inverse_haar(self.low[index], details), labels

    @torch.no_grad()
    def initialize(self, real: TrainingData, generator: torch.Generator) -> None:
        """Start at the bands of random real images: low and details of one image where they fit."""
        shape = self.shape
        lows, details = [], []
        for label in range(shape.num_classes):
            count = max(shape.num_low, shape.num_details)
            images, _ = real.batch(real.class_rows(label, count, generator))
            low, detail = haar(images)
            lows.append(low[: shape.num_low])
            details.append(detail[: shape.num_details])
        self.low.copy_(torch.cat(lows))
        self.details.copy_(torch.cat(details))

    def ledger(self) -> Ledger:
        """List the bands as coefficients."""
        entries = (
            Entry.of("coefficient", "low", self.low),
            Entry.of("coefficient", "details", self.details),
        )
        return Ledger(entries, ("hard labels implied by order", "bands are drawn at each decoding"))

    def parameter_groups(self, settings: dict) -> list[dict]:
        """All bands learn at `lr_syn`."""
        return [{"params": [self.low, self.details], "lr": settings["lr_syn"]}]
