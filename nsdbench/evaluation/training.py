"""Train one network on a set by a protocol.

Unless a protocol says otherwise the loop is MTT's `evaluate_synset`: SGD with momentum and weight
decay on all parameters, shuffled batches, one DSA operation a batch, the rate divided by ten and
the optimiser rebuilt after the epoch the protocol names, if it names one.
"""

import itertools
from collections.abc import Callable, Generator, Iterator
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from nsdbench import models
from nsdbench.data import standardise_batch
from nsdbench.errors import Diverged
from nsdbench.evaluation import frepo_augment
from nsdbench.evaluation.centring import CentredNetwork
from nsdbench.evaluation.protocols import Protocol
from nsdbench.evaluation.training_set import TrainingSet
from nsdbench.ops.transfer import to_device
from nsdbench.student import augment, capture
from nsdbench.student.training_step import TrainingStep, vector_of

Told = Callable[[int], object]
_TOLD_PER_NETWORK = 50  # times that a network's training says how far it is


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
