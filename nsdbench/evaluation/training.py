"""Train fresh networks on a set and test them once, after the last epoch.

Networks meet a test split only here. Unless a protocol says otherwise the loop is MTT's
`evaluate_synset`: SGD with momentum and weight decay on all parameters, shuffled batches, one DSA
operation a batch, the rate divided by ten and the optimiser rebuilt after the epoch the protocol
names, if it names one.
"""

import itertools
import os
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from nsdbench import models
from nsdbench.data import Dataset, Preprocessing, load, preprocessing, standardise_batch
from nsdbench.data.training import TrainingData
from nsdbench.errors import Diverged, counted
from nsdbench.evaluation import frepo_augment, protocols
from nsdbench.evaluation.centring import CentredNetwork
from nsdbench.evaluation.protocols import Protocol
from nsdbench.ops.transfer import to_device
from nsdbench.progress import Shown, reporting
from nsdbench.seeding import generator
from nsdbench.sets.artefact import Artefact
from nsdbench.sets.foreign import ForeignSet, from_python
from nsdbench.sets.formats.base import Reading
from nsdbench.sets.formats.registry import read_set
from nsdbench.sets.meaning import (
    UNSAID,
    Meaning,
    centred_targets,
    network_inputs,
    targets,
)
from nsdbench.sets.parameterizations import Parameterization
from nsdbench.sets.whiteness import contradiction
from nsdbench.spread import summary
from nsdbench.student import augment, capture
from nsdbench.student.training_step import TrainingStep, vector_of
from nsdbench.sums import notice

Source = Artefact | ForeignSet | TrainingData
Told = Callable[[int], object]
_TOLD_PER_NETWORK = 50  # times that a network's training says how far it is
SIDE_BY_SIDE_IMAGES = 128  # one H200: at 64 images two networks take 0.8 of the time, at 256 0.87
_STANDARDISED_TEST_BATCH = 128  # HaBa reference code; accuracy depends on it


@dataclass(frozen=True)
class Evaluation:
    """What one evaluation measured.

    Attributes:
        accuracies: per cent of test images right, one a network.
        lr: learning rate the networks were trained at.
        steps: optimiser steps of each network.
        num_images: training images.
        seconds: wall time of all networks.
        code_path: implementation that trained them.
    """

    accuracies: tuple[float, ...]
    lr: float
    steps: int
    num_images: int
    seconds: float
    code_path: str

    def __repr__(self) -> str:
        number = f"{summary([self.accuracies])} over {counted(len(self.accuracies), 'network')}"
        return f"<Evaluation {number}: {self.steps:,} steps on {counted(self.num_images, 'image')}>"


