"""What the numbers of others mean: their images become network inputs, their labels targets.

Sets of other projects say nothing of themselves. Pictures that pass for network inputs, or logits
that pass for probabilities, give an accuracy like any other, and a wrong one. So every number is
checked, and what is recognised as something else is refused until its owner says what it is.

Pictures and network inputs are told apart by the negative share of the images, the sum of what lies
below 0 over the sum of all absolute values. Inputs have mean 0 over the real data, which makes it a
half: sets of one real image a class had 0.16 to 0.79 (2,000 draws from CIFAR10, FashionMNIST,
Digits or synthetic data; standardised or whitened), noise has a half. Pictures have 0, and 0.05
where noise of 0.05 has been added to them; in a set with less, values up to 1.25 are pixels from 0
to 1, and values beyond 8 pixels from 0 to 255. White is at least 1.8 in every standardisation, so a
bright image is not mistaken: of 25,000 sets of a single image of CIFAR10 one was.
"""

from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import Tensor

from nsdbench import models
from nsdbench.data import Dataset
from nsdbench.data.preprocess.base import Preprocessing
from nsdbench.errors import nearest

Pixels = Literal["raw", "unit", "normalised"]
SoftLabels = Literal["logits", "centred", "probabilities"]

# Our choice, by the figures above.
_SHARE_OF_PICTURES = 0.05
_SHARE_OF_INPUTS = 0.25  # from here on they cannot be pictures, whatever is said
_BRIGHTEST_UNIT = 1.25
_DIMMEST_RAW = 8.0
_BRIGHTEST_RAW = 510.0  # pixels of 16 bits are beyond
_LOOKS = {
    "raw": "pixels from 0 to 255",
    "unit": "pixels from 0 to 1",
    "normalised": "network inputs",
}
_OPTIONS = {
    "preprocessing": "preprocessing_kind",
    "pixels": "pixels",
    "labels_are": "labels_are",
    "factor": "factor",
    "lr": "lr",
}


@dataclass(frozen=True)
class Meaning:
    """What its owner says of a set of another project; None where nothing is said.

    Attributes:
        preprocessing: how test images become network inputs, as those of the set have; None is the
            data set's default.
        pixels: "raw" images lie in 0 to 255 and "unit" ones in 0 to 1, and both are preprocessed;
            "normalised" ones are network inputs whatever they look like.
        labels_are: of labels [n, K]. "logits" go through a softmax; of "centred" ones (one-hot less
            its mean, learned or not: KIP, FRePo) the class of the highest is taken.
        factor: of IDC's sets, each of whose images holds factor x factor smaller ones.
        lr: step size that was learned with the set, if its files do not hold it.

    Raises:
        ValueError: pixels or labels_are has no such value, factor is not a whole number of at least
            1, or lr not a positive one.
    """

    preprocessing: str | None = None
    pixels: str | None = None
    labels_are: str | None = None
    factor: int | None = None
    lr: float | None = None

    def __post_init__(self) -> None:
        for name, known in (("pixels", get_args(Pixels)), ("labels_are", get_args(SoftLabels))):
            value = getattr(self, name)
            if value is not None and value not in known:
                raise ValueError(
                    f"{_option(name)} is {value!r}; expected {', '.join(known)}"
                    f"{nearest(value, known)}"
                )
        if self.factor is not None and self.factor < 1:
            raise ValueError(f"{_option('factor')} is {self.factor}; expected at least 1")
        if self.lr is not None and not 0 < self.lr < float("inf"):
            raise ValueError(f"{_option('lr')} is {self.lr}; expected a positive number")

    def over(self, other: "Meaning") -> "Meaning":
        """Return what is said here, and what the other says where nothing is."""
        given = {name: getattr(self, name) for name in _OPTIONS}
        return replace(other, **{name: value for name, value in given.items() if value is not None})

    def must_be_empty(self, why: str) -> None:
        """Raise ValueError if anything is said of what needs no explanation, and say `why`."""
        for name in _OPTIONS:
            if getattr(self, name) is not None:
                raise ValueError(f"{_option(name)} has no effect: {why}; leave it out")


UNSAID = Meaning()


