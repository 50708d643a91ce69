"""The unrolled student against plain PyTorch training, autograd and an adjoint written out here."""

import copy

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F

from nsdbench import models
from nsdbench.student import augment, checks, convnet_step, unroll
from nsdbench.student import step as inner_step
from tests.memory import VECTOR_BYTES, peak_bytes

STRATEGY = "color_crop_cutout_flip_scale_rotate"
NUM_CLASSES = 3
# Step sizes well below 2 / (largest curvature). Above it training is chaotic, and rounding, which
# differs between one graph and N small ones, grows by orders of magnitude a step.
LR = {"convnet": 0.05, "resnet18": 0.001, "vit_tiny": 0.05}


@pytest.fixture(autouse=True)
def implementation(request, monkeypatch):
    """Run a test on the generic step, or on the one a parameter names."""
    name = getattr(request, "param", "generic")
    monkeypatch.setenv("NSDBENCH_NATIVE", "0" if name == "generic" else "1")
    if name == "fused":
        request.getfixturevalue("fused_on_cpu")
    return name


on_every_path = pytest.mark.parametrize(
    "implementation", ["generic", "native", "fused"], indirect=True
)


class Problem:
    """A student, its data and a scalar J(theta_N) whose four gradients are compared."""

    def __init__(
        self,
        name="convnet",
        num_steps=5,
        momentum=0.0,
        is_augmented=True,
        is_soft=True,
        num_images=7,
        batch_size=3,
        seed=0,
    ):
        self.generator = torch.Generator().manual_seed(seed)
        size = 32 if name == "resnet18" else 8  # at 16 px a ResNet normalises over 2x2 positions
        shape = (3, size, size)
        sizes = {"in_channels": 3, "image_size": size, "num_classes": NUM_CLASSES}
        depth = 2 if name == "convnet" else None
        width = 3 if name == "vit_tiny" else 4
        self.model = models.build(name, **sizes, width=width, depth=depth)
        models.initialize(self.model, self.generator)
        self.model.double()
        self.theta = models.flatten(self.model)
        self.images = self.randn(num_images, *shape)
        self.labels = (
            self.randn(num_images, NUM_CLASSES).softmax(dim=1)
            if is_soft
            else torch.randint(NUM_CLASSES, (num_images,), generator=self.generator)
        )
        self.lr = torch.tensor(LR[name], dtype=torch.float64)
        # Lengths differ, and with 7 images the steps share some.
        lengths = [batch_size - k % 2 for k in range(num_steps)]
        self.batches = [
            torch.randperm(num_images, generator=self.generator)[:length] for length in lengths
        ]
        self.draws = None
        if is_augmented:
            self.draws = [
                augment.sample(STRATEGY, length, shape, self.generator) for length in lengths
            ]
        self.momentum = momentum
        self.target = self.theta + 0.1 * self.randn(len(self.theta))

    def randn(self, *shape):
        return torch.randn(shape, dtype=torch.float64, generator=self.generator)

    @property
    def inputs(self):
        return {"theta": self.theta, "images": self.images, "labels": self.labels, "lr": self.lr}

    def train(self, mode, inputs=None):
        inputs = self.inputs if inputs is None else inputs
        return unroll.unrolled_sgd(
            self.model,
            inputs["theta"],
            inputs["images"],
            inputs["labels"],
            self.batches,
            inputs["lr"],
            momentum=self.momentum,
            augment=self.draws,
            mode=mode,
        )

    def distance(self, theta):
        return (theta - self.target).square().sum()

    def gradients(self, mode):
        """dJ/d(theta, images, soft labels, lr) by name."""
        inputs = {
            name: tensor.clone().requires_grad_(tensor.is_floating_point())
            for name, tensor in self.inputs.items()
        }
        learned = {name: tensor for name, tensor in inputs.items() if tensor.requires_grad}
        found = torch.autograd.grad(self.distance(self.train(mode, inputs)), learned.values())
        return dict(zip(learned, found, strict=True))


