"""The training loop against independent ones, protocol by protocol."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nsdbench import models
from nsdbench.evaluation import protocols
from nsdbench.evaluation.judge import evaluate
from nsdbench.evaluation.protocols import Protocol
from nsdbench.evaluation.training import average_over_epochs, train
from nsdbench.evaluation.training_set import TrainingSet
from nsdbench.seeding import generator
from nsdbench.student import augment


@pytest.mark.parametrize("strategy", ["", "color_crop_cutout_flip_scale_rotate"])
def test_training_is_the_published_loop(tensors, strategy):
    """SGD with momentum and decay written out; after epoch E // 2 + 1 a tenth and no velocity."""
    images, labels = tensors
    protocol = Protocol("p", lr=0.05, batch_size=5, epochs=6, augment=bool(strategy))
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3)).double()
    torch.manual_seed(1)
    weights = [torch.randn_like(p) * 0.1 for p in model.parameters()]
    for parameter, weight in zip(model.parameters(), weights, strict=True):
        parameter.data = weight.clone()
    steps, path = train(
        model,
        TrainingSet(12, lambda rows: (images.double()[rows], labels[rows])),
        protocol,
        0.05,
        strategy,
        generator(0, "loop"),
    )
    assert (steps, path) == (7 * 3, "generic")

    stream = generator(0, "loop")
    velocity = [torch.zeros_like(weight) for weight in weights]
    rate = 0.05
    for epoch in range(7):
        order = torch.randperm(12, generator=stream)
        for first in (0, 5, 10):
            batch = order[first : first + 5]
            draw = augment.sample(strategy, len(batch), (1, 8, 8), stream)
            x = augment.apply(images.double()[batch], draw).flatten(1)
            probabilities = torch.softmax(x @ weights[0].T + weights[1], 1)
            error = (probabilities - F.one_hot(labels[batch], 3)) / len(batch)
            gradients = [error.T @ x, error.sum(0)]
            for i in (0, 1):
                velocity[i] = 0.9 * velocity[i] + gradients[i] + 5e-4 * weights[i]
                weights[i] = weights[i] - rate * velocity[i]
        if epoch == 6 // 2 + 1:
            rate, velocity = rate / 10, [torch.zeros_like(v) for v in velocity]
    for parameter, weight in zip(model.parameters(), weights, strict=True):
        torch.testing.assert_close(parameter.data, weight, rtol=1e-10, atol=1e-12)