def network_inputs(
    images: Tensor, origin: str, data: Dataset, transform: Preprocessing, pixels: str | None
) -> Tensor:
    """Check images and bring them into network-input space.

    Args:
        images: [n, C, H, W] of any float or integer dtype.
        origin: what holds them, as messages begin.
        data: has the image shape.
        transform: what pixels go through.
        pixels: as of `Meaning`.

    Returns:
        [n, C, H, W] float32.

    Raises:
        ValueError: no image, another shape or dtype, values that are not finite or whose squares
            are not, or images that are not what is said of them, or look like pixels while nothing
            is said.
    """
    _check_shape(images, origin, data)
    if images.dtype == torch.bool:
        raise ValueError(f"{origin}: images are torch.bool; expected floats or integer pixels")
    x = images.to(torch.float32)
    is_finite = torch.isfinite(x).flatten(1).all(1)
    if not is_finite.all():
        raise ValueError(
            f"{origin}: image {int(is_finite.long().argmin())} holds values that are not finite in "
            "float32; expected finite numbers"
        )
    reach, limit = x.abs().flatten(1).amax(1), _largest_squared(x[0].numel())
    if (reach > limit).any():
        first = int(reach.argmax())
        raise ValueError(
            f"{origin}: image {first} reaches {reach[first]:.4g}; expected pixels, or network "
            f"inputs of a few units, at most {limit:.1g}, beyond which their squares overflow "
            "float32: rescale the images"
        )
    seen = _recognised(x, origin, images.is_floating_point(), pixels)
    if seen != (pixels or "normalised"):
        wrong = f", not {pixels}" if pixels else ""
        advice = (
            "leave the option out" if seen == "normalised" else f"give {_option('pixels', seen)}"
        )
        raise ValueError(
            f"{origin}: images of {images.dtype} from {x.min():.4g} to {x.max():.4g} look like "
            f"{_LOOKS[seen]}{wrong}: {advice}"
        )
    if seen == "normalised":
        return x
    return transform.apply(x / 255 if seen == "raw" else x)


def targets(
    labels: Tensor, num_images: int, num_classes: int, origin: str, labels_are: str | None
) -> Tensor:
    """Check labels and bring them into the form that cross-entropy takes.

    Args:
        labels: [n] or [n, 1] classes, or [n, K], of any dtype.
        num_images, num_classes: n and K.
        origin: what holds them, as messages begin.
        labels_are: as of `Meaning`.

    Returns:
        [n] int64 classes 0 to K-1, or [n, K] float32 probabilities.

    Raises:
        ValueError: another shape, values that are not finite, a class that there is not, or soft
            labels that are not what is said of them, or no probabilities while nothing is said.
    """
    shapes = ([num_images], [num_images, 1], [num_images, num_classes])
    if labels.dim() and len(labels) != num_images:
        raise ValueError(f"{origin}: {num_images} images but {len(labels)} labels")
    if list(labels.shape) not in shapes:
        raise ValueError(
            f"{origin}: labels are {list(labels.shape)}; expected classes [{num_images}] or "
            f"[{num_images}, 1], or soft labels [{num_images}, {num_classes}]"
        )
    rows = labels.to(torch.float64).reshape(num_images, -1)
    is_finite = torch.isfinite(rows).all(1)
    if not is_finite.all():
        first = int(is_finite.long().argmin())
        raise ValueError(
            f"{origin}: the label of image {first} is {_written(rows[first])}; expected finite "
            "numbers"
        )
    if rows.shape[1] > 1:
        # Sums are rounded where labels are; 1e-3 allows for those written with four digits.
        is_float = labels.is_floating_point()
        tolerance = max(1e-3, 2 * torch.finfo(labels.dtype).eps if is_float else 0.0)
        return _soft_targets(rows, tolerance, origin, labels_are)
    if labels_are is not None:
        raise ValueError(
            f"{origin}: {_option('labels_are', labels_are)} has no effect on labels that are "
            "classes; leave it out"
        )
    return _classes(rows.flatten(), num_classes, origin)


def centred_targets(
    labels: Tensor, num_images: int, num_classes: int, origin: str, labels_are: str | None
) -> Tensor:
    """Check labels and bring them into the form that a regression takes, float32 [n, K].

    Centred ones stay what they are; of all others that which `targets` makes of them is taken, less
    1/K. Arguments and errors are as there.
    """
    found = targets(labels, num_images, num_classes, origin, labels_are)
    if labels_are == "centred":
        return labels.to(torch.float32)
    return models.centred(found, num_classes)