def relative_errors(ours, reference):
    """|a - b| / |b| of every gradient."""
    assert ours.keys() == reference.keys()
    return {
        name: float((ours[name] - reference[name]).norm() / reference[name].norm())
        for name in reference
    }


def batch_loss(problem, theta, images, labels, k):
    """L of step k, without anything from the module under test."""
    x = images[problem.batches[k]]
    if problem.draws is not None:
        x = augment.apply(x, problem.draws[k])
    parameters, start = {}, 0
    for name, parameter in problem.model.named_parameters():
        piece = theta[start : start + parameter.numel()]
        parameters[name] = piece.reshape(parameter.shape)
        start += parameter.numel()
    logits = functional_call(problem.model, parameters, (x,))
    return F.cross_entropy(logits, labels[problem.batches[k]])


CASES = [
    pytest.param(name, n, mu, is_augmented, is_soft, id=f"{name}-{n}-{mu}-{is_augmented}-{is_soft}")
    for name in ("convnet", "resnet18", "vit_tiny")
    for n in (1, 2, 5)
    for mu in (0.0, 0.9)
    for is_augmented in (False, True)
    for is_soft in (False, True)
    if name == "convnet" or n < 5 or is_soft  # ResNets are slow: hard labels up to two steps
    if name != "vit_tiny" or (n == 2 and mu and is_augmented)
]


@on_every_path
@pytest.mark.parametrize("mode", unroll.MODES)
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_theta_is_what_sgd_makes(momentum, mode):
    problem = Problem(momentum=momentum)
    model = copy.deepcopy(problem.model)
    optimiser = torch.optim.SGD(model.parameters(), lr=float(problem.lr), momentum=momentum)
    for batch, draw in zip(problem.batches, problem.draws, strict=True):
        optimiser.zero_grad()
        logits = model(augment.apply(problem.images[batch], draw))
        F.cross_entropy(logits, problem.labels[batch]).backward()
        optimiser.step()
    expected = models.flatten(model)
    assert (expected - problem.theta).norm() > 1e-3 * problem.theta.norm()
    problem.images.requires_grad_()
    torch.testing.assert_close(problem.train(mode).detach(), expected, rtol=1e-12, atol=1e-12)
    with torch.no_grad():
        torch.testing.assert_close(problem.train(mode), expected, rtol=1e-12, atol=1e-12)


NATIVE_CASES = [case for case in CASES if case.values[0] == "convnet"]


@pytest.mark.parametrize(("name", "n", "momentum", "is_augmented", "is_soft"), NATIVE_CASES)
@pytest.mark.parametrize("implementation", ["native"], indirect=True)
def test_native_exact_equals_full(name, n, momentum, is_augmented, is_soft):
    test_exact_equals_full(name, n, momentum, is_augmented, is_soft)


@pytest.mark.parametrize(("name", "n", "momentum", "is_augmented", "is_soft"), CASES)
def test_exact_equals_full(name, n, momentum, is_augmented, is_soft):
    problem = Problem(name, n, momentum, is_augmented, is_soft)
    full = problem.gradients("full")
    assert set(full) == {"theta", "images", "lr"} | ({"labels"} if is_soft else set())
    errors = relative_errors(problem.gradients("exact"), full)
    assert max(errors.values()) < 1e-12, errors


