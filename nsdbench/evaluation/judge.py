"""Judge a set: train fresh networks on it and test them once, after the last epoch.

Networks meet a test split only here.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import nn

from nsdbench import models
from nsdbench.data import Dataset, load, standardise_batch
from nsdbench.data.training import TrainingData
from nsdbench.errors import counted
from nsdbench.evaluation import protocols
from nsdbench.evaluation.centring import CentredNetwork
from nsdbench.evaluation.protocols import Protocol
from nsdbench.evaluation.training import training
from nsdbench.evaluation.training_set import (
    Source,
    kept_on,
    learning_rate,
    meaning_of,
    preprocessing_of,
    training_set_of,
)
from nsdbench.progress import Shown, reporting
from nsdbench.seeding import generator
from nsdbench.sets.artefact import Artefact
from nsdbench.sets.doubts import far_from_real, missing_classes
from nsdbench.sets.foreign import ForeignSet, from_python
from nsdbench.sets.formats.base import Reading
from nsdbench.sets.formats.registry import read_set
from nsdbench.sets.meaning import UNSAID, Meaning
from nsdbench.sets.whiteness import contradiction
from nsdbench.spread import summary
from nsdbench.student import capture
from nsdbench.sums import notice

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
    for doubt in judge.notices:
        notice(doubt)
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
        notices: of a set of another project what its owner hardly means: images that contradict
            the preprocessing or are far from real ones, and classes without an image.

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
            meaning = meaning_of(source, meaning)
        elif meaning.factor is not None:
            raise ValueError("factor has no effect: the set is not one of IDC; leave it out")
        self.lr = learning_rate(protocol, source, meaning)
        self.preprocessing = preprocessing_of(source, data, meaning)
        regresses = protocol.loss != "cross_entropy"
        self._set = training_set_of(source, data, self.preprocessing, meaning, regresses)
        self.num_images = self._set.num_images
        self.notices: tuple[str, ...] = ()
        if isinstance(source, ForeignSet):
            images, labels = self._set.fetch(torch.arange(self.num_images))
            doubts = (
                far_from_real(images, data, self.preprocessing)
                or contradiction(images, data, self.preprocessing),
                missing_classes(labels, data.num_classes),
            )
            self.notices = tuple(filter(None, doubts))
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

        Where several do not fit into memory side by side, they are trained one after another.

        Args:
            seed, repeats: name the networks.
            told: called as told(repeat, step), as of `train`.

        Yields:
            Each in turn, as soon as it is done.

        Raises:
            Diverged: the training loss of one stopped being finite.
            torch.OutOfMemoryError: one alone does not fit.
        """
        left = list(repeats)
        count = len(left) if self.is_side_by_side else 1
        while left:
            try:
                for evaluation in self._judged(seed, left[:count], told):
                    del left[0]
                    yield evaluation
            except torch.OutOfMemoryError:
                if count == 1:
                    raise
                notice(f"{count} networks do not fit side by side: they are trained one by one")
                count = 1

    def _judged(
        self, seed: int, group: list[int], told: Callable[[int, int], object]
    ) -> Iterator[Evaluation]:
        """Train networks side by side, and test one after another."""
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
