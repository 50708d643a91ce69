"""Sets stored as one level of Haar wavelet bands, of which some are drawn whenever they decode.

The paper samples some bands at a time for the inverse transform (sec. 4.4); its supplement says
that random high- and low-frequency information is fused each time. Two draws:

    fusion    an image joins four bands, each drawn from those of its kind and class
    mask      an image keeps its low band and each of its three detail bands with probability 1/2

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

        Without a generator masks keep every band, and fusion takes bands in turn. With one, fusion
        asks for the class of a row alone.
        """
        if index is None:
            index = torch.arange(self.num_images, device=self.labels.device)
        labels = self.labels[index]
        low = self.low[index]
        if self.shape.draw == "mask":
            details = self.details[index]
            if generator is not None:
                kept = torch.rand(len(index), 3, generator=generator) < 0.5
                details = details * kept.to(details)[:, :, None, None, None]
        else:
            num_low, num_details = self.shape.num_low, self.shape.num_details
            if generator is None:
                partners = (index % num_low % num_details)[:, None].expand(-1, 3)
            else:
                rows = torch.randint(num_low, (len(index),), generator=generator).to(index)
                low = self.low[labels * num_low + rows]
                size = (len(index), 3)
                partners = torch.randint(num_details, size, generator=generator).to(index)
            kinds = torch.arange(3, device=index.device)
            details = self.details[labels[:, None] * num_details + partners, kinds]
        return inverse_haar(low, details), labels

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