def _check_shape(images: Tensor, origin: str, data: Dataset) -> None:
    """Refuse what is not [n, C, H, W] of the data set's images, n at least 1."""
    shape, (channels, height, width) = list(images.shape), data.image_shape
    if images.dim() == 4 and shape[1:] == [channels, height, width] and shape[0]:
        return
    hint = ""
    if shape[1:] == [height, width, channels]:
        hint = "; permute(0, 3, 1, 2) brings channels to the front"
    elif shape[1:] == [height, width]:
        hint = "; unsqueeze(1) adds the channel"
    raise ValueError(
        f"{origin}: images are {shape}; {data.name} has [n, {channels}, {height}, {width}], n at "
        f"least 1{hint}"
    )


def _largest_squared(count: int) -> float:
    """Return the largest number whose square float32 holds `count` times: norms sum squares."""
    return (torch.finfo(torch.float32).max / count) ** 0.5


def _recognised(x: Tensor, origin: str, is_float: bool, said: str | None) -> Pixels:
    """Return what images look like; see the head of this file. What is said decides in doubt."""
    darkest, brightest = x.min().item(), x.max().item()
    if said == "normalised" and is_float:
        return "normalised"
    total = x.abs().sum(dtype=torch.float64).item()
    below = (total - x.sum(dtype=torch.float64).item()) / 2
    is_inputs = below > _SHARE_OF_INPUTS * total
    if (not is_float and darkest < 0) or (not is_inputs and brightest > _BRIGHTEST_RAW):
        raise ValueError(
            f"{origin}: images of {x.dtype if is_float else 'integers'} from {darkest:.4g} to "
            f"{brightest:.4g}; raw pixels lie in 0 to 255: rescale them"
        )
    scale: Pixels = "raw" if brightest > (_DIMMEST_RAW if is_float else 1) else "unit"
    if not is_float or (said is not None and not is_inputs):
        return scale
    is_between = _BRIGHTEST_UNIT < brightest <= _DIMMEST_RAW
    return "normalised" if below > _SHARE_OF_PICTURES * total or is_between else scale


def _classes(values: Tensor, num_classes: int, origin: str) -> Tensor:
    """Check hard labels [n] float64 and return them as int64."""
    is_class = (values == values.floor()) & (values >= 0) & (values < num_classes)
    if not is_class.all():
        first = int(is_class.long().argmin())
        raise ValueError(
            f"{origin}: the label of image {first} is {values[first]:g}; expected a class, a whole "
            f"number from 0 to {num_classes - 1}"
        )
    return values.long()


def _soft_targets(rows: Tensor, tolerance: float, origin: str, labels_are: str | None) -> Tensor:
    """Check soft labels [n, K] float64; return probabilities, or the classes of centred ones."""
    sums = rows.sum(1)
    is_probable = (rows >= 0).all(1) & ((sums - 1).abs() <= tolerance)
    is_centred = (rows + 1 / rows.shape[1] >= -tolerance).all(1) & (sums.abs() <= tolerance)
    seen: SoftLabels | None = None
    if is_probable.all():
        seen = "probabilities"
    elif is_centred.all():
        seen = "centred"
    said = labels_are or "probabilities"
    if seen not in (said, None):
        raise ValueError(
            f"{origin}: labels look like {seen}, not {said}: give {_option('labels_are', seen)}"
        )
    if said == "probabilities" and seen is None:
        first = int(is_probable.long().argmin())
        raise ValueError(
            f"{origin}: the label of image {first} is {_written(rows[first])} with sum "
            f"{sums[first]:.4g}; expected probabilities, none below 0 and with sum 1: give "
            f"{_option('labels_are', 'logits')}, or centred, if they are that"
        )
    if said == "logits":
        return rows.softmax(1).float()
    if said == "probabilities":
        return rows.float()
    highest = rows.topk(2)
    is_tied = highest.values[:, 0] == highest.values[:, 1]
    if is_tied.any():
        first = int(is_tied.long().argmax())
        raise ValueError(
            f"{origin}: the label of image {first} is {_written(rows[first])}; centred labels need "
            "one highest value"
        )
    return highest.indices[:, 0]


def _option(name: str, value: str | None = None) -> str:
    """Write an option as both the command line and Python know it."""
    flag, keyword = f"--{name.replace('_', '-')}", _OPTIONS[name]
    return f"{flag} ({keyword}=)" if value is None else f"{flag} {value} ({keyword}={value!r})"


def _written(row: Tensor) -> str:
    """Write a label; of a long one the first numbers."""
    numbers = ", ".join(f"{value:.4g}" for value in row[:5].tolist())
    return f"[{numbers}{', ...' if len(row) > 5 else ''}]" if len(row) > 1 else numbers