def test_gradients_equal_finite_differences():
    """On a smooth network: near a kink of a ReLU, theta_N jumps and differences mean nothing."""
    generator = torch.Generator().manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.GroupNorm(2, 2), nn.Tanh(), nn.Flatten(), nn.Linear(8, 3)
    )
    models.initialize(model, generator)
    theta = models.flatten(model.double())
    images = torch.randn(4, 1, 4, 4, generator=generator, dtype=torch.float64)
    labels = torch.rand(4, 3, generator=generator, dtype=torch.float64)
    lr = torch.tensor(0.1, dtype=torch.float64)
    batches = [torch.tensor([0, 1]), torch.tensor([1, 2, 3]), torch.tensor([3, 0])]
    draws = [
        augment.sample(op, len(batch), (1, 4, 4), generator)
        for op, batch in zip(("color", "rotate", "crop"), batches, strict=True)
    ]
    for mode in ("full", "exact"):
        for momentum in (0.0, 0.5):

            def train(*inputs, mode=mode, momentum=momentum):
                theta, images, labels, lr = inputs
                return unroll.unrolled_sgd(
                    model,
                    theta,
                    images,
                    labels,
                    batches,
                    lr,
                    momentum=momentum,
                    augment=draws,
                    mode=mode,
                )

            leaves = [t.clone().requires_grad_() for t in (theta, images, labels, lr)]
            assert torch.autograd.gradcheck(train, leaves, fast_mode=True)


def first_order_gradients(problem):
    """lambda_k = lambda_N for every k: g_k depends on x and y, theta_k does not.

    With p_k = sum_{j >= k} mu^(j - k) lambda_N,
    dJ = -lr sum_k <p_k, dg_k(x, y)> - dlr sum_k <p_k, g_k>.
    """
    images, labels = (t.clone().requires_grad_() for t in (problem.images, problem.labels))
    theta, velocity, gradients = problem.theta, torch.zeros_like(problem.theta), []
    for k in range(len(problem.batches)):
        leaf = theta.clone().requires_grad_()
        loss = batch_loss(problem, leaf, images, labels, k)
        gradients.append(torch.autograd.grad(loss, leaf, create_graph=True)[0])
        velocity = problem.momentum * velocity + gradients[-1].detach()
        theta = theta - problem.lr * velocity
    adjoint = 2 * (theta - problem.target)
    total = sum(
        sum(problem.momentum**j for j in range(len(gradients) - k)) * torch.dot(g, adjoint)
        for k, g in enumerate(gradients)
    )
    by_images, by_labels = torch.autograd.grad(-problem.lr * total, (images, labels))
    return {
        "theta": adjoint,
        "images": by_images,
        "labels": by_labels,
        "lr": -total.detach(),
    }


@on_every_path
@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("n", [1, 2, 5])
def test_first_order_equals_its_definition(n, momentum):
    problem = Problem(num_steps=n, momentum=momentum)
    errors = relative_errors(problem.gradients("first_order"), first_order_gradients(problem))
    assert max(errors.values()) < 1e-12, errors


@on_every_path
def test_first_order_is_not_exact():
    problem = Problem(num_steps=10)
    errors = relative_errors(problem.gradients("first_order"), problem.gradients("exact"))
    assert min(errors.values()) > 0.1, errors


def change_h_theta(monkeypatch, change):
    """Change what the adjoint of every implementation returns as h_theta."""
    for step in (inner_step.InnerStep, *convnet_step.STEPS.values()):

        def changed(self, *arguments, original=step.adjoint):
            along, (h_theta, h_x, h_y) = original(self, *arguments)
            return along, [None if h_theta is None else change(h_theta), h_x, h_y]

        monkeypatch.setattr(step, "adjoint", changed)


def drop_h_theta(monkeypatch):
    change_h_theta(monkeypatch, torch.zeros_like)


def flip_sign_of_lambda(monkeypatch):
    change_h_theta(monkeypatch, torch.neg)


def reuse_one_draw(monkeypatch):
    """Replay every step with the first step's augmentation (the batches have equal lengths)."""
    run_adjoint = unroll._run_adjoint

    def reused(plan, *arguments):
        draws = [plan.augment[0]] * len(plan.augment)
        return run_adjoint(type(plan)(**{**vars(plan), "augment": draws}), *arguments)

    monkeypatch.setattr(unroll, "_run_adjoint", reused)


