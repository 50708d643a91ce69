"""Experts by GSAM: the direction against formulas in float64, training, names, resumption."""

import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from nsdbench import data, experts, models
from nsdbench.experts.gsam import redirect_gradients
from nsdbench.seeding import generator
from nsdbench.student import augment, capture
from nsdbench.student.graph import Engine
from tests.student.recorder import FakeRecorder

DATASET = "synthetic:3x1x8x8@10+2"
ARCH = "convnet1-w4"
PLAIN = experts.ExpertRecipe(num_experts=2, epochs=3, batch_size=8, lr=0.05)
GSAM = replace(PLAIN, optimiser="gsam", rho=0.5, alpha=0.7)


def record(root, recipe, seed=0, **options):
    dataset = data.load(DATASET)
    preprocessing = data.preprocessing("standardise", dataset)
    run = experts.Run(**options)
    return experts.record(dataset, preprocessing, ARCH, recipe, seed=seed, root=root, run=run)


def small_network(dtype=torch.float64):
    """Two parameter tensors of different sizes, a loss that is not quadratic."""
    stream = generator(0, "network")
    shapes = ((3, 4), (2, 3))
    weights = [
        torch.nn.Parameter(torch.randn(shape, generator=stream, dtype=torch.float64).to(dtype))
        for shape in shapes
    ]
    x = torch.randn(5, 4, generator=stream, dtype=torch.float64).to(dtype)
    y = torch.tensor([0, 1, 1, 0, 1])

    def loss():
        return F.cross_entropy(torch.tanh(x @ weights[0].T) @ weights[1].T, y)

    return weights, loss


def direction_by_hand(weights, loss, rho, alpha):
    """The formulas of the paper, element by element: norms with fsum, the cosine written out."""
    values = [w for tensor in weights for w in tensor.detach().flatten().tolist()]

    def gradient(at):
        offset = 0
        for tensor in weights:
            part = torch.tensor(at[offset : offset + tensor.numel()], dtype=tensor.dtype)
            tensor.data = part.view_as(tensor)
            offset += tensor.numel()
        found = torch.autograd.grad(loss(), weights)
        return [value for tensor in found for value in tensor.flatten().tolist()]

    g = gradient(values)
    size = math.sqrt(math.fsum((abs(w) * d) ** 2 for w, d in zip(values, g, strict=True)))
    climbed = [w + rho * w * w * d / size for w, d in zip(values, g, strict=True)]
    p = gradient(climbed)
    gradient(values)  # back to where it was
    length_g, length_p = (math.sqrt(math.fsum(d * d for d in v)) for v in (g, p))
    cosine = math.fsum(a * b for a, b in zip(g, p, strict=True)) / (length_g * length_p)
    orthogonal = [a - cosine * length_g * b / length_p for a, b in zip(g, p, strict=True)]
    assert abs(math.fsum(a * b for a, b in zip(orthogonal, p, strict=True))) < 1e-12
    return [b - alpha * v for b, v in zip(p, orthogonal, strict=True)]


def redirected(weights, loss, rho, alpha):
    for weight, grad in zip(weights, torch.autograd.grad(loss(), weights), strict=True):
        weight.grad = grad
    redirect_gradients(weights, loss, rho, alpha)
    return torch.cat([weight.grad.flatten() for weight in weights])


@pytest.mark.parametrize(("rho", "alpha"), [(0.3, 0.4), (0.01, 1.0), (0.5, 0.0), (2.0, 0.3)])
def test_direction_is_that_of_the_formulas(rho, alpha):
    weights, loss = small_network()
    expected = torch.tensor(direction_by_hand(weights, loss, rho, alpha), dtype=torch.float64)
    before = [weight.detach().clone() for weight in weights]
    found = redirected(weights, loss, rho, alpha)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    assert all(torch.equal(w, b) for w, b in zip(weights, before, strict=True))
    plain = torch.cat([g.flatten() for g in torch.autograd.grad(loss(), weights)])
    assert (found - plain).norm() > 1e-3 * plain.norm(), "the perturbation must matter here"


def test_without_radius_it_is_the_gradient():
    """g' = g has no orthogonal part, whatever alpha is."""
    weights, loss = small_network()
    plain = torch.cat([g.flatten() for g in torch.autograd.grad(loss(), weights)])
    torch.testing.assert_close(redirected(weights, loss, 0.0, 0.9), plain, rtol=1e-10, atol=1e-12)


def test_where_the_gradient_vanishes_the_direction_is_zero():
    weight = torch.nn.Parameter(torch.tensor([1.0, 2.0], dtype=torch.float64))
    found = redirected([weight], lambda: (0 * weight).sum(), 0.5, 0.5)
    assert found.tolist() == [0.0, 0.0]