def evaluate(
    source: Any,
    dataset: str | Dataset,
    arch: str,
    protocol: str | Protocol = "common",
    repeats: int = 5,
    seed: int = 0,
    *,
    preprocessing_kind: str | None = None,
    pixels: str | None = None,
    labels_are: str | None = None,
    factor: int | None = None,
    lr: float | None = None,
    data_root: str | os.PathLike[str] | None = None,
    device: str = "cpu",
    progress: Shown = "bar",
) -> Evaluation:
    """Evaluate a set on the test split.

    Args:
        source: an artefact, the real training data, or a set of another project: images
            [n, C, H, W] in network-input space with classes [n] or [n, 1] or probabilities [n, K],
            as a pair or dict of tensors or arrays, or as a torch data set. Or its file, or the list
            of its files (`nsdbench.sets.formats`).
        dataset: name or loaded data set.
        arch: architecture id or name, see `nsdbench.models`.
        protocol: name or protocol.
        repeats: number of fresh networks R.
        seed: of initial weights, shuffling and augmentation.
        preprocessing_kind: how test images become network inputs, for a set of another project;
            None is the data set's default.
        pixels: what the images of such a set are, if not network inputs: "raw" pixels 0 to 255, or
            "unit" ones 0 to 1. "normalised" takes them as they are, whatever they look like.
        labels_are: what soft labels of such a set are, if not probabilities: "logits" or "centred".
        factor: of a set of IDC, each of whose images holds factor x factor smaller ones.
        lr: the step size that was learned with such a set, if it does not hold it.
        data_root: folder of the data set, see `nsdbench.data.load`.
        device: where networks are trained.
        progress: "bar" shows a bar with the time left, or lines where there is no terminal; None
            shows nothing; a function is called as progress(phase, done, total, note): of
            "evaluate" at the start and after every network, of "train" for the steps of all.

    Returns:
        The accuracies with how they came about.

    Raises:
        ValueError: set and data set do not fit, numbers of another project are not what they are
            taken for (`nsdbench.sets.meaning`), an option has no effect, or the protocol needs a
            learned step size that the set does not carry.
        DataMissing, DataCorrupt: a file of the data set or of the set.
        Diverged: the training loss stopped being finite.
    """
    if repeats < 1:
        raise ValueError(f"repeats is {repeats}; at least 1 network is needed")
    protocol = protocols.get(protocol) if isinstance(protocol, str) else protocol
    data = load(dataset, data_root) if isinstance(dataset, str) else dataset
    meaning = Meaning(preprocessing_kind, pixels, labels_are, factor, lr)
    if lr is not None and protocol.lr is not None:
        raise ValueError(
            f"lr is {lr:g}, but protocol {protocol.name} trains at rate {protocol.lr:g}; leave it "
            "out, or use protocol mtt"
        )
    paths = [source] if isinstance(source, str | os.PathLike) else source
    if isinstance(paths, list | tuple) and paths and isinstance(paths[0], str | os.PathLike):
        source = only(read_set(*paths, spec=data.spec, said=meaning))
    judge = Judge(source, data, arch, protocol, device, meaning)
    if judge.notice:
        notice(judge.notice)
    networks: list[Evaluation] = []
    with reporting(progress) as report:
        running: dict[int, int] = {}  # steps of networks that are trained

        def told(repeat: int, step: int) -> None:
            running[repeat] = step
            done = len(networks) * judge.steps + sum(running.values())
            report("train", done, repeats * judge.steps)

        report("evaluate", 0, repeats, f"{judge.steps} steps a network")
        for repeat, network in enumerate(judge.networks(seed, range(repeats), told)):
            running.pop(repeat, None)
            networks.append(network)
            report("evaluate", repeat + 1, repeats, f"{network.accuracies[0]:.2f} %")
    return replace(
        networks[0],
        accuracies=tuple(network.accuracies[0] for network in networks),
        seconds=sum(network.seconds for network in networks),
    )


def only(reading: Reading) -> Artefact | ForeignSet:
    """Return the one set of files that hold one.

    Raises:
        ValueError: they hold several.
    """
    if len(reading.sets) > 1:
        raise ValueError(
            f"the files hold {len(reading.sets)} sets ({reading.taken_for}); `judge` takes all of "
            "them, evaluate one"
        )
    return reading.sets[0]


