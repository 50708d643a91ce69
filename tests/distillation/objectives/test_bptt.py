"""RTP's objective: gradient, augmentation, sampling and clipping against explicit statements."""

import pytest
import torch
import torch.nn.functional as F
from torch.func import functional_call

from nsdbench import data, models
from nsdbench.data.training import TrainingData
from nsdbench.distillation import objectives
from nsdbench.distillation.checkpoint import LoopState
from nsdbench.distillation.loop import optimise
from nsdbench.distillation.objectives import BackpropagationThroughTime, ObjectiveContext
from nsdbench.distillation.objectives.families.unrolled import BpttSettings
from nsdbench.distillation.objectives.registry import StepWork
from nsdbench.seeding import generator
from nsdbench.sets import parameterizations
from nsdbench.student import augment

NAME = "synthetic:3x1x8x8"
SETTINGS = {
    "syn_steps": 4,
    "lr_inner": 0.1,
    "momentum_inner": 0.9,
    "batch_syn": 2,
    "real_batch": 5,
    "strategy": "flip_rotate",
    "clip_norm": 1e6,
}


class Recorded(TrainingData):
    """Training data in float64 that remembers which rows were asked for."""

    def batch(self, index):
        self.rows = index
        images, labels = super().batch(index)
        return images.double(), labels


@pytest.fixture
def real():
    dataset = data.load(NAME).without_test()
    return Recorded(dataset, data.preprocessing("standardise", dataset))


@pytest.fixture
def bases():
    module = parameterizations.build(
        {"name": "bases", "t1": 2, "factor": 2, "images_per_class": 4}, data.spec(NAME), 4
    ).double()
    for tensor in module.parameters():
        stream = generator(0, "bases", tensor.numel())
        tensor.data = torch.randn(tensor.shape, generator=stream, dtype=torch.float64)
    return module


def make_model():
    return models.from_id("convnet1-w4", in_channels=1, image_size=8, num_classes=3).double()


def make(real, **changes):
    context = ObjectiveContext(make_model(), real, "", lambda: pytest.fail("experts were opened"))
    return BackpropagationThroughTime(context, BpttSettings(**{**SETTINGS, **changes}))


def gradients(objective, module, stream):
    module.zero_grad()
    value = objective.accumulate(module, 0, stream)
    return value, [tensor.grad.clone() for tensor in module.parameters()]


def moved(images, draw):
    """Mirror or turn all images alike, as RTP's code does."""
    if draw.op == "flip":
        return images.flip(3) if draw.values["flipped"].item() else images
    cos, sin = draw.values["angle"].double().cos(), draw.values["angle"].double().sin()
    theta = torch.stack([cos, -sin, 0 * cos, sin, cos, 0 * cos]).view(1, 2, 3)
    grid = F.affine_grid(theta.expand(len(images), 2, 3), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)


