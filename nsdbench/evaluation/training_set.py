"""The images that networks are trained on, by row, made of what is judged: the source.

A source is an artefact, the real training data, or a set of another project.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from nsdbench import models
from nsdbench.data import Dataset, Preprocessing, preprocessing
from nsdbench.data.training import TrainingData
from nsdbench.evaluation.protocols import Protocol
from nsdbench.ops.transfer import to_device
from nsdbench.sets.artefact import Artefact
from nsdbench.sets.foreign import ForeignSet
from nsdbench.sets.meaning import Meaning, centred_targets, network_inputs, targets
from nsdbench.sets.parameterizations import Parameterization

Source = Artefact | ForeignSet | TrainingData


@dataclass(frozen=True)
class TrainingSet:
    """Images by row number.

    Attributes:
        num_images: rows.
        fetch: called as fetch(index); gives network inputs and labels of these rows.
        redraw: called with the source of randomness before every epoch, where decoding is
            stochastic.
    """

    num_images: int
    fetch: Callable[[Tensor], tuple[Tensor, Tensor]]
    redraw: Callable[[torch.Generator], None] | None = None


def kept_on(training_set: TrainingSet, device: torch.device) -> TrainingSet:
    """Keep a whole set on a device, so that no batch has to be copied there."""
    everything = training_set.fetch(torch.arange(training_set.num_images))
    images, labels = (tensor.to(device) for tensor in everything)

    def fetch(rows: Tensor) -> tuple[Tensor, Tensor]:
        there = to_device(rows, device)
        return images[there], labels[there]

    return TrainingSet(training_set.num_images, fetch)


def meaning_of(source: ForeignSet, said: Meaning) -> Meaning:
    """Return what is known of a set: what is said, and what its format says elsewhere.

    Raises:
        ValueError: a rate is said, and the set holds another.
    """
    if said.lr is not None and source.lr not in (None, said.lr):
        raise ValueError(
            f"{source.origin} holds the learned rate {source.lr:g}, and --lr (lr=) says "
            f"{said.lr:g}: which of the two? Leave one out"
        )
    return replace(said.over(source.meaning), lr=said.lr or source.lr)


def learning_rate(protocol: Protocol, source: Source, meaning: Meaning) -> float:
    """Return the protocol's rate, or the step size that was learned if it wants that.

    Raises:
        ValueError: it wants that, and the set carries none.
    """
    if protocol.lr is not None:
        return protocol.lr
    learned = source.metadata.get("learned", {}) if isinstance(source, Artefact) else {}
    rate: float | None = learned.get("lr", meaning.lr)
    if rate is None:
        other = "" if isinstance(source, Artefact) else ", or give --lr (lr=)"
        raise ValueError(
            f"protocol {protocol.name} trains at the step size a distillation learned, and this "
            f"set carries none; use protocol common{other}"
        )
    return rate


def preprocessing_of(source: Source, data: Dataset, meaning: Meaning) -> Preprocessing:
    """Return how test images become inputs of networks trained on this source.

    Raises:
        ValueError: something is said of a source that says itself what it holds, or an artefact
            was distilled from other training data.
    """
    if isinstance(source, ForeignSet):
        return preprocessing(meaning.preprocessing or data.spec.default_preprocessing, data)
    if isinstance(source, TrainingData):
        meaning.must_be_empty("the real training data is preprocessed already")
        return source.preprocessing
    kind = source.metadata.get("preprocessing", "distilled")
    meaning.must_be_empty(
        f"an artefact of ours says itself what it holds, {kind} images and classes"
    )
    return source.preprocessing(data)


def training_set_of(
    source: Source, data: Dataset, transform: Preprocessing, meaning: Meaning, regresses: bool
) -> TrainingSet:
    """Give access to the images of a source, by row, with labels to regress on or to classify.

    Raises:
        ValueError: source and data set do not fit, or numbers of another project are not what they
            are taken for (`nsdbench.sets.meaning`).
    """
    if isinstance(source, TrainingData):
        return TrainingSet(len(source), _centred_batches(source) if regresses else source.batch)
    if isinstance(source, ForeignSet):
        origin = source.origin
        if source.drawn_from is not None and meaning.pixels != "normalised":
            raise ValueError(
                f"{origin}: --pixels {meaning.pixels} (pixels=) has no effect on images that are "
                "decoded anew for every epoch; leave it out"
            )
        images = network_inputs(source.images, origin, data, transform, meaning.pixels)
        read = centred_targets if regresses else targets
        labels = read(source.labels, len(images), data.num_classes, origin, meaning.labels_are)
        if source.drawn_from is not None:
            return _drawn_set(source.drawn_from, images, labels)
        return TrainingSet(len(images), lambda rows: (images[rows], labels[rows]))
    images, labels = source.images(), source.labels()
    if tuple(images.shape[1:]) != tuple(data.image_shape):
        raise ValueError(
            f"the set holds {list(images.shape[1:])} images, but {data.name} has "
            f"{list(data.image_shape)}"
        )
    if int(labels.max()) >= data.num_classes:
        raise ValueError(
            f"the set holds classes up to {int(labels.max())}; {data.name} has {data.num_classes} "
            "classes"
        )
    if regresses:
        labels = _regressed(source, data.num_classes)
    if source.parameterization.is_stochastic:
        return _drawn_set(source.parameterization, images, labels)
    return TrainingSet(len(images), lambda rows: (images[rows], labels[rows]))


def _centred_batches(source: TrainingData) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """Serve real images with one-hot labels less their mean."""

    def fetch(rows: Tensor) -> tuple[Tensor, Tensor]:
        images, classes = source.batch(rows)
        return images, models.centred(classes, source.num_classes)

    return fetch


def _regressed(source: Artefact, num_classes: int) -> Tensor:
    """Return the labels [n, K] that a set learned, else its classes as one-hot less their mean.

    Raises:
        ValueError: the set learned labels of another number of classes.
    """
    learned = source.soft_labels()
    if learned is None:
        return models.centred(source.labels(), num_classes)
    if learned.shape[1] != num_classes:
        raise ValueError(
            f"the set holds learned labels of {learned.shape[1]} numbers; expected one for each of "
            f"{num_classes} classes"
        )
    return learned.detach()


def _drawn_set(drawn_from: Parameterization, images: Tensor, labels: Tensor) -> TrainingSet:
    """Give access to images that are decoded anew, into `images`, for every epoch."""

    @torch.no_grad()
    def redraw(stream: torch.Generator) -> None:
        images.copy_(drawn_from.decode(generator=stream)[0])

    return TrainingSet(len(labels), lambda rows: (images[rows], labels[rows]), redraw)
