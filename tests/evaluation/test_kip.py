"""Protocol kip: its network, what it descends, batches of large sets, step by step."""

import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nsdbench import data, models
from nsdbench.data.training import TrainingData
from nsdbench.evaluation import protocols
from nsdbench.evaluation.centring import CentredNetwork
from nsdbench.evaluation.judge import Judge
from nsdbench.evaluation.training import train
from nsdbench.evaluation.training_set import TrainingSet
from nsdbench.models.nets.plain_convnet import PlainConvNet
from nsdbench.seeding import generator
from nsdbench.sets import Artefact, parameterizations

NAME = "synthetic:3x1x8x8"


def test_rates_and_networks():
    """Eight times the labels, a penalty of 1e-3, full batches of up to 513, no augmentation."""
    kip = protocols.get("kip")
    assert (kip.lr, kip.momentum, kip.weight_decay, kip.batch_size) == (0.01, 0.9, 0, 513)
    assert (kip.label_scale, kip.start_penalty, kip.is_centred) == (8, 1e-3, True)
    assert (kip.augment, kip.total_steps(10), kip.decay_step(10)) == (False, 5000, 5000)
    assert protocols.get("kip-30steps").total_steps(1000) == 30
    assert kip.network("convnet3-w128") == "convnet_plain3-w1024"
    assert kip.network("convnet2-w16") == "convnet_plain2-w128"
    assert kip.network("resnet18-w8") == "resnet18-w8"
    assert kip.network("convnet3-w128-bn") == "convnet3-w128-bn"
    assert kip.hash != protocols.get("kip-30steps").hash
    common = protocols.get("common").as_dict()
    assert not {"label_scale", "is_centred", "start_penalty", "draws_batches"} & common.keys()
    with pytest.raises(ValueError, match=r"unknown protocol 'kip-0steps'.*kip-<steps>steps"):
        protocols.get("kip-0steps")
    with pytest.raises(ValueError, match="unknown protocol 'kip-30ep'"):
        protocols.get("kip-30ep")


def test_a_centred_network_is_its_output_less_that_of_its_start():
    network = PlainConvNet(1, 8, 3, width=4, depth=2)
    before = copy.deepcopy(network)
    centred, x = CentredNetwork(network), torch.randn(5, 1, 8, 8)
    assert torch.equal(centred(x), torch.zeros(5, 3)) and centred.distance() == 0
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.01
    torch.testing.assert_close(centred(x), network(x) - before(x), rtol=1e-6, atol=1e-6)
    count = sum(parameter.numel() for parameter in network.parameters())
    assert centred.distance().item() == pytest.approx(count * 1e-4, rel=1e-3)
    learned = [p for p in centred.parameters() if p.requires_grad]
    assert len(learned) == len(list(network.parameters()))


@pytest.mark.parametrize("count", [12, 513, 514])
def test_training_step_by_step(count):
    """SGD with momentum on the mean of (f - f0 - 8 y)^2 / 64 plus the penalty, a linear network.

    Up to 513 images every step takes all of them; of 514, 513 are drawn with replacement.
    """
    draws = generator(0, "kip", count)
    images = torch.randn(count, 1, 2, 2, generator=draws, dtype=torch.float64)
    labels = models.centred(torch.arange(count) % 3, 3).double()
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3)).double()
    start = [p.detach().clone() for p in network.parameters()]
    protocol = replace(protocols.get("kip-4steps"), lr=0.7, start_penalty=0.05)
    fetched = []

    def fetch(rows):
        fetched.append(rows)
        return images[rows], labels[rows]

    model = CentredNetwork(network)
    ended = train(model, TrainingSet(count, fetch), protocol, 0.7, "flip", generator(0, "t"))
    assert ended.steps == len(fetched) == 4

    weights = [w.clone() for w in start]
    velocity = [torch.zeros_like(w) for w in weights]
    stream = generator(0, "t")
    for seen in fetched:
        if count <= 513:
            rows = torch.randperm(count, generator=stream)
        else:
            rows = torch.randint(count, (513,), generator=stream)
            assert len(set(rows.tolist())) < 513
        assert torch.equal(seen, rows)
        x, y = images[rows].flatten(1), labels[rows]
        moved = [w - w0 for w, w0 in zip(weights, start, strict=True)]
        error = 2 * (x @ moved[0].T + moved[1] - 8 * y) / (3 * len(rows)) / 64
        gradients = [error.T @ x + 0.1 * moved[0], error.sum(0) + 0.1 * moved[1]]
        velocity = [0.9 * v + g for v, g in zip(velocity, gradients, strict=True)]
        weights = [w - 0.7 * v for w, v in zip(weights, velocity, strict=True)]
    for parameter, weight in zip(network.parameters(), weights, strict=True):
        torch.testing.assert_close(parameter.data, weight, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("learned", [False, True])
def test_a_set_is_judged_by_the_centred_network(learned):
    """A cell's network from its parameters to the share of the test that it gets right.

    Learned labels are regressed on as they are, classes as one-hot less 1/K. Batches are shuffled,
    so that sums are rounded otherwise: one image may change sides.
    """
    dataset = data.load(NAME)
    transform = data.preprocessing("standardise", dataset)
    section = {"name": "pixels", "learned_labels": learned, "over_budget": learned}
    pixels = parameterizations.build(section, dataset.spec, 2)
    pixels.initialize(TrainingData(dataset.without_test(), transform), generator(0, "pixels"))
    if learned:
        pixels.soft_labels.data += 0.1 * torch.randn(6, 3, generator=generator(0, "labels"))
    facts = {"preprocessing": "standardise", "preprocessing_hash": transform.hash}
    artefact = Artefact(pixels.requires_grad_(False), facts)
    found = Judge(artefact, dataset, "convnet2-w1", protocols.get("kip-20steps"), "cpu")
    evaluation = found.network(3, 1)
    assert (evaluation.steps, evaluation.num_images, evaluation.code_path) == (20, 6, "generic")

    stream = generator(3, "evaluate", "convnet2-w1", "kip-20steps", 1)
    network = PlainConvNet(1, 8, 3, width=8, depth=2)
    models.initialize(network, stream)
    start = copy.deepcopy(network)
    sgd = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)
    y = pixels.soft_labels if learned else F.one_hot(pixels.labels, 3) - 1 / 3
    x = artefact.images()
    for _ in range(20):
        pairs = zip(network.parameters(), start.parameters(), strict=True)
        penalty = sum(((now - before.detach()) ** 2).sum() for now, before in pairs)
        loss = ((network(x) - start(x).detach() - 8 * y) ** 2).mean() / 64 + 1e-3 * penalty
        sgd.zero_grad()
        loss.backward()
        sgd.step()
    tests = transform.apply(dataset.test.images)
    right = (network(tests) - start(tests)).argmax(1) == dataset.test.labels
    assert evaluation.accuracies[0] == pytest.approx(
        100 * float(right.float().mean()), abs=100 / len(tests)
    )
