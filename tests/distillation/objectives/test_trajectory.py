"""Trajectory matching: the loss against explicit sums, its draws, and its bad inputs."""

from dataclasses import dataclass
from typing import get_args

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nsdbench import data, models
from nsdbench.data.training import TrainingData
from nsdbench.distillation import objectives
from nsdbench.distillation.objectives import ObjectiveContext
from nsdbench.distillation.objectives.families.unrolled import TrajectorySettings
from nsdbench.distillation.objectives.trajectory import (
    TrajectoryMatching,
    draw_batches,
    matching_distance,
)
from nsdbench.seeding import generator
from nsdbench.sets import parameterizations
from nsdbench.student import augment
from nsdbench.student.unroll import MODES

NAME = "synthetic:3x1x8x8"
SETTINGS = {
    "syn_steps": 3,
    "expert_epochs": 2,
    "max_start_epoch": 2,
    "lr_inner": 0.05,
    "lr_inner_min": 1e-3,
    "guided_weight": 0.0,
    "real_batch": 7,
    "mode": "exact",
}


@dataclass(frozen=True)
class Segment:
    theta_start: torch.Tensor
    theta_target: torch.Tensor


class OneExpert:
    """An expert buffer with a single made-up trajectory."""

    num_epochs = 3

    def __init__(self, num_parameters: int):
        stream = generator(0, "expert")
        self.theta_start = 0.2 * torch.randn(num_parameters, generator=stream)
        self.theta_target = self.theta_start + 0.05 * torch.randn(num_parameters, generator=stream)

    def sample(self, stream, *, max_start_epoch, expert_epochs):
        torch.randint(max_start_epoch, (), generator=stream)
        return Segment(self.theta_start, self.theta_target)


@pytest.fixture
def world():
    dataset = data.load(NAME).without_test()
    real = TrainingData(dataset, data.preprocessing("standardise", dataset))
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.Tanh(), nn.Linear(5, 3))
    pixels = parameterizations.build({"name": "pixels"}, data.spec(NAME), 4)
    pixels.initialize(real, generator(0, "pixels"))
    return OneExpert(models.num_parameters(model)), model, real, pixels


def make(buffer, model, real, strategy="", **changes) -> TrajectoryMatching:
    context = ObjectiveContext(model, real, strategy, lambda: buffer)
    return TrajectoryMatching(context, TrajectorySettings(**{**SETTINGS, **changes}))


@pytest.mark.parametrize("gamma", [0.0, 0.7])
@pytest.mark.parametrize("batch_syn", [None, 5])
def test_loss_is_the_papers_formula(world, gamma, batch_syn):
    """l + gamma L of Algorithm 1, with the student trained by an explicit loop."""
    buffer, model, real, pixels = world
    objective = make(buffer, model, real, batch_syn=batch_syn, guided_weight=gamma)
    loss = objective.loss(pixels, 0, generator(1, "step"))

    stream = generator(1, "step")
    torch.randint(2, (), generator=stream)
    images, labels = pixels.decode()
    theta = buffer.theta_start
    permutations = [torch.randperm(12, generator=stream) for _ in range(1)] if batch_syn else []
    # 12 images in chunks of 5: the remainder of 2 comes first, then the later chunk
    batches = (
        [permutations[0][10:], permutations[0][5:10], permutations[0][:5]]
        if batch_syn
        else [torch.arange(12)] * 3
    )
    for batch in batches:
        theta = theta.detach().requires_grad_()
        student = models.functional(model, theta, images[batch])
        gradient = torch.autograd.grad(F.cross_entropy(student, labels[batch]), theta)[0]
        theta = theta - 0.05 * gradient
    gap = theta - buffer.theta_target
    expected = (gap @ gap) / ((buffer.theta_start - buffer.theta_target).norm() ** 2)
    if gamma:
        x_real, y_real = real.batch(torch.randperm(len(real), generator=stream)[:7])
        logits = models.functional(model, theta, x_real)
        expected = expected + gamma * F.cross_entropy(logits, y_real)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)


def test_gradient_agrees_with_finite_differences(world):
    buffer, model, real, pixels = world
    model.double()
    pixels.double()
    buffer.theta_start = buffer.theta_start.double()
    buffer.theta_target = buffer.theta_target.double()
    objective = make(buffer, model, real, "color_crop_scale", batch_syn=5).double()

    def loss():
        return objective.loss(pixels, 0, generator(3, "step"))

    loss().backward()
    for parameter in (pixels.spectra, objective.lr_inner):
        direction = torch.randn(parameter.shape, generator=generator(4, "direction")).double()
        along = float((parameter.grad * direction).sum())
        with torch.no_grad():
            values = []
            for sign in (1, -1):
                parameter += sign * 1e-5 * direction
                values.append(float(loss()))
                parameter -= sign * 1e-5 * direction
        assert along == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-6)


def test_the_guided_loss_changes_the_gradient_of_the_images(world):
    buffer, model, real, pixels = world
    gradients = []
    for gamma in (0.0, 1.0):
        objective = make(buffer, model, real, guided_weight=gamma)
        loss = objective.loss(pixels, 0, generator(1, "step"))
        gradients.append(torch.autograd.grad(loss, pixels.spectra)[0])
    assert (gradients[0] - gradients[1]).norm() > 1e-3 * gradients[0].norm()