def forget_momentum(monkeypatch):
    """p_k = lambda_{k+1}: the velocity's own adjoint is lost."""
    run_adjoint = unroll._run_adjoint

    def forgetful(plan, *arguments):
        return run_adjoint(type(plan)(**{**vars(plan), "momentum": 0.0}), *arguments)

    monkeypatch.setattr(unroll, "_run_adjoint", forgetful)


def shift_the_trajectory(monkeypatch):
    """Evaluate the adjoint of step k at theta_{k+1}."""
    run_adjoint = unroll._run_adjoint
    monkeypatch.setattr(
        unroll,
        "_run_adjoint",
        lambda plan, trajectory, *rest: run_adjoint(plan, trajectory.roll(-1, 0), *rest),
    )


@on_every_path
@pytest.mark.parametrize(
    "mutate",
    [drop_h_theta, flip_sign_of_lambda, reuse_one_draw, forget_momentum, shift_the_trajectory],
)
def test_mutations_are_far_outside_the_tolerance(mutate, monkeypatch):
    """What test_exact_equals_full bounds by 1e-12 is above 1e-3 for a wrong adjoint."""
    problem = Problem(momentum=0.9)
    lengths = {len(batch) for batch in problem.batches}
    assert len(lengths) == 2
    problem.batches = [batch[: min(lengths)] for batch in problem.batches]
    problem.draws = [
        augment.sample(STRATEGY, min(lengths), (3, 8, 8), problem.generator)
        for _ in problem.batches
    ]
    full = problem.gradients("full")
    assert max(relative_errors(problem.gradients("exact"), full).values()) < 1e-12
    mutate(monkeypatch)
    errors = relative_errors(problem.gradients("exact"), full)
    assert errors["images"] > 1e-3, errors


@on_every_path
@pytest.mark.parametrize("mode", unroll.MODES)
def test_each_gradient_alone(mode):
    """Leaving other inputs undifferentiated does not change a gradient."""
    problem = Problem(momentum=0.9)
    together = problem.gradients(mode)
    for name, tensor in problem.inputs.items():
        leaf = tensor.clone().requires_grad_()
        theta = problem.train(mode, {**problem.inputs, name: leaf})
        alone = torch.autograd.grad(problem.distance(theta), leaf)[0]
        assert (alone - together[name]).norm() < 1e-12 * together[name].norm(), name


@on_every_path
def test_repeating_is_bit_identical():
    for mode in unroll.MODES:
        problem = Problem(momentum=0.9)
        first, second = problem.gradients(mode), problem.gradients(mode)
        assert all(torch.equal(first[name], second[name]) for name in first)
    images = problem.images.clone().requires_grad_()
    loss = problem.distance(problem.train("exact", {**problem.inputs, "images": images}))
    once = torch.autograd.grad(loss, images, retain_graph=True)[0]
    assert torch.equal(once, torch.autograd.grad(loss, images)[0])


@on_every_path
def test_images_shared_by_steps_and_images_unused():
    problem = Problem()
    problem.batches = [torch.tensor([4, 1, 4]), *[torch.tensor([4, 2])] * 4]
    problem.draws = None
    full, exact = problem.gradients("full"), problem.gradients("exact")
    assert max(relative_errors(exact, full).values()) < 1e-12
    unused = [0, 3, 5, 6]
    assert torch.equal(exact["images"][unused], torch.zeros(4, 3, 8, 8, dtype=torch.float64))
    assert exact["images"][[1, 2, 4]].abs().amax(dim=(1, 2, 3)).min() > 0


@on_every_path
def test_images_that_are_computed():
    """Gradients reach what decoded the images."""
    problem = Problem()
    code = problem.randn(7, 5).requires_grad_()
    decoder = problem.randn(5, 3 * 8 * 8)
    found = []
    for mode in ("full", "exact"):
        images = (code @ decoder).view(7, 3, 8, 8)
        theta = problem.train(mode, {**problem.inputs, "images": images})
        found.append(torch.autograd.grad(problem.distance(theta), code)[0])
    assert (found[0] - found[1]).norm() < 1e-12 * found[0].norm()