class Judge:
    """Trains networks on one set, prepared once, and tests each of them.

    Args: as of `evaluate`; the set and the data set are loaded, `meaning` holds what is said of a
        set of another project.

    Attributes:
        lr: learning rate the networks are trained at.
        preprocessing: how test images become network inputs.
        num_images: training images.
        notice: that the preprocessing contradicts the images of another project, if it does.

    Raises:
        ValueError: as `evaluate`.
    """

    def __init__(
        self,
        source: Any,
        data: Dataset,
        arch: str,
        protocol: Protocol,
        device: str,
        meaning: Meaning = UNSAID,
    ):
        if not isinstance(source, Source):
            source = from_python(source)
        if isinstance(source, ForeignSet):
            meaning = _known(source, meaning)
        elif meaning.factor is not None:
            raise ValueError("factor has no effect: the set is not one of IDC; leave it out")
        self.lr = _learning_rate(protocol, source, meaning)
        self.preprocessing = _transform(source, data, meaning)
        regresses = protocol.loss != "cross_entropy"
        self._set = _training_set(source, data, self.preprocessing, meaning, regresses)
        self.num_images = self._set.num_images
        self.notice = ""
        if isinstance(source, ForeignSet):
            images, _ = self._set.fetch(torch.arange(self.num_images))
            self.notice = contradiction(images, data, self.preprocessing)
        is_small = not isinstance(source, TrainingData) and self._set.redraw is None
        if torch.device(device).type == "cuda" and is_small:
            self._set = kept_on(self._set, torch.device(device))
        self._data = data
        self._arch = models.resolve_id(arch, data.spec)
        models.network_size(protocol.network(self._arch), data.image_shape, data.num_classes)
        self._protocol = protocol
        self._device = device

    @property
    def steps(self) -> int:
        """Optimiser steps of a network."""
        return self._protocol.total_steps(self.num_images)

    @property
    def is_side_by_side(self) -> bool:
        """Say whether several networks are trained at the same time, which changes no number.

        On CUDA, where a batch is too small to fill the device and steps are captured.
        """
        is_small = min(self._protocol.batch_size, self.num_images) <= SIDE_BY_SIDE_IMAGES
        is_one_set = self._set.redraw is None  # else every network decodes into the same images
        device = torch.device(self._device)
        return is_small and is_one_set and capture.engine_for(device) is not None

    def network(self, seed: int, repeat: int) -> Evaluation:
        """Train and test network `repeat`, as `networks` does."""
        (evaluation,) = self.networks(seed, [repeat])
        return evaluation

    def networks(
        self,
        seed: int,
        repeats: Sequence[int],
        told: Callable[[int, int], object] = lambda repeat, step: None,
    ) -> Iterator[Evaluation]:
        """Train and test networks; those of equal seed and number are the same network.

        Args:
            seed, repeats: name the networks.
            told: called as told(repeat, step), as of `train`.

        Yields:
            Each in turn, as soon as it is done.

        Raises:
            Diverged: the training loss of one stopped being finite.
        """
        groups = [list(repeats)] if self.is_side_by_side else [[repeat] for repeat in repeats]
        for group in groups:
            yield from self._judged(seed, group, told)

    def _judged(
        self, seed: int, group: list[int], told: Callable[[int, int], object]
    ) -> Iterator[Evaluation]:
        """Train networks side by side, and test one after another."""
        if not group:
            return
        started = time.perf_counter()
        models_of_group, trainings = [], []
        for repeat in group:
            stream = generator(seed, "evaluate", self._arch, self._protocol.name, repeat)
            model = models.for_dataset(self._protocol.network(self._arch), self._data)
            models.initialize(model, stream)
            model.to(self._device)
            model.to(memory_format=model.memory_format)  # type: ignore[call-overload]  # torch's stub lacks it
            judged = CentredNetwork(model) if self._protocol.is_centred else model
            models_of_group.append((model, judged))
            trainings.append(
                training(
                    judged,
                    self._set,
                    self._protocol,
                    self.lr,
                    self._data.spec.dsa_strategy,
                    stream,
                    partial(told, repeat),
                )
            )
        ended = capture.run_side_by_side(trainings, torch.device(self._device))
        trained_seconds = (time.perf_counter() - started) / len(group)
        for (model, judged), (steps, code_path) in zip(models_of_group, ended, strict=True):
            started = time.perf_counter()
            if code_path != "graph":
                code_path = models.code_path(model)
            accuracy = self._accuracy(judged)
            seconds = trained_seconds + time.perf_counter() - started
            yield Evaluation((accuracy,), self.lr, steps, self.num_images, seconds, code_path)

    def _accuracy(self, model: nn.Module) -> float:
        """Return the per cent of test images that a network classifies correctly."""
        test, transform = self._data.test, self.preprocessing.apply
        if not self._protocol.standardises_batches:
            return models.accuracy(model, test.images, test.labels, transform, self._device)
        return models.accuracy(
            model,
            test.images,
            test.labels,
            lambda images: standardise_batch(transform(images)),
            self._device,
            _STANDARDISED_TEST_BATCH,
        )


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


