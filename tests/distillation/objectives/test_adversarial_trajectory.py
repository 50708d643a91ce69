"""HaBa's objective: its losses against loops and the authors' printout, its draws, its network."""

import copy

import pytest
import torch
import torch.nn.functional as F

from nsdbench import data, methods, models
from nsdbench.data.training import TrainingData
from nsdbench.distillation import objectives
from nsdbench.distillation.objectives import ObjectiveContext
from nsdbench.distillation.objectives.adversarial_trajectory import (
    AdversarialTrajectory,
    supervised_contrast,
)
from nsdbench.distillation.objectives.families.unrolled import AdversarialTrajectorySettings
from nsdbench.experts import ExpertSegment
from nsdbench.seeding import generator
from nsdbench.sets import parameterizations
from nsdbench.student import augment
from tests.student.recorder import NothingReadBack

NAME = "synthetic:3x1x8x8"
DSA = "color_crop_cutout_flip_scale_rotate"
SETTINGS = {
    "syn_steps": 4,
    "expert_epochs": 2,
    "max_start_epoch": 2,
    "lr_inner": 0.05,
    "lr_inner_min": 1e-3,
    "guided_weight": 0.0,
    "real_batch": 7,
    "mode": "exact",
    "batch_syn": 4,
    "cosine_weight": 0.3,
    "auxiliary_ce_weight": 0.9,
    "auxiliary_cosine_weight": 0.2,
    "auxiliary_contrast_weight": 0.4,
    "temperature": 0.07,
    "lr_auxiliary": 0.02,
    "momentum_auxiliary": 0.9,
    "momentum_lr": 0.8,
}


class OneExpert:
    """An expert buffer with a single made-up trajectory."""

    num_epochs = 3

    def __init__(self, theta):
        self.segment = ExpertSegment(theta, theta + 0.02 * torch.randn_like(theta), 0, 0)

    def sample(self, stream, *, max_start_epoch, expert_epochs):
        torch.randint(max_start_epoch, (), generator=stream)
        return self.segment


@pytest.fixture
def world():
    """Return the context, a set of 3 x 2 bases with 3 hallucinators, and the one segment."""
    torch.manual_seed(0)
    dataset = data.load(NAME).without_test()
    real = TrainingData(dataset, data.preprocessing("standardise", dataset))
    model = models.from_id("convnet2-w4", in_channels=1, image_size=8, num_classes=3)
    models.initialize(model, generator(0, "model"))
    buffer = OneExpert(models.flatten(model))
    section = {"name": "hallucinator", "num_hallucinators": 3, "over_budget": True}
    bases = parameterizations.build(section, data.spec(NAME), 2)
    bases.initialize(real, generator(0, "bases"))
    return ObjectiveContext(model, real, DSA, lambda: buffer), bases, buffer.segment


def make(context, **changes):
    settings = AdversarialTrajectorySettings(**{**SETTINGS, **changes})
    return AdversarialTrajectory(context, settings)


def draws_of_a_step(stream, *, initial=None):
    """Repeat what a step draws: expert, two permutations of 6 in chunks of 4, views.

    The chunks come as the authors' lists pop them: the short one first.
    """
    if initial is not None:
        models.initialize(initial, stream)
    torch.randint(2, (), generator=stream)
    chunks = []
    for _ in range(3):
        order = torch.randperm(6, generator=stream)
        chunks += [order[4:], order[:4]]
    return chunks, torch.randint(3, (4,), generator=stream)


def cosine(a, b):
    return (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1))


def two_views(bases, rows, stream):
    """Decode two different views and augment them by one call."""
    first, second = torch.randperm(3, generator=stream)[[0, -1]].tolist()
    assert first != second
    images = torch.cat([bases.decode_view(rows, view)[0] for view in (first, second)])
    draw = augment.sample(DSA, 2 * len(rows), (1, 8, 8), stream)
    return augment.apply(images, draw)


def test_contrast_by_a_double_loop():
    """Khosla et al., eq. 2 ("out"), with the mean over all anchors."""
    torch.manual_seed(1)
    features, labels = torch.randn(8, 5).double(), torch.tensor([0, 1, 2, 0, 0, 1, 2, 0])
    unit = [feature / feature.norm() for feature in features]
    total = 0.0
    for i in range(8):
        others = sum(torch.exp(unit[i] @ unit[a] / 0.3) for a in range(8) if a != i)
        positives = [p for p in range(8) if p != i and labels[p] == labels[i]]
        for p in positives:
            total -= torch.log(torch.exp(unit[i] @ unit[p] / 0.3) / others) / len(positives)
    found = supervised_contrast(features, labels, 0.3)
    torch.testing.assert_close(found, total / 8, rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    ("labels", "printed"),
    [([0, 1, 2, 0, 1, 1], 14.076166872002), ([0, 1, 2], 6.394499662251)],
)
def test_contrast_as_the_authors_code_prints_it(labels, printed):
    """SupConLoss of Huage001/DatasetFactorization at 60c9128, run on sin(0), sin(1), ..."""
    count = len(labels)
    features = torch.sin(torch.arange(count * 10, dtype=torch.float64)).view(count, 2, 5)
    both = features.transpose(0, 1).flatten(0, 1)
    found = supervised_contrast(both, torch.tensor(labels * 2), 0.07)
    assert found.item() == pytest.approx(printed, abs=1e-11)


