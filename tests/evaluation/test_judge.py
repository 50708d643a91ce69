"""Judging: what is trained where and in which order, what repeats, and the test split."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nsdbench import data, models
from nsdbench.data.training import TrainingData
from nsdbench.errors import Diverged, TestSplitSealed
from nsdbench.evaluation import protocols
from nsdbench.evaluation.judge import Judge, evaluate
from nsdbench.evaluation.protocols import Protocol
from nsdbench.evaluation.training import train
from nsdbench.evaluation.training_set import TrainingSet
from nsdbench.seeding import generator
from nsdbench.sets import Artefact, parameterizations
from nsdbench.student import augment, capture
from nsdbench.student.graph import Engine
from tests.student.recorder import FakeRecorder


def test_accuracy_counts_by_hand(dataset):
    class Constant(nn.Module):
        def forward(self, x):
            return F.one_hot(torch.full((len(x),), 1), 3).float()

    share = float((dataset.test.labels == 1).double().mean())
    transform = data.preprocessing("standardise", dataset)
    assert models.accuracy(
        Constant(), dataset.test.images, dataset.test.labels, transform.apply
    ) == pytest.approx(100 * share)


def test_habas_protocol_step_by_step(monkeypatch):
    """An epoch sees every base once, through a hallucinator of its own; whole batches are scaled.

    The authors' loop: subtract the batch's mean, divide by its sample standard deviation, then DSA;
    tests go in batches of 128, standardised too.
    """
    dataset = data.load("synthetic:3x1x8x8@20+60")
    section = {"name": "hallucinator", "num_hallucinators": 3, "over_budget": True}
    bases = parameterizations.build(section, dataset.spec, 3)
    transform = data.preprocessing("standardise", dataset)
    bases.initialize(TrainingData(dataset.without_test(), transform), generator(0, "bases"))
    artefact = Artefact(
        bases.requires_grad_(False),
        {
            "preprocessing": "standardise",
            "preprocessing_hash": transform.hash,
            "learned": {"lr": 0.03},
        },
    )
    protocol = replace(protocols.get("haba-4ep"), batch_size=5)
    judge = Judge(artefact, dataset, "convnet1-w4", protocol, "cpu")
    tested, accuracy = [], models.accuracy
    monkeypatch.setattr(models, "accuracy", lambda *given: tested.append(given) or accuracy(*given))
    found = judge.network(0, 0)
    assert (found.steps, found.num_images, found.lr) == (5 * 2, 9, 0.03)

    stream = generator(0, "evaluate", "convnet1-w4", "haba-4ep", 0)
    model = models.for_dataset("convnet1-w4", dataset)
    models.initialize(model, stream)
    for epoch in range(5):
        drawn = torch.randint(3, (9,), generator=stream)
        views = torch.stack([bases.decode_view(torch.arange(9), view)[0] for view in range(3)])
        images = views[drawn, torch.arange(9)]
        order = torch.randperm(9, generator=stream)
        if epoch in (0, 4):  # after epoch index 4 // 2 + 1 a fresh optimiser at a tenth
            rate = 0.03 if epoch == 0 else 0.003
            sgd = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9, weight_decay=5e-4)
        for batch in (order[:5], order[5:]):
            x = (images[batch] - images[batch].mean()) / images[batch].std(correction=1)
            draw = augment.sample(dataset.spec.dsa_strategy, len(batch), (1, 8, 8), stream)
            loss = F.cross_entropy(model(augment.apply(x, draw)), bases.labels[batch])
            sgd.zero_grad()
            loss.backward()
            sgd.step()
    ((trained, images, labels, prepare, *_),) = tested
    torch.testing.assert_close(models.flatten(trained), models.flatten(model))
    inputs = transform.apply(images)
    torch.testing.assert_close(prepare(images), (inputs - inputs.mean()) / inputs.std())
    correct = 0
    for x, y in zip(inputs.split(128), labels.split(128), strict=True):
        correct += int((model((x - x.mean()) / x.std()).argmax(1) == y).sum())
    assert tested[0][-1] == 128 < len(inputs)
    assert found.accuracies == (100 * correct / len(inputs),)


def test_learns_the_stand_in_and_repeats_itself(dataset, tensors):
    first = evaluate(tensors, dataset, "convnet1-w8", "common-40ep", repeats=2, seed=3)
    again = evaluate(tensors, dataset, "convnet1-w8", "common-40ep", repeats=2, seed=3)
    assert first.accuracies == again.accuracies
    assert min(first.accuracies) > 60, "chance is 33 %"
    assert (first.steps, first.num_images, first.lr) == (41, 12, 0.01)
    judge = Judge(tensors, dataset, "convnet1-w8", protocols.get("common-40ep"), "cpu")
    assert judge.network(3, 1).accuracies == first.accuracies[1:]


DROPPING = """
from torch import nn

