"""`convnet_step`, its adjoint, and what the unrolled student makes of them."""

import itertools
import statistics

import pytest
import torch
from torch.nn import functional as F

from nsdbench import models
from nsdbench.ops import reference
from nsdbench.ops.backend import operators
from nsdbench.ops.convnet import convnet_step, convnet_step_adjoint
from nsdbench.student import augment, unroll
from tests.memory import VECTOR_BYTES, peak_bytes
from tests.ops.test_convnet_features import CASES, Case, error, without_conv_biases

NUM_CLASSES = 5
NATIVE = operators()
CASES = CASES | {"one-image": Case(1, 3, (8, 8), 2, 4)}


class Problem:
    """theta, a batch, and a direction in theta."""

    def __init__(self, case, is_soft, dtype=torch.float64, seed=0):
        generator = torch.Generator().manual_seed(seed)
        self.case, self.shape = case, case.shape
        x = torch.randn(case.images, case.channels, *case.size, generator=generator)
        count = case.shape.num_parameters(x, NUM_CLASSES)
        self.theta = torch.randn(count, generator=generator).to(dtype) / 3
        self.direction = torch.randn(count, generator=generator).to(dtype)
        self.x = x.to(dtype)
        self.y = torch.randint(NUM_CLASSES, (case.images,), generator=generator)
        if is_soft:  # rows need not sum to 1
            self.y = torch.rand(case.images, NUM_CLASSES, generator=generator).to(dtype)

    def loss(self, theta, x, y):
        case = self.case
        return reference.convnet_loss(theta, x, y, case.depth, case.width, case.shape.padding)

    def step(self, lr=0.1, **options):
        return convnet_step(self.theta, self.x, self.y, lr, self.shape, **options)

    def adjoint(self, direction=None, needs=None):
        direction = self.direction if direction is None else direction
        needs = (True, True, self.y.dim() == 2) if needs is None else needs
        return convnet_step_adjoint(self.theta, self.x, self.y, direction, self.shape, needs)

    def twin(self):
        """L, g, <g, p>, and the derivatives of g along p, by autograd."""
        leaves = [self.theta, self.x, *([self.y] if self.y.dim() == 2 else [])]
        leaves = [leaf.clone().requires_grad_() for leaf in leaves]
        y = leaves[2] if self.y.dim() == 2 else self.y
        loss = self.loss(leaves[0], leaves[1], y)
        gradient = torch.autograd.grad(loss, leaves[0], create_graph=True)[0]
        along = torch.dot(gradient, self.direction)
        h_theta, *rest = torch.autograd.grad(along, leaves)
        clean = [without_conv_biases(self.case, t.detach()) for t in (gradient, h_theta)]
        return loss.detach(), clean[0], along.detach(), [clean[1], *rest]


