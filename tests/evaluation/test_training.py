"""Evaluation: the training loop against an independent one, what it refuses, and the test split."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import TensorDataset

from nsdbench import data, models
from nsdbench.data.training import TrainingData
from nsdbench.errors import Diverged, TestSplitSealed
from nsdbench.evaluation import protocols
from nsdbench.evaluation.protocols import Protocol
from nsdbench.evaluation.training import (
    Judge,
    TrainingSet,
    average_over_epochs,
    evaluate,
    kept_on,
    train,
)
from nsdbench.seeding import generator
from nsdbench.sets import Artefact, parameterizations
from nsdbench.student import augment, capture
from nsdbench.student.graph import Engine
from tests.student.recorder import FakeRecorder

NAME = "synthetic:3x1x8x8"


@pytest.fixture(scope="module")
def dataset():
    return data.load(NAME)


@pytest.fixture
def tensors(dataset):
    split = dataset.train
    rows = torch.cat([torch.nonzero(split.labels == c).flatten()[:4] for c in range(3)])
    return data.preprocessing("standardise", dataset).apply(split.images[rows]), split.labels[rows]


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


def stored(name, metadata=None):
    """Make an artefact of pixels of another data set, or with other metadata."""
    pixels = parameterizations.build({"name": "pixels"}, data.spec(name), 1).requires_grad_(False)
    said = {"preprocessing": "standardise", "preprocessing_hash": ""}
    return Artefact(pixels, said if metadata is None else metadata)


def test_options_that_have_no_effect_on_a_source_are_errors(dataset):
    options = (dataset, "convnet1-w8", "common-2ep", 1)
    real = TrainingData(dataset, data.preprocessing("standardise", dataset))
    for said in (
        {"preprocessing_kind": "standardise"},
        {"pixels": "unit"},
        {"labels_are": "logits"},
    ):
        with pytest.raises(ValueError, match="no effect: an artefact of ours says itself"):
            evaluate(stored(NAME), *options, **said)
        with pytest.raises(ValueError, match="no effect: the real training data"):
            evaluate(real, *options, **said)
    with pytest.raises(ValueError, match="distilled from other training data"):
        evaluate(stored(NAME), *options)
    with pytest.raises(ValueError, match="does not say how its images were preprocessed"):
        evaluate(stored(NAME, {}), *options)


def test_artefacts_of_another_data_set_are_refused(dataset):
    transform = data.preprocessing("standardise", dataset)
    said = {"preprocessing": "standardise", "preprocessing_hash": transform.hash}
    for name, message in (
        ("synthetic:3x1x4x4", r"\[1, 4, 4\] images"),
        ("synthetic:5x1x8x8", "up to 4"),
    ):
        with pytest.raises(ValueError, match=message):
            evaluate(stored(name, said), dataset, "convnet1-w8", "common-2ep")


class Foreign:
    """Fifty real images of Digits16 with the logits of some network, as users bring them."""

    def __init__(self):
        self.data = data.load("Digits16")
        real = TrainingData(self.data, data.preprocessing("standardise", self.data))
        stream = torch.Generator().manual_seed(0)
        rows = torch.cat([real.class_rows(c, 5, stream) for c in range(10)])
        self.X, self.y = real.batch(rows)
        self.U = self.data.train.images[rows]
        torch.manual_seed(1)
        self.L = F.one_hot(self.y, 10) * 3.0 + torch.randn(50, 10)

    def score(self, source, **said):
        result = evaluate(source, self.data, "convnet2-w16", "common-60ep", repeats=2, **said)
        return sum(result.accuracies) / 2


@pytest.fixture(scope="module")
def foreign():
    return Foreign()


@pytest.mark.parametrize(
    ("source", "said", "score"),
    [
        (lambda f: (f.X, f.y), {}, 89.3),
        (lambda f: (f.X, f.L), {"labels_are": "logits"}, 86.7),
        (lambda f: (f.X, F.one_hot(f.y, 10) - 0.1), {"labels_are": "centred"}, 89.3),
        (lambda f: (f.U, f.y), {"pixels": "raw"}, 89.3),
        (lambda f: (f.U.double() / 255, f.y), {"pixels": "unit"}, 89.3),
        (lambda f: (f.X, f.y[:, None]), {}, 89.3),
        (lambda f: TensorDataset(f.X.double(), f.y.float()), {}, 89.3),
        (lambda f: (f.X.numpy(), f.y.int().numpy()), {}, 89.3),
    ],
)
def test_sets_of_others_score_what_they_are_worth(foreign, source, said, score):
    assert foreign.score(source(foreign), **said) == pytest.approx(score, abs=0.05)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (lambda f: (f.X, f.L), "give --labels-are logits"),
        (lambda f: (f.X, F.one_hot(f.y, 10) - 0.1), "give --labels-are centred"),
        (lambda f: (f.U, f.y), "give --pixels raw"),
        (lambda f: (f.U / 255, f.y), "give --pixels unit"),
        (
            lambda f: (f.X, f.y.clone().index_fill_(0, torch.arange(5), -100)),
            "-100; expected a class",
        ),
        (lambda f: (f.X, F.one_hot(f.y, 10) * 100), "sum 100"),
        (lambda f: (f.X, f.y + 0.5), "0.5; expected a class"),
        (lambda f: (f.X, F.one_hot(f.y, 10)[:, :5]), r"labels are \[50, 5\]"),
        (lambda f: (f.X, f.X), r"labels are \[50, 1, 16, 16\]"),
        (lambda f: (f.X[:0], f.y[:0]), "n at least 1"),
        (lambda f: (f.X, f.y * torch.nan), "is nan"),
    ],
)
def test_files_and_tensors_that_are_refused_in_the_same_words(foreign, tmp_path, source, message):
    with pytest.raises(ValueError, match=f"the set: .*{message}") as in_memory:
        foreign.score(source(foreign))
    torch.save(source(foreign), tmp_path / "f.pt")
    with pytest.raises(ValueError, match=message) as of_file:
        foreign.score(tmp_path / "f.pt")
    assert str(of_file.value) == str(in_memory.value).replace("the set", str(tmp_path / "f.pt"))


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


def test_a_set_kept_on_a_device_gives_the_same_rows(tensors):
    images, labels = tensors
    kept = kept_on(TrainingSet(12, lambda rows: (images[rows], labels[rows])), torch.device("cpu"))
    rows = torch.tensor([3, 0, 3])
    assert kept.num_images == 12 and kept.redraw is None
    assert all(map(torch.equal, kept.fetch(rows), (images[rows], labels[rows])))