class Trained(NamedTuple):
    """How a network was trained: optimiser steps, and the implementation that took them."""

    steps: int
    code_path: str


def average_over_epochs(model: nn.Module, decay: float) -> AveragedModel:
    """Make the average of a network's weights that every call of `update_parameters` goes on with.

    With theta_t the weights at call t = 0, 1, ...:

        average = d average + (1 - d) theta_t,   d = min(decay, 1 - 1 / (1 + t))

    so it is the plain mean until d reaches `decay` (GLaD reference code; the library that it uses
    starts from theta_1 once more, which leaves no trace after some hundred epochs).
    """

    def updated(average: Tensor, weight: Tensor, calls: Tensor | int) -> Tensor:
        return torch.lerp(weight, average, min(decay, 1 - 1 / (1 + int(calls))))

    return AveragedModel(model, avg_fn=updated)


def train(
    model: nn.Module,
    training_set: TrainingSet,
    protocol: Protocol,
    lr: float,
    dsa_strategy: str,
    stream: torch.Generator,
    told: Told = lambda step: None,
) -> Trained:
    """Train a network in place by a protocol.

    It ends with its last weights, or with their average where the protocol has an `ema_decay`.
    `told` is called with the number of steps that are done, now and then.

    Raises:
        Diverged: the loss at the decay or at the last step is not finite.
    """
    work = training(model, training_set, protocol, lr, dsa_strategy, stream, told)
    (trained,) = capture.run_side_by_side([work], next(model.parameters()).device)
    return trained