@pytest.mark.parametrize("is_soft", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_step_and_adjoint_equal_the_twin(name, is_soft):
    problem = Problem(CASES[name], is_soft)
    loss, gradient, along, exact = problem.twin()
    theta, velocity, our_loss = problem.step(lr=0.1)
    assert error(our_loss, loss) < 1e-10
    assert error(velocity, gradient) < 1e-10
    assert error(theta, problem.theta - 0.1 * gradient) < 1e-10
    again, our_along, found = problem.adjoint()
    assert torch.equal(again, our_loss)  # the same forward pass, bit by bit
    assert error(our_along, along) < 1e-10
    for h, expected in zip(found, exact, strict=False):
        assert error(h, expected) < 1e-10
    assert len(exact) == 3 or found[2] is None


@pytest.mark.parametrize("name", ["colour", "odd-maps", "uneven-groups", "one-block"])
def test_the_recomputed_forward_pass_is_the_first_one(name):
    """Bit by bit, with tangents and without, in float32, where another rounding would show."""
    for seed in range(5):
        problem = Problem(CASES[name], False, torch.float32, seed)
        assert torch.equal(problem.step()[2], problem.adjoint()[0])


def test_the_hessian_is_symmetric_and_the_adjoint_linear():
    problem = Problem(CASES["colour"], True)
    p = problem.direction
    q = p.roll(17) + 0.3
    (_, _, for_p), (_, _, for_q) = problem.adjoint(p), problem.adjoint(q)
    assert torch.dot(q, for_p[0]).isclose(torch.dot(p, for_q[0]), rtol=1e-10)
    _, _, for_sum = problem.adjoint(2 * p - 3 * q)
    for a, b, both in zip(for_p, for_q, for_sum, strict=True):
        assert error(both, 2 * a - 3 * b) < 1e-10


def test_adjoint_equals_finite_differences_of_gradients():
    problem = Problem(CASES["two-channels"], True)

    def gradients(step):
        theta = (problem.theta + step * problem.direction).requires_grad_()
        leaves = (theta, problem.x.clone().requires_grad_(), problem.y.clone().requires_grad_())
        grads = torch.autograd.grad(problem.loss(*leaves), leaves)
        return without_conv_biases(problem.case, grads[0]), *grads[1:]

    h = 1e-4  # the fourth-order difference
    around = [gradients(step) for step in (-2 * h, -h, h, 2 * h)]
    for h_ours, a, b, c, d in zip(problem.adjoint()[2], *around, strict=True):
        difference = (8 * (c - b) - (d - a)) / (12 * h)
        torch.testing.assert_close(h_ours, difference, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("is_soft", [False, True])
def test_only_what_is_needed(is_soft):
    problem = Problem(CASES["odd-maps"], is_soft, torch.float32)
    loss, along, everything = problem.adjoint()
    for needs in itertools.product([False, True], repeat=3 if is_soft else 2):
        needs = (*needs, False)[:3]
        again, again_along, found = problem.adjoint(needs=needs)
        assert torch.equal(again, loss) and torch.equal(again_along, along)
        for need, h, full in zip(needs, found, everything, strict=True):
            assert torch.equal(h, full) if need else h is None


def test_momentum_and_step_size():
    problem = Problem(CASES["two-channels"], False)
    velocity = problem.direction
    gradient = problem.step()[1]
    theta, after, _ = problem.step(lr=0.3, velocity=velocity, momentum=0.9)
    torch.testing.assert_close(after, gradient + 0.9 * velocity, rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(theta, problem.theta - 0.3 * after, rtol=1e-13, atol=1e-13)


def test_soft_labels_that_are_hard():
    hard = Problem(CASES["colour"], False)
    soft = Problem(CASES["colour"], False)
    soft.y = F.one_hot(hard.y, NUM_CLASSES).double()
    for a, b in ((hard.step(), soft.step()), (hard.adjoint()[2][:2], soft.adjoint()[2][:2])):
        for t, u in zip(a, b, strict=True):
            torch.testing.assert_close(t, u, rtol=1e-12, atol=1e-12)


def test_saturated_softmax_is_finite():
    """A hard label with probability 1 to rounding: 0 * log 0 must not appear."""
    problem = Problem(CASES["one-block"], False)
    problem.theta *= 1e4
    loss, along, found = problem.adjoint()
    assert all(t.isfinite().all() for t in (loss, along, *found[:2]))
    assert error(loss, problem.loss(problem.theta, problem.x, problem.y)) < 1e-10


def test_opcheck():
    for is_soft in (False, True):
        problem = Problem(Case(2, 2, (4, 4), 1, 3), is_soft)
        start = (problem.theta, problem.x, problem.y)
        torch.library.opcheck(
            NATIVE.convnet_step.default, (*start, 0.1, problem.direction, 0.9, 1, 3, 1)
        )
        torch.library.opcheck(
            NATIVE.convnet_step_adjoint.default,
            (*start, problem.direction, 1, 3, 1, True, True, is_soft),
        )


def test_equal_calls_give_equal_bits_whatever_the_number_of_threads():
    problem = Problem(CASES["uneven-groups"], True, torch.float32)
    threads, results = torch.get_num_threads(), []
    try:
        for count in (1, 1, 2, 3):
            torch.set_num_threads(count)
            loss, along, found = problem.adjoint()
            results.append((*problem.step(), loss, along, *found))
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(map(torch.equal, results[0], other))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": lambda x: x[0]}, r"x: expected 4 dimensions"),
        ({"x": lambda x: x[:0], "y": lambda y: y[:0]}, "expected at least one image, got none"),
        ({"y": lambda y: y[1:]}, "y: expected 3 rows, one an image, got 2"),
        ({"y": lambda y: y.to("meta")}, "y: expected the device of x, cpu, got meta"),
        ({"y": lambda y: y.int()}, r"y: expected classes \[N\] int64 or probabilities \[N, K\]"),
        ({"y": lambda y: torch.rand(3, 5)}, "y: expected classes"),
        ({"y": lambda y: torch.rand(3, 4).double()}, r"theta: expected shape \[\d+\], got"),
        ({"theta": lambda t: t[1:]}, r"theta: expected shape \[\d+\], got"),
        ({"theta": lambda t: t.float()}, "theta: expected the dtype of x"),
        ({"direction": lambda p: p[:3]}, r"direction: expected shape \[\d+\], got \[3\]"),
        ({"direction": lambda p: p.float()}, "direction: expected the dtype of x"),
    ],
)
def test_wrong_arguments(changes, message):
    problem = Problem(Case(3, 3, (8, 8), 2, 4), False)
    names = ("theta", "x", "y", "direction")
    arguments = {name: getattr(problem, name) for name in names}
    arguments |= {name: change(arguments[name]) for name, change in changes.items()}
    with pytest.raises(ValueError, match=message):
        convnet_step_adjoint(*arguments.values(), problem.shape)
    argument = message.split(":")[0] if ":" in message else "x"
    with pytest.raises(ValueError, match=f"convnet: {argument}: expected"):
        NATIVE.convnet_step_adjoint(*arguments.values(), 2, 4, 1, True, True, False)
    if "direction" not in changes:
        theta, x, y, _ = arguments.values()
        with pytest.raises(ValueError, match=message):
            convnet_step(theta, x, y, 0.1, problem.shape)


def test_classes_out_of_range_and_derivatives_of_classes(monkeypatch):
    problem = Problem(Case(3, 3, (8, 8), 2, 4), False)
    with pytest.raises(ValueError, match="y: classes have no derivative"):
        problem.adjoint(needs=(True, True, True))
    for native in ("1", "0"):
        monkeypatch.setenv("NSDBENCH_NATIVE", native)
        problem.y[1] = NUM_CLASSES
        with pytest.raises(ValueError, match=r"classes in \[0, 5\), got 5 at position 1"):
            problem.step()
        problem.y[1] = -1
        with pytest.raises(ValueError, match=r"classes in \[0, 5\), got -1 at position 1"):
            problem.adjoint()


def test_vmap_is_refused_in_words():
    problem = Problem(Case(3, 3, (8, 8), 2, 4), False)
    start = (problem.x, problem.y)
    both = torch.stack([problem.theta, problem.direction])
    for run in (
        lambda theta: convnet_step(theta, *start, 0.1, problem.shape)[0],
        lambda theta: convnet_step_adjoint(theta, *start, theta, problem.shape)[0],
    ):
        with pytest.raises(ValueError, match=r"convnet_step\w* cannot run under torch.func.vmap"):
            torch.func.vmap(run)(both)


class Unrolled:
    """A trained student and a scalar J(theta_N)."""

    def __init__(
        self, case, num_steps, dtype=torch.float64, momentum=0.0, is_augmented=True, seed=0
    ):
        generator = torch.Generator().manual_seed(seed)
        assert case.size[0] == case.size[1]
        self.model = models.build(
            "convnet",
            in_channels=case.channels,
            image_size=case.size[0],
            num_classes=NUM_CLASSES,
            width=case.width,
            depth=case.depth,
        )
        models.initialize(self.model, generator)
        self.case, self.momentum = case, momentum
        self.theta = models.flatten(self.model).to(dtype)
        shape = (case.channels, *case.size)
        self.images = torch.randn(case.images + 2, *shape, generator=generator).to(dtype)
        labels = torch.rand(case.images + 2, NUM_CLASSES, generator=generator)
        self.labels = labels.to(dtype).softmax(dim=1)
        self.lr = torch.tensor(0.05, dtype=dtype)
        self.batches = [
            torch.randperm(case.images + 2, generator=generator)[: case.images]
            for _ in range(num_steps)
        ]
        strategy = "color_crop_cutout_flip_scale_rotate"
        self.draws = None
        if is_augmented:
            self.draws = [
                augment.sample(strategy, case.images, shape, generator) for _ in range(num_steps)
            ]
        noise = torch.randn(self.theta.shape, generator=generator).to(dtype)
        self.target = self.theta + 0.1 * noise

    def gradients(self, mode):
        """dJ/d(theta, images, labels, lr); conv biases are left out of theta and of J."""
        leaves = [
            t.detach().clone().requires_grad_()
            for t in (self.theta, self.images, self.labels, self.lr)
        ]
        end = unroll.unrolled_sgd(
            self.model,
            *leaves[:3],
            self.batches,
            leaves[3],
            mode=mode,
            momentum=self.momentum,
            augment=self.draws,
        )
        distance = without_conv_biases(self.case, torch.ones_like(end)) * (end - self.target)
        found = torch.autograd.grad(distance.square().sum(), leaves)
        return [without_conv_biases(self.case, found[0]), *found[1:]]


UNROLLED = [
    (Case(4, 3, (8, 8), 1, 8), 0.0),
    (Case(1, 3, (8, 8), 2, 8), 0.9),
    (Case(37, 3, (8, 8), 2, 5), 0.0),
    (Case(5, 1, (28, 28), 3, 4), 0.9),
    (Case(3, 3, (16, 16), 4, 6), 0.5),
    (Case(2, 1, (28, 28), 5, 4), 0.0),
    (Case(3, 3, (32, 32), 5, 4), 0.9),
]


@pytest.mark.parametrize(("case", "momentum"), UNROLLED)
def test_unrolled_gradient_equals_full_autograd(case, momentum):
    problem = Unrolled(case, num_steps=3, momentum=momentum)
    assert unroll.code_path(problem.model, "exact") == "native"
    assert unroll.code_path(problem.model, "full") == "generic"
    for ours, full in zip(problem.gradients("exact"), problem.gradients("full"), strict=True):
        assert error(ours, full) < 1e-10


def test_unrolled_gradient_in_float32_is_as_accurate_as_autograd():
    """Median over ten draws: a ReLU that flips by rounding decides the error of a single one."""
    ratios = []
    for seed in range(10):
        case = Case(6, 3, (16, 16), 3, 16)
        wide = Unrolled(case, 6, is_augmented=False, seed=seed).gradients("full")
        problem = Unrolled(case, 6, torch.float32, is_augmented=False, seed=seed)
        tiny = torch.finfo(torch.float32).eps
        ratios.append(
            [
                error(a, exact) / (2 * error(b, exact) + tiny)
                for a, b, exact in zip(
                    problem.gradients("exact"), problem.gradients("full"), wide, strict=True
                )
            ]
        )
    assert max(map(statistics.median, zip(*ratios, strict=True))) <= 1


def test_switch(monkeypatch):
    """NSDBENCH_NATIVE=0 takes the generic step, and both agree."""
    problem = Unrolled(Case(3, 3, (8, 8), 2, 8), num_steps=2)
    native = problem.gradients("exact")
    monkeypatch.setenv("NSDBENCH_NATIVE", "0")
    assert unroll.code_path(problem.model, "exact") == "generic"
    for a, b in zip(native, problem.gradients("exact"), strict=True):
        assert error(a, b) < 1e-10


PEAK = """
import sys, torch
from nsdbench import models, ops, provenance
from nsdbench.ops import convnet
from nsdbench.student import unroll
path, num_steps = sys.argv[1], int(sys.argv[2])
torch.set_num_threads(1)
convnet.path_on = lambda device: ops.is_native(device) and path
model = models.build("convnet", in_channels=3, image_size=32, num_classes=10)
theta = models.flatten(model)
images = torch.randn(16, 3, 32, 32, requires_grad=True)
batches = torch.arange(16).expand(num_steps, 16)
assert unroll.code_path(model, "exact") == path
before = provenance.peak_bytes()
end = unroll.unrolled_sgd(model, theta, images, torch.arange(16) % 10, batches, 0.01)
end.square().sum().backward()
print(provenance.peak_bytes() - before)
"""


@pytest.mark.slow
@pytest.mark.parametrize("path", ["native", "fused"])
def test_memory_grows_by_one_parameter_vector_a_step(path):
    few, many = peak_bytes(PEAK, path, 10), peak_bytes(PEAK, path, 40)
    assert few > 10 * VECTOR_BYTES  # the measurement sees the stored trajectory
    assert 30 * VECTOR_BYTES * 0.9 < many - few < 30 * VECTOR_BYTES * 1.1