@pytest.mark.parametrize("step", [0, 3])
def test_loss_is_the_authors_step(world, step):
    """One view a student step, chunks of one permutation stream, the next chunk for the pair."""
    context, bases, segment = world
    objective = make(context)
    auxiliary = copy.deepcopy(objective.auxiliary)
    loss = objective.loss(bases, step, generator(1, "step"))

    stream = generator(1, "step")
    chunks, views = draws_of_a_step(stream, initial=auxiliary if step == 0 else None)
    theta = segment.theta_start
    draws = [augment.sample(DSA, len(chunk), (1, 8, 8), stream) for chunk in chunks[:4]]
    for chunk, view, draw in zip(chunks, views.tolist(), draws, strict=False):
        images, labels = bases.decode_view(chunk, view)
        assert torch.equal(labels, chunk // 2)
        theta = theta.detach().requires_grad_()
        logits = models.functional(context.model, theta, augment.apply(images, draw))
        gradient = torch.autograd.grad(F.cross_entropy(logits, labels), theta)[0]
        theta = theta - 0.05 * gradient
    target = segment.theta_target
    matched = (theta - target).square().sum() / (segment.theta_start - target).square().sum()
    features = auxiliary.features(two_views(bases, chunks[4], stream)).flatten(1)
    count = len(chunks[4])
    alike = (1 + cosine(features[:count], features[count:])) / 2
    torch.testing.assert_close(loss, matched + 0.3 * alike.mean(), rtol=2e-4, atol=1e-5)


def test_the_auxiliary_network_descends_its_three_losses(world):
    """Two iterations by hand, with the velocity that the first one leaves behind."""
    context, bases, _ = world
    objective = make(context)
    theirs = copy.deepcopy(objective.auxiliary).requires_grad_(True)
    velocity = None
    for step in (0, 1):
        objective.accumulate(bases, step, stream := generator(step, "step"))
        with torch.no_grad():
            bases.bases += 0.1  # as if updated: the network must see these
        objective.after_update(bases, stream)

        stream = generator(step, "step")
        chunks, _ = draws_of_a_step(stream, initial=theirs if step == 0 else None)
        for chunk in chunks[:4]:
            augment.sample(DSA, len(chunk), (1, 8, 8), stream)
        two_views(bases, chunks[4], stream)
        labels = (chunks[5] // 2).repeat(2)
        features = theirs.features(two_views(bases, chunks[5], stream).detach()).flatten(1)
        first, second = features.chunk(2)
        contrast = supervised_contrast(features, labels, 0.07)
        loss = 0.9 * F.cross_entropy(theirs.classifier(features), labels) + 0.4 * contrast
        loss = loss + 0.2 * ((1 - cosine(first, second)) / 2).mean()
        parameters = list(theirs.parameters())
        gradients = torch.autograd.grad(loss, parameters)
        if velocity is None:
            velocity = [torch.zeros_like(gradient) for gradient in gradients]
        velocity = [0.9 * v + g for v, g in zip(velocity, gradients, strict=True)]
        with torch.no_grad():
            for parameter, v in zip(parameters, velocity, strict=True):
                parameter -= 0.02 * v
        found = models.flatten(objective.auxiliary)
        torch.testing.assert_close(found, models.flatten(theirs), rtol=1e-3, atol=1e-5)


def test_the_sets_step_leaves_the_auxiliary_network_alone_and_the_other_way_round(world):
    context, bases, _ = world
    objective = make(context)
    objective.accumulate(bases, 0, stream := generator(0, "step"))
    assert all(p.grad is None and not p.requires_grad for p in objective.auxiliary.parameters())
    before = [(p.clone(), p.grad.clone()) for p in bases.parameters()]
    rate = objective.lr_inner.grad.clone()
    objective.after_update(bases, stream)
    for parameter, (value, gradient) in zip(bases.parameters(), before, strict=True):
        assert torch.equal(parameter, value) and torch.equal(parameter.grad, gradient)
    assert torch.equal(objective.lr_inner.grad, rate)
    groups = objective.parameter_groups({"lr_lr": 0.5})
    assert [(g["params"], g["lr"], g["momentum"]) for g in groups] == [
        ([objective.lr_inner], 0.5, 0.8)
    ]


def test_the_cosine_term_reaches_bases_and_hallucinators(world):
    context, bases, _ = world
    gradients = []
    for weight in (0.0, 1.0):
        loss = make(context, cosine_weight=weight).loss(bases, 0, generator(1, "step"))
        gradients.append(torch.autograd.grad(loss, [bases.bases, bases.conv, bases.shift]))
    assert all((a - b).norm() > 1e-3 * a.norm() for a, b in zip(*gradients, strict=True))


def test_gradient_agrees_with_finite_differences(world):
    context, bases, segment = world
    context.model.double()
    bases.double()
    buffer = OneExpert(segment.theta_start.double())
    objective = make(
        ObjectiveContext(context.model, context.real, "color_crop_scale", lambda: buffer)
    ).double()

    def loss():
        return objective.loss(bases, 0, generator(3, "step"))

    loss().backward()
    for parameter in (bases.bases, bases.scale, bases.transposed, objective.lr_inner):
        direction = torch.randn(parameter.shape, generator=generator(4, "direction")).double()
        along = float((parameter.grad * direction).sum())
        with torch.no_grad():
            values = []
            for sign in (1, -1):
                parameter += sign * 1e-6 * direction
                values.append(float(loss()))
                parameter -= sign * 1e-6 * direction
        assert along == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-5)


def test_velocity_and_network_are_in_the_state(world):
    context, bases, _ = world
    objective, other = make(context), make(context)
    for step in (0, 1):
        objective.accumulate(bases, step, stream := generator(step, "step"))
        objective.after_update(bases, stream)
    other.load_state_dict(copy.deepcopy(objective.state_dict()))
    for learner in (objective, other):
        learner.loss(bases, 2, stream := generator(2, "step"))
        learner.after_update(bases, stream)
    assert torch.equal(models.flatten(other.auxiliary), models.flatten(objective.auxiliary))


def test_a_set_with_one_view_is_its_own_pair(world):
    context, _, _ = world
    pixels = parameterizations.build({"name": "pixels"}, data.spec(NAME), 2)
    pixels.initialize(context.real, generator(0, "pixels"))
    objective = make(
        ObjectiveContext(context.model, context.real, "", context.experts), cosine_weight=1.0
    )
    plain = make(context, cosine_weight=0.0)
    plain._dsa_strategy = ""
    stream = generator(1, "step")
    difference = objective.loss(pixels, 0, stream) - plain.loss(pixels, 0, generator(1, "step"))
    assert difference.item() == pytest.approx(1.0, abs=1e-5), "equal features: cosine one"
    objective.after_update(pixels, stream)


@pytest.mark.parametrize(
    ("ipc", "student"), [(1, (50, 2, 0.01)), (10, (30, 20, 0.001)), (50, (30, 20, 0.01))]
)
def test_published_settings(ipc, student):
    """The three scripts of the authors and the constants of distill_fac.py and buffer.py."""
    values = methods.resolve("haba", "CIFAR10", ipc, "paper").values
    objective, optimiser = values["objective"], values["optimiser"]
    names = ("syn_steps", "max_start_epoch", "lr_inner")
    assert tuple(objective[name] for name in names) == student
    assert "batch_syn" not in objective, "every step sees every base"
    assert (objective["expert_epochs"], objective["lr_inner_min"]) == (2, 1e-3)
    assert (objective["cosine_weight"], objective["auxiliary_cosine_weight"]) == (0.1, 0.1)
    assert (objective["auxiliary_ce_weight"], objective["auxiliary_contrast_weight"]) == (1, 0.1)
    assert (objective["lr_auxiliary"], objective["momentum_auxiliary"]) == (1e-3, 0.9)
    assert (objective["momentum_lr"], objective["temperature"]) == (0.9, 0.07)
    assert optimiser == {
        "momentum": 0.95, "iterations": 15_000, "lr_syn": 100, "lr_kernels": 100,
        "lr_lr": 1e-7 if ipc == 1 else 1e-5,
    }  # fmt: skip
    assert values["parameterization"] == {
        "name": "hallucinator", "num_hallucinators": 5, "over_budget": True,
    }  # fmt: skip
    assert values["data"]["preprocessing"] == "zca"
    mtt = methods.resolve("mtt", "CIFAR10", ipc, "paper").values["experts"]
    assert values["experts"] == mtt | {"standardises_batches": True, "epochs": 50}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"temperature": 0.0}, "`temperature` is 0.0"),
        ({"cosine_weight": -0.1}, "`cosine_weight` is -0.1"),
        ({"momentum_lr": 1.0}, "`momentum_lr` is 1.0"),
    ],
)
def test_bad_settings(changes, message):
    with pytest.raises(ValueError, match=f"objective 'adversarial-trajectory': {message}"):
        objectives.read({"name": "adversarial-trajectory", **SETTINGS, **changes})


def test_the_contrast_can_be_captured():
    """It reads nothing back from the tensors, so a GPU can replay the auxiliary step."""
    with NothingReadBack():
        supervised_contrast(torch.eye(4), torch.tensor([0, 0, 1, 1]), 0.1)