def training(
    model: nn.Module,
    training_set: TrainingSet,
    protocol: Protocol,
    lr: float,
    dsa_strategy: str,
    stream: torch.Generator,
    told: Told = lambda step: None,
) -> Generator[None, None, Trained]:
    """Do what `train` does, and pause after every step."""
    device = next(model.parameters()).device
    strategy = ""
    if protocol.augment:
        strategy = dsa_strategy if protocol.strategy is None else protocol.strategy

    theta = vector_of(model) if protocol.loss == "cross_entropy" else None
    parameters = list(model.parameters()) if theta is None else [theta]

    def optimiser(rate: float) -> torch.optim.Optimizer:
        if protocol.optimiser == "adam":
            return torch.optim.Adam(parameters, lr=rate)
        return torch.optim.SGD(
            parameters,
            lr=rate,
            momentum=protocol.momentum,
            weight_decay=protocol.weight_decay,
        )

    error = _error(protocol)

    def batch_loss(x: Tensor, y: Tensor) -> tuple[Tensor]:
        loss = error(model(x), y)
        if isinstance(model, CentredNetwork):
            loss = loss + protocol.start_penalty * model.distance()
        return (loss,)

    descend = TrainingStep(model, optimiser(lr), batch_loss, theta=theta)
    total = protocol.total_steps(training_set.num_images)
    decay = protocol.decay_step(training_set.num_images)
    per_epoch = protocol.steps_per_epoch(training_set.num_images)
    average = None
    if protocol.ema_decay is not None:
        average = average_over_epochs(model, protocol.ema_decay)
    model.train()
    batches = _batches(training_set, protocol, stream)
    for step, rows in zip(range(1, total + 1), batches, strict=False):
        if protocol.warms_up or protocol.cosine_to is not None:
            factor = (
                protocol.rate_factor((step - 1) // per_epoch)
                if protocol.warms_up
                else protocol.step_factor(step - 1, total)
            )
            for group in descend.optimiser.param_groups:
                group["lr"] = lr * factor
        images, labels = training_set.fetch(rows)
        images = to_device(images, device)
        if protocol.standardises_batches:
            images = standardise_batch(images)
        if protocol.augmentation == "frepo":
            images = frepo_augment.augment(images, stream)
        else:
            channels, height, width = images.shape[1:]
            draw = augment.sample(strategy, len(images), (channels, height, width), stream)
            images = augment.apply(images, draw)
        (loss,) = descend(images, to_device(labels, device))
        if step in (decay, total) and not torch.isfinite(loss):
            raise Diverged(
                f"evaluation, step {step} of {total}: the training loss is {loss.item()} at "
                f"learning rate {lr:g}; the set or the rate is unusable under protocol "
                f"{protocol.name}"
            )
        if step == decay:
            descend.optimiser = optimiser(lr * 0.1)
        if average is not None and step % per_epoch == 0:
            average.update_parameters(model)
        if step % max(1, total // _TOLD_PER_NETWORK) == 0:
            told(step)
        yield
    if average is not None:
        model.load_state_dict(average.module.state_dict())
    return Trained(total, descend.code_path)


def _error(protocol: Protocol) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the loss of what a network says and the labels."""
    if protocol.loss == "scaled_error":
        return partial(models.scaled_error, scale=protocol.label_scale)
    return models.squared_error if protocol.loss == "squared_error" else F.cross_entropy


def _batches(
    training_set: TrainingSet, protocol: Protocol, stream: torch.Generator
) -> Iterator[Tensor]:
    """Yield row numbers batch by batch for ever: drawn, in turn, or shuffled anew every epoch."""
    if protocol.draws_batches and training_set.num_images > protocol.batch_size:
        yield from _drawn(training_set, protocol, stream)
    if not protocol.shuffles:
        yield from _in_turn(training_set, protocol, stream)
    while True:
        if training_set.redraw is not None:
            training_set.redraw(stream)
        order = torch.randperm(training_set.num_images, generator=stream)
        yield from order.split(protocol.batch_size)


def _drawn(
    training_set: TrainingSet, protocol: Protocol, stream: torch.Generator
) -> Iterator[Tensor]:
    """Yield row numbers for ever, every batch drawn with replacement from all images."""
    count = training_set.num_images
    for step in itertools.count():
        if training_set.redraw is not None and step % protocol.steps_per_epoch(count) == 0:
            training_set.redraw(stream)
        yield torch.randint(count, (protocol.batch_size,), generator=stream)


def _in_turn(
    training_set: TrainingSet, protocol: Protocol, stream: torch.Generator
) -> Iterator[Tensor]:
    """Yield row numbers for ever, full batches that go round in the order of the set."""
    count, first = training_set.num_images, 0
    size = min(count, protocol.batch_size)
    while True:
        if training_set.redraw is not None and first < size:
            training_set.redraw(stream)
        yield torch.arange(first, first + size) % count
        first = (first + size) % count


def _known(source: ForeignSet, said: Meaning) -> Meaning:
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


def _learning_rate(protocol: Protocol, source: Source, meaning: Meaning) -> float:
    """Return the protocol's rate, or the step size that was learned if it wants that."""
    if protocol.lr is not None:
        return protocol.lr
    learned = source.metadata.get("learned", {}) if isinstance(source, Artefact) else {}
    rate: float | None = learned.get("lr", meaning.lr)
    if rate is None:
        raise ValueError(
            f"protocol {protocol.name} trains at the step size a distillation learned, and this "
            "set carries none; use protocol common, or give --lr (lr=)"
        )
    return rate


def _transform(source: Source, data: Dataset, meaning: Meaning) -> Preprocessing:
    """Return how test images become inputs of networks trained on this source."""
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


def _training_set(
    source: Source, data: Dataset, transform: Preprocessing, meaning: Meaning, regresses: bool
) -> TrainingSet:
    """Give access to the images of a source, by row, with labels to regress on or to classify."""
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