def test_rtp_keeps_its_rate_and_has_its_own_augmentation(tensors):
    """One operation a batch, a parameter an image, one rate to the end, not the data set's DSA."""
    images, labels = tensors
    images = images.double()
    protocol = replace(protocols.get("rtp-4ep"), batch_size=7, lr=0.05)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3)).double()
    weights = [p.detach().clone() for p in model.parameters()]
    training_set = TrainingSet(12, lambda rows: (images[rows], labels[rows]))
    assert train(model, training_set, protocol, 0.05, "cutout", generator(0, "rtp")).steps == 5 * 2

    stream, velocity, drawn = generator(0, "rtp"), [0.0, 0.0], set()
    for _ in range(5):
        for batch in torch.randperm(12, generator=stream).split(7):
            draw = augment.sample("flip_rotate", len(batch), (1, 8, 8), stream)
            drawn.add(draw.op)
            x = augment.apply(images[batch], draw).flatten(1)
            error = torch.softmax(x @ weights[0].T + weights[1], 1) - F.one_hot(labels[batch], 3)
            gradients = [error.T @ x / len(batch), error.mean(0)]
            velocity = [0.9 * v + g for v, g in zip(velocity, gradients, strict=True)]
            weights = [w - 0.05 * v for w, v in zip(weights, velocity, strict=True)]
    assert drawn == {"flip", "rotate"}
    for parameter, weight in zip(model.parameters(), weights, strict=True):
        torch.testing.assert_close(parameter.data, weight, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("limit", [0.995, 0.6])
def test_glad_step_by_step(tensors, limit):
    """A rate an epoch, its velocity kept; what is tested is d a + (1 - d) w after every epoch."""
    images, labels = tensors
    images = images.double()
    protocol = replace(protocols.get("glad-6ep"), batch_size=7, augment=False, ema_decay=limit)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3)).double()
    torch.manual_seed(1)
    weights = [torch.randn_like(p) * 0.1 for p in model.parameters()]
    for parameter, weight in zip(model.parameters(), weights, strict=True):
        parameter.data = weight.clone()
    training_set = TrainingSet(12, lambda rows: (images[rows], labels[rows]))
    assert train(model, training_set, protocol, 0.05, "cutout", generator(0, "glad")).steps == 7 * 2

    stream, velocity, decays = generator(0, "glad"), [0.0, 0.0], []
    average = [torch.zeros_like(weight) for weight in weights]
    # Of 7 epochs 3 are half. From 1e-7 it goes to 1 in thirds, then cosines of 0, 60, 120 degrees.
    rates = [1e-7, (2e-7 + 1) / 3, (1e-7 + 2) / 3, 1, 1, 0.75, 0.25]
    for epoch, rate in enumerate(rates):
        for batch in torch.randperm(12, generator=stream).split(7):
            augment.sample("", len(batch), (1, 8, 8), stream)
            x = images[batch].flatten(1)
            error = torch.softmax(x @ weights[0].T + weights[1], 1) - F.one_hot(labels[batch], 3)
            gradients = [error.T @ x / len(batch), error.mean(0)]
            velocity = [
                0.9 * v + g + 5e-4 * w for v, g, w in zip(velocity, gradients, weights, strict=True)
            ]
            weights = [w - 0.05 * rate * v for w, v in zip(weights, velocity, strict=True)]
        decays.append(min(limit, epoch / (1 + epoch)))
        average = [decays[-1] * a + (1 - decays[-1]) * w
                   for a, w in zip(average, weights, strict=True)]  # fmt: skip
    assert decays[:3] == [0, 0.5, min(limit, 2 / 3)]
    for parameter, mean, last in zip(model.parameters(), average, weights, strict=True):
        torch.testing.assert_close(parameter.data, mean, rtol=1e-10, atol=1e-12)
        assert (mean - last).abs().max() > 1e-3, "the average is not the last network"


def test_averages_are_plain_means_for_200_epochs():
    model = nn.Linear(2, 1, bias=False).double()
    average = average_over_epochs(model, 0.995)
    values = torch.randn(220, 1, 2, dtype=torch.float64)
    before = values[0]
    for count, value in enumerate(values, start=1):
        model.weight.data = value.clone()
        average.update_parameters(model)
        found = average.module.weight
        if count <= 200:
            torch.testing.assert_close(found, values[:count].mean(0), rtol=1e-12, atol=1e-12)
        else:
            expected = 0.995 * before + 0.005 * value
            torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
        before = found.detach().clone()


def test_one_hot_soft_labels_train_as_hard_ones(tensors):
    images, labels = tensors
    ends = []
    for targets in (labels, F.one_hot(labels, 3).double()):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3)).double()
        training_set = TrainingSet(12, lambda rows, t=targets: (images.double()[rows], t[rows]))
        train(model, training_set, Protocol("p", epochs=9), 0.05, "", generator(0, "soft"))
        ends.append(models.flatten(model))
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-10, atol=1e-12)


def test_batch_norm_is_trained_and_tested_on_its_running_statistics(dataset, tensors):
    """Two steps at rate 0 on all images: .9 of the statistics are kept, .1 are the batch's.

    A test image is then normalised by them, whatever else is in its batch.
    """
    images, labels = tensors
    protocol = Protocol("p", batch_size=12, epochs=1, augment=False, weight_decay=0.0)
    model = models.for_dataset("convnet1-w4-bn", dataset)
    models.initialize(model, generator(0, "bn"))
    training_set = TrainingSet(12, lambda rows: (images[rows], labels[rows]))
    train(model, training_set, protocol, 0.0, "", generator(0, "loop"))
    conv, norm = model.features[0], model.features[1]
    mean, variance = conv(images).mean((0, 2, 3)), conv(images).var((0, 2, 3))
    torch.testing.assert_close(norm.running_mean, 0.19 * mean)
    torch.testing.assert_close(norm.running_var, 0.81 + 0.19 * variance)
    models.accuracy(model, images, labels, lambda x: x)
    torch.testing.assert_close(model(images[:1]), model(images)[:1])
    judged = evaluate((images, labels), dataset, "convnet1-w4-bn", "common-20ep", repeats=1)
    assert judged.accuracies[0] > 60 and judged.code_path == "generic"
