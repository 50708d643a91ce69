"""The priors of this package: a small style-based generator, trained here or not; no torch."""

from dataclasses import dataclass

from nsdbench.models.sizes import network_size
from nsdbench.registry import Count, Rate, Settings
from nsdbench.sets.priors.registry import ImageShape, PriorFamily, PriorSizes

_SMALLEST, _LARGEST = 4, 7  # side of the learned constant; our choice, StyleGAN has 4
_MOST_WIDTHS = 8  # channels of small maps, in units of `width`; our choice


class StyleSettings(Settings):
    """Settings of the generator `style.StyleGenerator`.

    Attributes:
        width: channels at the side of images; doubled with every halving, up to eight times.
        z_dim, w_dim: sizes of both latents.
    """

    width: Count
    z_dim: Count
    w_dim: Count


class SuiteTrainedSettings(StyleSettings):
    """Settings of a generator that is trained, see `training`.

    Attributes:
        epochs, batch_size, lr: of Adam.
        kl_weight: weight of the divergence in the loss.
    """

    epochs: Count
    batch_size: Count
    lr: Rate
    kl_weight: Rate


@dataclass(frozen=True)
class StyleLayout:
    """Sides and channels of a style-based generator, from the image downwards.

    Attributes:
        sides: of the maps that the 3x3 layers give, ascending by doubling.
        channels: of these maps.
    """

    sides: tuple[int, ...]
    channels: tuple[int, ...]

    @property
    def num_layers(self) -> int:
        """3x3 layers, and the last one that makes the image."""
        return len(self.sides) + 1


def layout(settings: StyleSettings, image_shape: ImageShape) -> StyleLayout:
    """Plan the layers for images of a shape.

    Raises:
        ValueError: images are not square, or their side is not 4 to 7 times a power of two.
    """
    _, height, width = image_shape
    sides = [height]
    while sides[0] > _LARGEST and sides[0] % 2 == 0:
        sides.insert(0, sides[0] // 2)
    if height != width or not _SMALLEST <= sides[0] <= _LARGEST:
        raise ValueError(
            f"images are {height}x{width}; the generator doubles {_SMALLEST} to {_LARGEST} px and "
            "makes square images of 4, 5, 6, 7, 8, 10, 12, 14, 16, ... px: resize them"
        )
    last = len(sides) - 1
    widths = tuple(settings.width * min(_MOST_WIDTHS, 2 ** (last - i)) for i in range(last + 1))
    return StyleLayout(tuple(sides), widths)


def _sizes(settings: StyleSettings, image_shape: ImageShape, num_classes: int) -> PriorSizes:
    """Count two operations for every multiplication of a convolution; styles are left out."""
    planned = layout(settings, image_shape)
    flops, activations, before = 0, 0, planned.channels[0]
    for number, (side, channels) in enumerate(zip(planned.sides, planned.channels, strict=True)):
        convolved = planned.sides[max(0, number - 1)]
        flops += 2 * 9 * before * channels * convolved**2
        activations += 2 * before * convolved**2 + 2 * channels * side**2
        before = channels
    flops += 2 * before * image_shape[0] * image_shape[1] ** 2
    activations += (before + image_shape[0]) * image_shape[1] ** 2
    count = planned.num_layers
    return PriorSizes(settings.z_dim, settings.w_dim, count, count, flops, activations)


def encoder_arch(settings: SuiteTrainedSettings, image_shape: ImageShape) -> str:
    """Return the id of the network that encodes images while the generator is trained."""
    depth = max(1, len(layout(settings, image_shape).sides) - 1)
    return f"convnet{depth}-w{2 * settings.width}"


def _making(
    settings: SuiteTrainedSettings, sizes: PriorSizes, image_shape: ImageShape, train_size: int
) -> tuple[float, int]:
    """Count three passes (forward, two gradients) of both networks for every image and epoch."""
    encoder = network_size(encoder_arch(settings, image_shape), image_shape, 2 * settings.z_dim)
    passes = 3 * settings.epochs * train_size
    steps = settings.epochs * -(-train_size // settings.batch_size)
    return passes * (encoder.flops + sizes.flops), steps


SUITE_TRAINED = PriorFamily(
    SuiteTrainedSettings, "nsdbench.sets.priors.training:suite_trained", _sizes, _making
)
RANDOM = PriorFamily(StyleSettings, "nsdbench.sets.priors.training:random", _sizes)
