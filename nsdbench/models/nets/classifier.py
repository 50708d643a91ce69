"""The base of every network: features, flattened, then one linear classifier."""

import torch
from torch import nn

from nsdbench.models.ids import NORMS


class ImageClassifier(nn.Module):
    """Compute logits = classifier(flatten(features(x))).

    Attributes:
        features: [B, C, H, W] images to [B, c, h, w] feature maps.
        classifier: linear layer on the c*h*w flat features; its parameters come last.
        image_shape: (C, H, W) the network was sized for.
        initialization: one of `initialization.DISTRIBUTIONS`.
        memory_format: in which a network that is trained by plain PyTorch is fastest on the CPU.
    """

    initialization = "kaiming_uniform"
    memory_format = torch.contiguous_format

    def __init__(
        self,
        features: nn.Module,
        num_features: int,
        num_classes: int,
        image_shape: tuple[int, int, int],
    ) -> None:
        super().__init__()
        self.features = features
        self.classifier = nn.Linear(num_features, num_classes)
        self.image_shape = image_shape

    def check_images(self, x: torch.Tensor) -> None:
        """Raise ValueError unless x is a batch of images of the size the network was built for."""
        if tuple(x.shape[1:]) != self.image_shape or x.dim() != 4:
            raise ValueError(
                f"images have shape {list(x.shape)}; this network was built for "
                f"[B, {', '.join(map(str, self.image_shape))}]: build one for your image size"
            )

    def embed(self, x: torch.Tensor) -> torch.Tensor:
        """Map images [B, C, H, W] to the flat features [B, F] the classifier sees."""
        self.check_images(x)
        return self.features(x).flatten(1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map images [B, C, H, W] to logits [B, num_classes]."""
        return self.classifier(self.embed(x))


def norm_layer(norm: str, channels: int, momentum: float = 0.1) -> nn.Module:
    """Make the normalisation of a map.

    "instance_norm" is group norm with one group per channel, affine, eps 1e-5, as the dataset
    distillation literature means it: no running statistics, so training equals evaluation.
    "batch_norm" has them: running = (1 - momentum) * running + momentum * batch.
    """
    if norm == "instance_norm":
        return nn.GroupNorm(channels, channels, eps=1e-5, affine=True)
    if norm == "batch_norm":
        return nn.BatchNorm2d(channels, momentum=momentum)
    if norm == "none":
        return nn.Identity()
    raise ValueError(f"unknown norm {norm!r}; choose one of {', '.join(NORMS)}")