def test_snapshots_are_those_of_a_plain_loop(tmp_path):
    """Both gradients see one augmented batch; the step is SGD's along the redirected gradient."""
    found = record(tmp_path, GSAM, seed=5)
    dataset = data.load(DATASET)
    inputs = data.preprocessing("standardise", dataset).apply(dataset.train.images)
    labels = dataset.train.labels
    model = models.from_id(ARCH, in_channels=1, image_size=8, num_classes=3)
    models.load_flat(model, found.snapshot(1, 0))
    for epoch in range(3):
        stream = generator(5, "experts", 1, "epoch", epoch)
        for rows in torch.randperm(30, generator=stream).split(8):
            draw = augment.sample(GSAM.dsa_strategy, len(rows), (1, 8, 8), stream)
            x, y = augment.apply(inputs[rows], draw), labels[rows]
            theta = models.flatten(model).detach().clone()
            g = flat_gradient(model, x, y)
            models.load_flat(model, theta + GSAM.rho * theta**2 * g / (theta.abs() * g).norm())
            p = flat_gradient(model, x, y)
            direction = p - GSAM.alpha * (g - (g @ p) / (p @ p) * p)
            models.load_flat(model, theta - GSAM.lr * direction)
        torch.testing.assert_close(
            found.snapshot(1, epoch + 1), models.flatten(model), rtol=1e-4, atol=1e-5
        )
    plain = record(tmp_path, PLAIN, seed=5)
    assert (found.snapshot(1, 3) - plain.snapshot(1, 3)).norm() > 1e-2


def flat_gradient(model, x, y):
    loss = F.cross_entropy(model(x), y)
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))])


def test_radius_zero_trains_as_plain_sgd(tmp_path):
    plain = record(tmp_path, PLAIN)
    still = record(tmp_path, replace(GSAM, rho=0.0))
    assert plain.path != still.path
    for expert in range(2):
        torch.testing.assert_close(
            plain.snapshot(expert, 3), still.snapshot(expert, 3), rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize("recipe", [PLAIN, GSAM], ids=["plain", "gsam"])
def test_captured_steps_record_the_same_experts(recipe, tmp_path, monkeypatch):
    """Through a stand-in for captures: one graph a batch size, for all experts and epochs."""
    eager, recorder = record(tmp_path / "eager", recipe), FakeRecorder()
    engine = Engine(recorder)
    monkeypatch.setattr(capture, "engine_for", lambda device: engine)
    captured = record(tmp_path / "captured", recipe)
    assert (recorder.captures, recorder.replays) == (2, 2 * 3 * 4)
    for expert in range(2):
        assert torch.equal(captured.snapshot(expert, 3), eager.snapshot(expert, 3))


def test_a_killed_recording_goes_on_bit_for_bit(tmp_path):
    def stop(phase, done, total):
        if done == 4:
            raise KeyboardInterrupt

    undisturbed = record(tmp_path / "whole", GSAM)
    with pytest.raises(KeyboardInterrupt):
        record(tmp_path / "cut", GSAM, progress=stop)
    resumed = record(tmp_path / "cut", GSAM)
    for expert in range(2):
        assert torch.equal(resumed.snapshot(expert, 3), undisturbed.snapshot(expert, 3))


def test_names_tell_gsam_apart_and_those_of_plain_experts_stay(tmp_path):
    """Buffers on users' disks are found by these names."""
    assert experts.ExpertRecipe().hash == (
        "1599f64ca1694264b405f2c47939c0086c5f3c612121775f4983465ba89c0398"
    )
    plain = record(tmp_path, PLAIN)
    assert plain.path.name == "synthetic_3x1x8x8_10_2-convnet1-w4-e4c7bbebcc0b95c0"
    assert "optimiser" not in plain.manifest["recipe"]
    recipes = [GSAM, replace(GSAM, rho=0.1), replace(GSAM, alpha=0.1)]
    assert len({record(tmp_path, recipe).path for recipe in recipes} | {plain.path}) == 4
    assert record(tmp_path, GSAM).manifest["recipe"]["rho"] == 0.5


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"optimiser": "adam"}, "optimiser is 'adam'; expected one of sgd, gsam"),
        ({"optimiser": "gsam", "rho": -0.1}, "rho -0.1 .* neither may be negative"),
        ({"optimiser": "gsam", "alpha": -1.0}, "alpha -1.0: neither may be negative"),
        ({"rho": 0.1}, 'rho 0.1 .* settings of GSAM.*set optimiser = "gsam"'),
        ({"alpha": 0.1}, "alpha 0.1 are settings of GSAM"),
    ],
)
def test_settings_out_of_range(settings, message):
    with pytest.raises(ValueError, match=message):
        experts.ExpertRecipe(**settings)