@on_every_path
def test_batches_as_one_tensor_and_lr_as_number():
    problem = Problem(is_augmented=False)
    problem.batches = torch.tensor([[0, 1], [2, 3], [1, 4]])
    expected = problem.train("exact")
    problem.batches = list(problem.batches)
    assert torch.equal(problem.train("exact"), expected)
    for lr in (float(problem.lr), problem.lr.view(1)):
        assert torch.equal(problem.train("exact", {**problem.inputs, "lr": lr}), expected)
    lr = problem.lr.view(1).clone().requires_grad_()
    problem.distance(problem.train("exact", {**problem.inputs, "lr": lr})).backward()
    assert lr.grad.shape == (1,)


@on_every_path
@pytest.mark.parametrize("mode", ["exact", "first_order"])
def test_differentiating_twice_is_a_clear_error(mode):
    """Also where J is linear in theta_N, so that its own gradient is a constant."""
    problem = Problem()
    weights = problem.randn(len(problem.theta))
    for scalar in (problem.distance, lambda theta: torch.dot(theta, weights)):
        images = problem.images.clone().requires_grad_()
        loss = scalar(problem.train(mode, {**problem.inputs, "images": images}))
        gradient = torch.autograd.grad(loss, images, create_graph=True)[0]
        with pytest.raises(RuntimeError, match="differentiated only once.*mode='full'"):
            (gradient.square().sum() + images.sum()).backward()


def test_full_can_be_differentiated_twice():
    problem = Problem(num_steps=2, is_augmented=False)
    images = problem.images.clone().requires_grad_()
    loss = problem.distance(problem.train("full", {**problem.inputs, "images": images}))
    gradient = torch.autograd.grad(loss, images, create_graph=True)[0]
    assert torch.autograd.grad(gradient.square().sum(), images)[0].abs().max() > 0


@on_every_path
def test_inputs_are_left_alone():
    problem = Problem()
    before = {name: tensor.clone() for name, tensor in problem.inputs.items()}
    parameters = models.flatten(problem.model)
    problem.gradients("exact")
    assert all(torch.equal(before[name], tensor) for name, tensor in problem.inputs.items())
    assert torch.equal(models.flatten(problem.model), parameters)
    assert all(parameter.grad is None for parameter in problem.model.parameters())


@pytest.mark.parametrize(
    "module", [nn.BatchNorm2d(3), nn.Dropout(0.5), nn.InstanceNorm2d(3, track_running_stats=True)]
)
def test_training_time_state_is_refused(module):
    problem = Problem(is_augmented=False)
    problem.model = nn.Sequential(module, nn.Flatten(), nn.Linear(192, NUM_CLASSES)).double()
    problem.theta = models.flatten(problem.model)
    problem.target = problem.theta + 1
    problem.model.train()
    with pytest.raises(ValueError, match=f"{type(module).__name__}.*training-time state.*eval"):
        problem.train("exact")
    with pytest.raises(ValueError, match="training-time state"):
        unroll.code_path(problem.model)
    problem.model.eval()
    errors = relative_errors(problem.gradients("exact"), problem.gradients("full"))
    assert max(errors.values()) < 1e-12


@pytest.mark.parametrize(
    ("draws", "modes"),
    [
        ("F.dropout(x, training=self.training)", {True}),
        ("F.dropout(x)", {True, False}),  # its default is that of training
        ("x", set()),
    ],
)
def test_a_users_network_that_draws_at_random_is_refused(draws, modes, tmp_path):
    """No module tells that it does; the try at the door does."""
    (tmp_path / "mine.py").write_text(
        "from torch.nn import Linear, functional as F\n"
        "class Net(Linear):\n"
        "    def __init__(self, in_channels, image_size, num_classes):\n"
        "        super().__init__(in_channels * image_size**2, num_classes)\n"
        f"    def forward(self, x):\n        return super().forward({draws}.flatten(1))\n"
    )
    sizes = {"in_channels": 3, "image_size": 8, "num_classes": NUM_CLASSES}
    model = models.from_id(f"{tmp_path}/mine.py:Net", **sizes)
    for is_training in (True, False):
        model.train(is_training)
        assert model.is_random(is_training=is_training) == (is_training in modes)
        if is_training not in modes:
            assert unroll.code_path(model) == "generic"
            continue
        with pytest.raises(ValueError, match=r"mine.py:Net~\w+ draws at random") as refused:
            unroll.code_path(model)
        assert ("model.eval" in str(refused.value)) == (False not in modes)