def dropping(in_channels, image_size, num_classes):
    return nn.Sequential(
        nn.Flatten(), nn.Linear(in_channels * image_size**2, 16), nn.ReLU(), nn.Dropout(0.5),
        nn.Linear(16, num_classes),
    )

def keeping(in_channels, image_size, num_classes):
    return nn.Sequential(*dropping(in_channels, image_size, num_classes)[:3], nn.Linear(16, 3))
"""


def test_dropout_of_a_users_network_repeats_itself(dataset, tensors, tmp_path, monkeypatch):
    """Whatever else draws from the global generator before and meanwhile, which is left alone."""
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(DROPPING)
    tested, accuracy = [], models.accuracy
    monkeypatch.setattr(
        models, "accuracy", lambda model, *rest: tested.append(model) or accuracy(model, *rest)
    )

    def judged(protocol, name="dropping", together=False):
        monkeypatch.setattr(Judge, "is_side_by_side", together)
        judge = Judge(tensors, dataset, f"mine.py:{name}", protocols.get(protocol), "cpu")
        tested.clear()
        found = list(judge.networks(3, [0, 1], lambda repeat, step: torch.rand(step)))
        return [f.accuracies for f in found], [models.flatten(model) for model in tested]

    for protocol in ("common-6ep", "glad-6ep"):
        torch.manual_seed(1)
        first, thetas = judged(protocol)
        assert not torch.equal(*thetas), "two networks"
        for together in (False, True):
            torch.manual_seed(2)
            again, same = judged(protocol, together=together)
            assert again == first and all(map(torch.equal, thetas, same))
    _, kept = judged("common-6ep", "keeping")
    _, dropped = judged("common-6ep")
    assert not any(map(torch.equal, kept, dropped)), "dropout has an effect"
    model = models.for_dataset("mine.py:dropping", dataset)
    models.initialize(model, generator(0, "start"))
    state = torch.get_rng_state()
    images, labels = tensors
    training_set = TrainingSet(12, lambda rows: (images[rows], labels[rows]))
    train(model, training_set, protocols.get("common-6ep"), 0.01, "", generator(0, "loop"))
    assert torch.equal(torch.get_rng_state(), state)


def test_real_data_can_be_trained_on(dataset):
    real = TrainingData(dataset, data.preprocessing("standardise", dataset))
    assert evaluate(real, dataset, "convnet1-w8", "full-2ep", repeats=1).accuracies[0] > 60


def test_evaluation_opens_the_test_split_and_a_sealed_one_refuses(dataset, tensors):
    with pytest.raises(TestSplitSealed):
        evaluate(tensors, dataset.without_test(), "convnet1-w8", "common-2ep", repeats=1)


def test_a_diverging_rate_is_an_error_not_a_number(dataset, tensors):
    protocol = Protocol("wild", lr=1e30, epochs=5)
    with pytest.raises(Diverged, match="learning rate 1e\\+30"):
        evaluate(tensors, dataset, "convnet1-w8", protocol, repeats=1)


def test_what_does_not_fit_is_named(dataset, tensors):
    images, labels = tensors
    options = (dataset, "convnet1-w8", "common-2ep")
    with pytest.raises(ValueError, match=r"\[3, 1, 9, 9\].*\[n, 1, 8, 8\]"):
        evaluate((torch.zeros(3, 1, 9, 9), labels[:3]), *options)
    with pytest.raises(ValueError, match="12 images but 11 labels"):
        evaluate((images, labels[:-1]), *options)
    with pytest.raises(ValueError, match="image 0 is 5; expected a class, .* from 0 to 2"):
        evaluate((images, labels + 5), *options)
    with pytest.raises(ValueError, match="repeats is 0"):
        evaluate(tensors, *options, repeats=0)
    with pytest.raises(ValueError, match="step size"):
        evaluate(tensors, dataset, "convnet1-w8", "mtt-2ep")
    with pytest.raises(ValueError, match="unknown protocol"):
        evaluate(tensors, dataset, "convnet1-w8", "best")


def test_networks_start_where_the_seed_says(dataset):
    model = models.from_id("convnet1-w8", in_channels=1, image_size=8, num_classes=3)
    weights = []
    for seed in (0, 0, 1):
        models.initialize(model, generator(seed, "evaluate", "convnet1-w8", "common", 0))
        weights.append(models.flatten(model).clone())
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


def test_captured_steps_judge_alike(dataset, tensors, monkeypatch):
    """Through a stand-in for captures: with the rate that falls, augmentation, ragged batches."""
    protocol = replace(protocols.get("common-6ep"), batch_size=5)
    eager = evaluate(tensors, dataset, "convnet1-w8", protocol, repeats=2)
    recorder = FakeRecorder()
    engine = Engine(recorder)
    monkeypatch.setattr(capture, "engine_for", lambda device: engine)
    captured = evaluate(tensors, dataset, "convnet1-w8", protocol, repeats=2)
    assert recorder.replays == 2 * eager.steps and recorder.captures == 2 * 2
    assert captured.accuracies == eager.accuracies
    assert (eager.code_path, captured.code_path) == ("native", "graph")


@pytest.mark.parametrize("is_captured", [False, True])
def test_networks_side_by_side_are_those_one_after_another(
    dataset, tensors, is_captured, monkeypatch
):
    """A step of each in turn, on the CPU and through a stand-in for captures."""
    arguments = (tensors, dataset, "convnet1-w8", protocols.get("common-6ep"), "cpu")
    alone = [Judge(*arguments).network(0, repeat).accuracies for repeat in range(3)]
    engine = Engine(FakeRecorder()) if is_captured else None
    monkeypatch.setattr(capture, "engine_for", lambda device: engine)
    assert Judge(*arguments).is_side_by_side == is_captured
    monkeypatch.setattr(Judge, "is_side_by_side", True)
    steps = []
    judge = Judge(*arguments)
    together = list(judge.networks(0, [0, 1, 2], lambda repeat, step: steps.append(repeat)))
    assert [network.accuracies for network in together] == alone
    assert steps[:6] == [0, 1, 2, 0, 1, 2]
    path = "graph" if is_captured else "native"
    assert {network.code_path for network in together} == {path}
    assert all(network.steps == judge.steps for network in together)


@pytest.mark.parametrize("fits", [0, 1])
def test_networks_that_do_not_fit_side_by_side_are_trained_one_by_one(
    dataset, tensors, fits, monkeypatch, caplog
):
    """Memory for so many networks: with one the numbers are those of before, with none it fails."""
    arguments = (tensors, dataset, "convnet1-w8", protocols.get("common-6ep"), "cpu")
    alone = [Judge(*arguments).network(0, repeat).accuracies for repeat in range(3)]
    run = capture.run_side_by_side
    tried = []

    def full(works, device):
        tried.append(len(works))
        if len(works) > fits:
            next(works[0])
            raise torch.OutOfMemoryError("CUDA out of memory")
        return run(works, device)

    monkeypatch.setattr(Judge, "is_side_by_side", True)
    monkeypatch.setattr(capture, "run_side_by_side", full)
    judge = Judge(*arguments)
    if fits:
        found = judge.networks(0, [0, 1, 2])
        assert [network.accuracies for network in found] == alone and tried == [3, 1, 1, 1]
    else:
        with pytest.raises(torch.OutOfMemoryError):
            list(judge.networks(0, [0, 1, 2]))
        assert tried == [3, 1]
    assert "3 networks do not fit side by side" in caplog.text


def test_sets_that_are_decoded_anew_and_large_batches_are_judged_alone(
    dataset, tensors, monkeypatch
):
    monkeypatch.setattr(capture, "engine_for", lambda device: Engine(FakeRecorder()))
    judge = Judge(tensors, dataset, "convnet1-w8", protocols.get("common-6ep"), "cpu")
    assert judge.is_side_by_side
    judge._set = replace(judge._set, num_images=129)
    judge.num_images = 129
    assert not judge.is_side_by_side
    judge.num_images = 12
    judge._set = replace(judge._set, redraw=lambda stream: None)
    assert not judge.is_side_by_side