def test_algorithm_1_as_printed(world):
    """Lines 14-16: the plain squared distance + gamma CE, and no update of the step size alpha."""
    buffer, model, real, pixels = world
    plain, ours = (
        make(buffer, model, real, guided_weight=gamma, **changes)
        for gamma, changes in ((0.7, {"normalised": False, "learns_lr_inner": False}), (0.0, {}))
    )
    scale = (buffer.theta_start - buffer.theta_target).square().sum()
    guided = make(buffer, model, real, guided_weight=0.7).loss(pixels, 0, generator(1, "step"))
    loss, matching = (
        objective.loss(pixels, 0, generator(1, "step")) for objective in (plain, ours)
    )
    torch.testing.assert_close(loss, scale * matching + (guided - matching), rtol=1e-5, atol=1e-6)
    assert abs(scale - 1) > 0.1, "the two formulas agree by chance"
    loss.backward()
    assert pixels.spectra.grad.norm() > 0 and plain.lr_inner.grad is None
    assert plain.parameter_groups({"lr_lr": 1.0}) == [] != ours.parameter_groups({"lr_lr": 1.0})


def test_a_fixed_step_size_stays(world):
    buffer, model, real, _ = world
    objective = make(buffer, model, real, learns_lr_inner=False, lr_inner=1e-5)
    objective.constrain()  # the floor of 1e-3 is that of learned ones
    assert objective.learned() == {"lr": pytest.approx(1e-5)}


def test_the_plain_distance_has_no_size_that_tells_a_runaway(world):
    buffer, model, real, _ = world
    assert make(buffer, model, real).explosion_threshold == 1e3
    assert make(buffer, model, real, normalised=False).explosion_threshold == float("inf")


def test_no_progress_is_a_distance_of_one():
    start, target = torch.zeros(4), torch.tensor([1.0, 2.0, 3.0, 4.0])
    assert matching_distance(start, start, target) == 1
    assert matching_distance(target, start, target) == 0


@pytest.mark.parametrize(("n", "batch", "steps"), [(10, 3, 9), (10, 5, 4), (7, 7, 2), (7, None, 3)])
def test_batches_use_every_image_once_a_pass(n, batch, steps):
    batches = draw_batches(n, batch, steps, generator(0, "batches"))
    assert len(batches) == steps
    if batch is None or batch >= n:
        assert all(torch.equal(b, torch.arange(n)) for b in batches)
        return
    per_pass = -(-n // batch)
    for first in range(0, steps - per_pass + 1, per_pass):
        whole = batches[first : first + per_pass]
        assert sorted(torch.cat(whole).tolist()) == list(range(n))
        assert len(whole[0]) == (n % batch or batch)
        assert all(len(b) == batch for b in whole[1:])


def test_only_the_rows_a_step_uses_are_decoded(world, monkeypatch):
    buffer, model, real, pixels = world
    asked = []
    decode = pixels.decode
    monkeypatch.setattr(
        pixels, "decode", lambda index, stream: asked.append(index) or decode(index, stream)
    )
    objective = make(buffer, model, real, syn_steps=1, batch_syn=5)
    objective.loss(pixels, 0, generator(0, "step"))
    assert len(asked[0]) == 2, "the short remainder of 12 in chunks of 5 comes first"


def test_step_size_stays_above_its_floor(world):
    buffer, model, real, _ = world
    objective = make(buffer, model, real)
    objective.lr_inner.data.fill_(-3.0)
    objective.constrain()
    assert objective.learned() == {"lr": pytest.approx(1e-3)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"syn_steps": 0}, "`syn_steps` is 0"),
        ({"syn_steps": 2.5}, "`syn_steps` is 2.5; expected a whole number"),
        (
            {"guided_weight": -1.0},
            "`guided_weight` is -1.0; expected a finite number of at least 0",
        ),
        ({"guided_weight": float("nan")}, "`guided_weight` is nan; expected a finite number"),
        ({"expert_epochs": 0}, "`expert_epochs` is 0; expected a whole number of at least 1"),
        ({"max_start_epoch": 0}, "`max_start_epoch` is 0; expected a whole number of at least 1"),
        ({"normalised": 1}, "`normalised` is 1; expected true or false"),
        ({"learns_lr_inner": "no"}, "`learns_lr_inner` is 'no'; expected true or false"),
        ({"mode": "exactly"}, "`mode` is 'exactly'; expected .*; did you mean exact"),
    ],
)
def test_bad_settings(changes, message):
    with pytest.raises(ValueError, match=f"objective 'trajectory': {message}"):
        objectives.read({"name": "trajectory", **SETTINGS, **changes})


def test_every_mode_of_the_unroll_can_be_set():
    assert set(get_args(TrajectorySettings.model_fields["mode"].annotation)) == set(MODES)


def test_targets_beyond_the_experts(world):
    buffer, model, real, _ = world
    with pytest.raises(ValueError, match="reach epoch 4, but the experts have 3"):
        make(buffer, model, real, max_start_epoch=3)


def test_augmentation_is_drawn_per_step(world, monkeypatch):
    """Every student step has a draw of its own; a shared draw would be another method."""
    buffer, model, real, pixels = world
    draws = []
    sample = augment.sample

    def record(*arguments, **options):
        draws.append(sample(*arguments, **options))
        return draws[-1]

    monkeypatch.setattr(augment, "sample", record)
    objective = make(buffer, model, real, "color")
    objective.loss(pixels, 0, generator(0, "step"))
    assert len(draws) == 3
    brightness = [draw.values["brightness"] for draw in draws]
    assert not torch.equal(brightness[0], brightness[1])