def test_code_path(monkeypatch, request):
    model = Problem().model
    assert {unroll.code_path(model, mode) for mode in unroll.MODES} == {"generic"}
    monkeypatch.setenv("NSDBENCH_NATIVE", "1")
    paths = [unroll.code_path(model, mode) for mode in ("full", "exact", "first_order")]
    assert paths == ["generic", "native", "native"]
    request.getfixturevalue("fused_on_cpu")
    assert unroll.code_path(model) == "fused"
    assert unroll.code_path(Problem("resnet18").model) == "generic"
    with pytest.raises(ValueError, match="unknown mode 'fast'.*full, exact, first_order"):
        unroll.code_path(model, "fast")


def broken(**changes):
    """Make a case: arguments of unrolled_sgd by name, changed."""
    problem = Problem(num_steps=2, is_augmented=False, is_soft=False)
    arguments = {
        "theta": problem.theta,
        "images": problem.images,
        "labels": problem.labels,
        "batches": problem.batches,
        "lr": problem.lr,
    }
    options = {"momentum": 0.0, "augment": None, "mode": "exact"}
    for name, change in changes.items():
        target = arguments if name in arguments else options
        target[name] = change(target[name])
    return lambda: unroll.unrolled_sgd(problem.model, *arguments.values(), **options)


def one_draw(_):
    generator = torch.Generator().manual_seed(0)
    return [augment.sample("flip", 3, (3, 8, 8), generator)]


def draws_of_the_wrong_length(_):
    generator = torch.Generator().manual_seed(0)
    return [augment.sample("flip", 5, (3, 8, 8), generator)] * 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"theta": lambda t: t[:-1]}, "theta has shape.*so theta must be"),
        ({"theta": lambda t: t[None]}, "theta has shape"),
        ({"theta": lambda t: t.float()}, "images are .* in the dtype of theta, torch.float32"),
        ({"images": lambda x: x.byte()}, "images are .* torch.uint8"),
        ({"labels": lambda y: y[:-1]}, r"labels are \[6\] torch.int64; expected classes \[7\]"),
        ({"labels": lambda y: y.int()}, r"labels are \[7\] torch.int32"),
        ({"labels": lambda y: y.double()}, r"labels are \[7\] torch.float64"),
        ({"labels": lambda y: F.one_hot(y).float()}, r"\[7, 3\] torch.float32"),
        ({"labels": lambda y: F.one_hot(y, 4).double()}, r"\[7, 4\], but the model has 3 logits"),
        ({"labels": lambda y: F.one_hot(y)[:, :2].double()}, r"expected probabilities \[7, 3\]"),
        (
            {"labels": lambda y: torch.cat([y[:-1], y[:1] * 0 - 100])},
            r"from -100 .* lie in \[0, 3\)",
        ),
        ({"labels": lambda y: y - 1}, r"labels run from -1 to 1"),
        ({"labels": lambda y: y + 1}, r"labels run from 1 to 3; the model has 3 logits"),
        ({"labels": lambda y: y.to("meta")}, "theta, images and labels are on cpu, cpu and meta"),
        ({"images": lambda x: x.to("meta")}, "cpu, meta and cpu: move them"),
        ({"theta": lambda t: t.to("meta")}, "meta, cpu and cpu: move them"),
        (
            {"batches": lambda b: [b[0], b[1].to("meta")]},
            r"batches\[1\] is on meta, the images on cpu",
        ),
        ({"lr": lambda lr: lr.detach().to("meta")}, "lr is on meta, theta on cpu"),
        ({"lr": lambda lr: torch.tensor(1)}, r"lr must be a scalar.*torch.int64"),
        ({"batches": lambda b: []}, "batches is empty"),
        ({"batches": lambda b: [b[0], b[1][:0]]}, r"batches\[1\] is \[0\]"),
        ({"batches": lambda b: [b[0].int()]}, r"batches\[0\] is \[3\] torch.int32"),
        ({"batches": lambda b: [b[0][None]]}, r"batches\[0\] is \[1, 3\]"),
        ({"batches": lambda b: [b[0] + 7]}, r"there are 7 images, so they must lie in \[0, 7\)"),
        ({"batches": lambda b: [b[0] - 7]}, "batches hold row numbers from -"),
        ({"lr": lambda lr: lr.repeat(2)}, r"lr must be a scalar, got a tensor of shape \[2\]"),
        ({"momentum": lambda mu: 1.0}, r"momentum must be in \[0, 1\), got 1.0"),
        ({"momentum": lambda mu: -0.1}, "momentum must be in"),
        ({"augment": one_draw}, "augment has 1 draws for 2 steps"),
        ({"augment": draws_of_the_wrong_length}, r"was drawn for \[5, 3, 8, 8\]"),
        ({"mode": lambda mode: "fast"}, "unknown mode 'fast'"),
    ],
)
def test_wrong_arguments(changes, message):
    broken()()
    for mode in unroll.MODES:
        with pytest.raises(ValueError, match=message):
            broken(**{"mode": lambda _, mode=mode: mode} | changes)()