@pytest.mark.parametrize("seed", range(4))
def test_loss_and_gradient_are_those_of_full_autograd(real, bases, seed):
    """Every draw replayed: network, images of each class, one operation for all; then autograd."""
    value, found = gradients(make(real), bases, generator(seed, "bptt"))

    stream, twin = generator(seed, "bptt"), make_model()
    models.initialize(twin, stream)
    names = [name for name, _ in twin.named_parameters()]
    theta = [tensor.detach().clone().requires_grad_() for tensor in twin.parameters()]
    rows = [
        torch.cat([4 * c + torch.randperm(4, generator=stream)[:2] for c in range(3)])
        for _ in range(4)
    ]
    draw = augment.sample("flip_rotate", 1, (1, 8, 8), stream, siamese=True)

    def loss_of(theta, x, y):
        twin_parameters = dict(zip(names, theta, strict=True))
        features = functional_call(twin, twin_parameters, (x,), {"path": "generic"})
        return F.cross_entropy(features, y)

    small = bases.spectra[0]
    mixed = torch.einsum("kr,kchw->rchw", bases.kernels["1"][0], small)
    images = F.interpolate(mixed, scale_factor=2, mode="bilinear", align_corners=False)
    velocity = [torch.zeros_like(tensor) for tensor in theta]
    for batch in rows:
        loss = loss_of(theta, moved(images[batch], draw), batch // 4)
        gradient = torch.autograd.grad(loss, theta, create_graph=True)
        velocity = [0.9 * m + g for m, g in zip(velocity, gradient, strict=True)]
        theta = [t - 0.1 * m for t, m in zip(theta, velocity, strict=True)]
    chosen = [real.class_rows(c, 5, stream) for c in range(3)]
    x_real, y_real = real.batch(torch.cat(chosen))
    loss = loss_of(theta, moved(x_real, draw), y_real)
    assert value == pytest.approx(loss.item(), rel=1e-12)
    for gradient, expected in zip(
        found, torch.autograd.grad(loss, list(bases.parameters())), strict=True
    ):
        torch.testing.assert_close(gradient, expected, rtol=1e-10, atol=1e-12)


def test_both_operations_are_drawn():
    """So that the test above sees each."""
    drawn = set()
    for seed in range(4):
        stream = generator(seed, "bptt")
        models.initialize(make_model(), stream)
        for _ in range(4 * 3):
            torch.randperm(4, generator=stream)
        drawn.add(augment.sample("flip_rotate", 1, (1, 8, 8), stream).op)
    assert drawn == {"flip", "rotate"}


def test_clipping_shortens_all_gradients_together(real, bases):
    _, free = gradients(make(real), bases, generator(1))
    norm = torch.cat([gradient.flatten() for gradient in free]).norm()
    _, clipped = gradients(make(real, clip_norm=norm.item() / 3), bases, generator(1))
    _, untouched = gradients(make(real, clip_norm=2 * norm.item()), bases, generator(1))
    for before, after, same in zip(free, clipped, untouched, strict=True):
        torch.testing.assert_close(after, before / 3 * norm / (norm + 1e-6), rtol=1e-10, atol=0)
        assert torch.equal(before, same)


def test_classes_are_drawn_for_a_step_and_images_for_each_student_step(real):
    pixels = parameterizations.build({"name": "pixels"}, data.spec(NAME), 4).double()
    pixels.spectra.data.normal_(generator=generator(2))
    objective = make(real, num_classes=2, strategy="", syn_steps=1)
    seen = set()
    for step in range(12):
        _, (gradient,) = gradients(objective, pixels, generator(3, step))
        touched = torch.nonzero(gradient.view(12, -1).abs().sum(1)).flatten()
        classes = sorted(set(pixels.labels[touched].tolist()))
        assert len(classes) == 2 and len(touched) == 4, "two images of either class"
        assert real.labels[real.rows].bincount(minlength=3)[classes].tolist() == [5, 5]
        assert len(real.rows.unique()) == 10
        seen.add(tuple(classes))
    assert seen == {(0, 1), (0, 2), (1, 2)}

    batches = objective._draw_batches(pixels, [0, 2], generator(4))
    longer = make(real, syn_steps=50)._draw_batches(pixels, [0, 2], generator(4))
    assert torch.equal(batches[0], longer[0])
    for batch in longer:
        assert len(batch.unique()) == 4 and pixels.labels[batch].tolist() == [0, 0, 2, 2]
    assert len({tuple(batch.tolist()) for batch in longer}) > 10


def test_a_class_with_fewer_images_gives_all_it_has(real):
    pixels = parameterizations.build({"name": "pixels"}, data.spec(NAME), 1).double()
    (batch,) = make(real, syn_steps=1)._draw_batches(pixels, [0, 1, 2], generator(5))
    assert batch.tolist() == [0, 1, 2]
    value, _ = gradients(make(real, real_batch=1000), pixels, generator(5))
    assert value > 0 and len(real.rows) == len(real)


def test_a_resumed_run_is_bit_identical(tmp_path):
    dataset = data.load(NAME).without_test()
    plain = TrainingData(dataset, data.preprocessing("standardise", dataset))
    settings = {"momentum": 0.5, "lr_syn": 0.1, "lr_kernels": 0.1}

    def start():
        section = {"name": "bases", "t1": 2, "factor": 2}
        module = parameterizations.build(section, data.spec(NAME), 2)
        module.initialize(plain, generator(0, "bases"))
        objective = make(plain)
        objective._model.float()
        return LoopState.start(module, objective, settings)

    whole, first, second = start(), start(), start()
    optimise(whole, 4, 0)
    optimise(first, 2, 0)
    first.save(tmp_path / "run.pt")
    second.restore(tmp_path / "run.pt")
    optimise(second, 4, 0)
    assert whole.losses == second.losses
    for one, other in zip(
        whole.parameterization.parameters(), second.parameterization.parameters(), strict=True
    ):
        assert torch.equal(one, other)


def test_price():
    """150 steps of 320 images at 11 passes, 640 real ones at 3; a copy of the weights a step."""
    family, settings = objectives.read(
        {
            **{"name": "bptt", **SETTINGS},
            **{"syn_steps": 150, "batch_syn": 32, "real_batch": 64, "num_classes": 10},
        }
    )
    work = family.work(settings, 1150, 10)
    assert work == StepWork(150 * 320 * 11 + 640 * 3, 300, 150, 6 * 320)
    assert family.work(settings, 100, 10).passes == 150 * 100 * 11 + 640 * 3
    assert family.work(settings, 23_000, 100) == work


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"momentum_inner": 1.0}, "`momentum_inner` is 1.0"),
        ({"strategy": "blur"}, "`strategy`: unknown augmentation 'blur'"),
        ({"clip_norm": 0.0}, "`clip_norm` is 0.0"),
        ({"num_classes": 0}, "`num_classes` is 0"),
        ({"batch_syn": 0}, "`batch_syn` is 0"),
    ],
)
def test_bad_settings_are_named(changes, message):
    with pytest.raises(ValueError, match=f"objective 'bptt': {message}"):
        objectives.read({"name": "bptt", **SETTINGS, **changes})