def test_rows_that_may_repeat():
    assert checks.may_repeat(torch.tensor([3, 1, 3]))
    assert not checks.may_repeat(torch.tensor([3, 1, 2]))
    assert checks.may_repeat(torch.empty(2, dtype=torch.int64, device="meta"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_equals_cpu_and_repeats_itself():
    """Also with an image that a batch holds twice: its rows add up in a fixed order."""
    problem = Problem(momentum=0.9)
    problem.batches = [torch.tensor([4, 1, 4])] * 5
    problem.draws = None
    expected = problem.gradients("full")
    for name in ("model", "theta", "images", "labels", "lr", "target"):
        setattr(problem, name, getattr(problem, name).to("cuda"))
    first, second = problem.gradients("exact"), problem.gradients("exact")
    assert all(torch.equal(first[name], second[name]) for name in first)
    errors = relative_errors({name: g.cpu() for name, g in first.items()}, expected)
    assert max(errors.values()) < 1e-10, errors


PEAK = """
import sys, torch
from nsdbench import models, provenance
from nsdbench.student import unroll
mode, num_steps = sys.argv[1], int(sys.argv[2])
torch.set_num_threads(1)
model = models.build("convnet", in_channels=3, image_size=32, num_classes=10)
theta = models.flatten(model)
images = torch.randn(2, 3, 32, 32, requires_grad=True)
batches = torch.arange(2).expand(num_steps, 2)
end = unroll.unrolled_sgd(model, theta, images, torch.arange(2), batches, 0.01, mode=mode)
end.square().sum().backward()
print(provenance.peak_bytes())
"""


@pytest.mark.slow
def test_memory_grows_by_one_parameter_vector_a_step():
    """High-water marks of fresh processes; "full" shows that they would tell."""
    growth = peak_bytes(PEAK, "exact", 40) - peak_bytes(PEAK, "exact", 10)
    assert 30 * VECTOR_BYTES * 0.9 < growth < 30 * VECTOR_BYTES * 1.1
    assert peak_bytes(PEAK, "full", 14) - peak_bytes(PEAK, "full", 6) > 4 * 8 * VECTOR_BYTES
