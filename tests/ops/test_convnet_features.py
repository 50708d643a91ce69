"""`convnet_features`: values, first and second derivatives against the plain-PyTorch twin."""

import math
import os
import statistics
import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from nsdbench.ops import reference
from nsdbench.ops.backend import operators
from nsdbench.ops.convnet import ConvNetShape, convnet_features

NATIVE = operators()


@dataclass(frozen=True)
class Case:
    images: int
    channels: int
    size: tuple[int, int]
    depth: int
    width: int

    @property
    def shape(self):
        return ConvNetShape(self.depth, self.width, 3 if self.channels == 1 else 1)


CASES = {
    "one-block": Case(2, 3, (4, 4), 1, 4),
    "one-pixel": Case(3, 3, (2, 2), 1, 5),
    "grey-pads-3": Case(3, 1, (28, 28), 3, 16),
    "colour": Case(5, 3, (32, 32), 3, 20),
    "two-channels": Case(2, 2, (8, 8), 2, 3),
    "four-channels": Case(9, 4, (15, 15), 3, 8),
    "odd-maps": Case(4, 3, (7, 7), 2, 4),
    "not-square": Case(3, 3, (9, 14), 2, 6),
    "more-than-a-panel": Case(2, 3, (8, 8), 2, 72),
    "five-blocks": Case(3, 2, (32, 32), 5, 17),
    "uneven-groups": Case(37, 3, (8, 8), 2, 9),
    "tiles-beyond-the-map": Case(9, 3, (26, 14), 2, 18),
    "large-tiles-in-every-layer": Case(7, 3, (32, 32), 3, 12),
}
TINY = {"even": Case(2, 2, (4, 4), 1, 2), "odd": Case(2, 1, (3, 5), 2, 2)}


def draw(case, dtype=torch.float64, seed=0):
    """theta, x, a cotangent of the features, and a direction for all three."""
    generator = torch.Generator().manual_seed(seed)
    x_shape = (case.images, case.channels, *case.size)
    x = torch.empty(x_shape)
    sizes = (
        (case.shape.num_parameters(x),),
        x_shape,
        (case.images, case.shape.num_features(x)),
    )

    def normal(size):
        return torch.randn(size, generator=generator, dtype=torch.float64).to(dtype)

    return [normal(size) for size in sizes], [normal(size) for size in sizes]


def without_conv_biases(case, theta):
    """Set the entries that the norm cancels to zero: PyTorch computes rounding errors there."""
    theta, start, channels = theta.clone(), 0, case.channels
    for _ in range(case.depth):
        start += 9 * channels * case.width
        theta[start : start + case.width] = 0
        start, channels = start + 3 * case.width, case.width
    return theta


def twin_derivatives(case, tensors, directions):
    """Features, gradients, and the tangents of both along the directions, by autograd."""
    theta, x, grad = (t.detach().requires_grad_() for t in tensors)
    theta_t, x_t, grad_t = directions
    sizes = (case.depth, case.width, case.shape.padding)
    features, _ = reference.convnet_features(theta, x, *sizes)
    grads = torch.autograd.grad(features, (theta, x), grad, create_graph=True)
    # <v, gradients> = <grad, tangent of the features along v>
    paired = (grads[0] * theta_t).sum() + (grads[1] * x_t).sum()
    out_t, for_theta, for_x = torch.autograd.grad(paired, (grad, theta, x), retain_graph=True)
    # The gradients are linear in the cotangent.
    more = torch.autograd.grad(features, (theta, x), grad_t)
    found = [features, *grads, out_t, for_theta + more[0], for_x + more[1]]
    found = [t.detach() for t in found]
    for n in (1, 4):
        found[n] = without_conv_biases(case, found[n])
    return found


def native_derivatives(case, tensors, directions):
    theta, x, grad = tensors
    theta_t, x_t, grad_t = directions
    sizes = (case.depth, case.width, case.shape.padding)
    features, activations = NATIVE.convnet_features(theta, x, *sizes, True)
    return [
        features,
        *NATIVE.convnet_features_backward(grad, theta, x, activations, *sizes, True, True),
        *NATIVE.convnet_features_backward_jvp(
            grad, theta, x, grad_t, theta_t, x_t, *sizes, True, True
        ),
    ]


LABELS = ("features", "grad_theta", "grad_x", "features_t", "grad_theta_t", "grad_x_t")


def error(x, exact):
    return float((x.double() - exact).norm() / exact.norm())


@pytest.mark.parametrize("name", CASES)
def test_values_and_derivatives_equal_the_twin(name):
    case = CASES[name]
    tensors, directions = draw(case)
    ours = native_derivatives(case, tensors, directions)
    exact = twin_derivatives(case, tensors, directions)
    for label, a, b in zip(LABELS, ours, exact, strict=True):
        assert a.shape == b.shape
        assert error(a, b) < 1e-10, label
        assert a.isfinite().all(), label


@pytest.mark.parametrize("name", CASES)
def test_gradients_of_conv_biases_are_exactly_zero(name):
    case = CASES[name]
    ours = native_derivatives(case, *draw(case))
    for n in (1, 4):
        assert torch.equal(ours[n], without_conv_biases(case, ours[n]))


def rounding(points):
    """How much coarser than a direct convolution F(m x m, 3x3) at these points and infinity rounds.

    With inputs and weights of variance 1, the product at a position has variance |B_p|^2 |G_p|^2
    (rows of the transforms) and an error in proportion to it; an output weighs it with A_p^2. The
    output itself has variance 9. In one dimension, mean over the m outputs; two dimensions square.
    """
    points = np.array(points)
    outputs = len(points) - 2 + 1
    master = np.poly(points)  # product of x - point, highest power first
    others = [np.delete(points, n) for n in range(len(points))]
    inputs = [np.square(np.poly(rest)).sum() for rest in others] + [np.square(master).sum()]
    scale = np.array([np.prod(point - rest) for point, rest in zip(points, others, strict=True)])
    powers = np.vander(points, outputs, increasing=True).T
    taps = np.square(np.vander(points, 3) / scale[:, None]).sum(axis=1)
    weights = np.append(taps, 1)
    from_infinity = np.eye(outputs)[:, -1:]
    outputs_of = np.square(np.hstack([powers, from_infinity]))
    return float((outputs_of @ (inputs * weights)).mean() / 3)


SMALL_TILES = rounding([0, 1, -1])
LARGE_TILES = rounding([0, 5 / 8, -5 / 8, 3 / 2, -3 / 2])


def has_large_tiles(case):
    """Whether a layer is convolved as F(4x4, 3x3): the rule of convnet_layout.cpp."""
    grow = 2 * case.shape.padding - 2
    for layer in range(1, case.depth):
        small, large = (
            math.prod(-(-((n + grow) >> layer) // tile) for n in case.size) for tile in (2, 4)
        )
        if case.images * (16 * small - 45 * large) >= 400:
            return True
    return False


def test_large_tiles_round_less_than_three_times_as_coarsely():
    assert SMALL_TILES == pytest.approx(5 / 3)
    assert LARGE_TILES == pytest.approx(4.7798, abs=1e-4)
    assert rounding([0, 1, -1, 2, -2]) == pytest.approx(10.7726, abs=1e-4)  # the usual points
    assert {name for name, case in CASES.items() if has_large_tiles(case)} == {
        "grey-pads-3",
        "colour",
        "four-channels",
        "five-blocks",
        "uneven-groups",
        "tiles-beyond-the-map",
        "large-tiles-in-every-layer",
    }


@pytest.mark.parametrize(
    "name", ["grey-pads-3", "colour", "odd-maps", "more-than-a-panel", "large-tiles-in-every-layer"]
)
def test_float32_is_as_accurate_as_the_twin_in_float32(name):
    """Median over ten draws: one rounding at a ReLU's kink decides the error of a single draw.

    Twice the twin's error with small tiles; large ones may add what their points amplify.
    """
    case = CASES[name]
    bound = 2 * LARGE_TILES / SMALL_TILES if has_large_tiles(case) else 2
    ratios = {label: [] for label in LABELS}
    for seed in range(10):
        narrow = draw(case, torch.float32, seed)
        wide = [[tensor.double() for tensor in half] for half in narrow]
        rows = zip(
            LABELS,
            native_derivatives(case, *narrow),
            twin_derivatives(case, *narrow),
            twin_derivatives(case, *wide),
            strict=True,
        )
        for label, a, b, exact in rows:
            assert a.dtype == torch.float32
            tiny = torch.finfo(torch.float32).eps
            ratios[label].append(error(a, exact) / (bound * error(b, exact) + tiny))
    assert {label: r for label in LABELS if (r := statistics.median(ratios[label])) > 1} == {}


@pytest.mark.parametrize("name", TINY)
def test_gradcheck_and_gradgradcheck(name):
    case = TINY[name]
    theta, x, _ = draw(case)[0]
    inputs = (theta.requires_grad_(), x.requires_grad_())

    def run(theta, x):
        return convnet_features(theta, x, case.shape)

    assert torch.autograd.gradcheck(run, inputs, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(run, inputs)


@pytest.mark.parametrize("name", TINY)
def test_tangents_equal_finite_differences(name):
    case = TINY[name]
    (theta, x, grad), (theta_t, x_t, grad_t) = draw(case)
    sizes = (case.depth, case.width, case.shape.padding)

    def along(step):
        moved = (theta + step * theta_t, x + step * x_t)
        features, none = NATIVE.convnet_features(*moved, *sizes, False)
        gradients = NATIVE.convnet_features_backward(
            grad + step * grad_t, *moved, none, *sizes, True, True
        )
        return torch.cat([t.flatten() for t in (features, *gradients)])

    h = 1e-4  # the fourth-order difference
    difference = (8 * (along(h) - along(-h)) - (along(2 * h) - along(-2 * h))) / (12 * h)
    found = NATIVE.convnet_features_backward_jvp(
        grad, theta, x, grad_t, theta_t, x_t, *sizes, True, True
    )
    tangent = torch.cat([t.flatten() for t in found])
    torch.testing.assert_close(tangent, difference, rtol=1e-6, atol=1e-6)
    _, functional = torch.func.jvp(
        lambda theta, x: convnet_features(theta, x, case.shape), (theta, x), (theta_t, x_t)
    )
    torch.testing.assert_close(functional, found[0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("absent", ["theta_t", "x_t", "grad_t"])
def test_absent_tangents_are_zero(absent):
    case = CASES["odd-maps"]
    (theta, x, grad), directions = draw(case)
    sizes = (case.depth, case.width, case.shape.padding)
    tangents = dict(zip(("theta_t", "x_t", "grad_t"), directions, strict=True))

    def run(given):
        order = (given["grad_t"], given["theta_t"], given["x_t"])
        return NATIVE.convnet_features_backward_jvp(grad, theta, x, *order, *sizes, True, True)

    zero = run({**tangents, absent: torch.zeros_like(tangents[absent])})
    for a, b in zip(run({**tangents, absent: None}), zero, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["colour", "odd-maps", "one-block"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_recomputed_activations_are_the_kept_ones(name, dtype):
    """Bit by bit: the gradient is the same whether or not activations were kept."""
    case = CASES[name]
    (theta, x, grad), directions = draw(case, dtype)
    sizes = (case.depth, case.width, case.shape.padding)
    features, kept = NATIVE.convnet_features(theta, x, *sizes, True)
    again, none = NATIVE.convnet_features(theta, x, *sizes, False)
    assert kept.shape[0] == case.images and none.shape == (0,)
    assert torch.equal(features, again)
    a = NATIVE.convnet_features_backward(grad, theta, x, kept, *sizes, True, True)
    b = NATIVE.convnet_features_backward(grad, theta, x, none, *sizes, True, True)
    assert all(map(torch.equal, a, b))
    for needs in ((True, False), (False, True)):
        some = NATIVE.convnet_features_backward(grad, theta, x, kept, *sizes, *needs)
        for need, full, part in zip(needs, a, some, strict=True):
            assert torch.equal(part, full) if need else part.shape == (0,)


def test_opcheck():
    case = TINY["odd"]
    (theta, x, grad), (theta_t, x_t, grad_t) = draw(case)
    sizes = (case.depth, case.width, case.shape.padding)
    none = theta.new_empty([0])
    tangents = (grad_t, theta_t, None)
    opcheck = torch.library.opcheck
    opcheck(NATIVE.convnet_features_jvp.default, (theta, x, theta_t, x_t, *sizes))
    opcheck(
        NATIVE.convnet_features_backward_jvp.default,
        (grad, theta, x, *tangents, *sizes, True, False),
    )
    for requires_grad in (False, True):
        for tensor in (theta, x, grad):
            tensor.requires_grad_(requires_grad)
        opcheck(NATIVE.convnet_features.default, (theta, x, *sizes, False))
        opcheck(NATIVE.convnet_features.default, (theta, x, *sizes, True))
        backward = (grad, theta, x, none, *sizes, True, True)
        opcheck(NATIVE.convnet_features_backward.default, backward)


@pytest.mark.parametrize("case", [*CASES.values(), Case(32, 3, (28, 28), 3, 8)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_fake_kernel_knows_what_is_kept(case, dtype):
    theta, x, _ = (tensor.to(dtype) for tensor in draw(case)[0])
    sizes = (case.depth, case.width, case.shape.padding, True)
    real = NATIVE.convnet_features(theta, x, *sizes)
    fake = NATIVE.convnet_features(theta.to("meta"), x.to("meta"), *sizes)
    assert [tensor.shape for tensor in fake] == [tensor.shape for tensor in real]


def test_third_derivative_is_a_clear_error():
    case = TINY["even"]
    theta, x, _ = (t.requires_grad_() for t in draw(case)[0])
    value = convnet_features(theta, x, case.shape).square().sum()
    for _ in range(2):
        (gradient,) = torch.autograd.grad(value, theta, create_graph=True)
        value = gradient.square().sum()
    with pytest.raises(RuntimeError, match="has no derivatives of its own: set NSDBENCH_NATIVE=0"):
        value.backward()


def test_one_input_alone_and_a_graph_used_twice():
    case = CASES["two-channels"]
    theta, x, grad = draw(case)[0]
    both = [t.clone().requires_grad_() for t in (theta, x)]
    features = convnet_features(*both, case.shape)
    first = torch.autograd.grad(features, both, grad, retain_graph=True)
    assert all(map(torch.equal, first, torch.autograd.grad(features, both, grad)))
    for n, leaf in enumerate((theta, x)):
        leaf = leaf.clone().requires_grad_()
        features = convnet_features(
            *(leaf if m == n else t for m, t in enumerate((theta, x))), case.shape
        )
        assert torch.equal(torch.autograd.grad(features, leaf, grad)[0], first[n])


def test_no_images_and_non_contiguous_tensors():
    case = CASES["two-channels"]
    theta, x, _ = draw(case)[0]
    expected = convnet_features(theta, x, case.shape)
    strided = x.transpose(1, 3).contiguous().transpose(1, 3)
    assert not strided.is_contiguous()
    assert torch.equal(convnet_features(theta, strided, case.shape), expected)
    nothing = convnet_features(theta.requires_grad_(), x[:0], case.shape)
    assert nothing.shape == (0, expected.shape[1])
    assert torch.autograd.grad(nothing.sum(), theta)[0].abs().max() == 0


def test_nan_reaches_the_features():
    """Divergence must stay visible: a NaN is not clipped to 0 by a ReLU."""
    case = CASES["odd-maps"]
    theta, x, _ = draw(case)[0]
    x[1, 0, 3, 3] = torch.nan
    features = convnet_features(theta, x, case.shape)
    assert features[1].isnan().all() and features[[0, 2, 3]].isfinite().all()


def test_equal_calls_give_equal_bits_whatever_the_number_of_threads():
    case = CASES["uneven-groups"]
    tensors, directions = draw(case, torch.float32)
    first = native_derivatives(case, tensors, directions)
    threads = torch.get_num_threads()
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            assert all(map(torch.equal, first, native_derivatives(case, tensors, directions)))
    finally:
        torch.set_num_threads(threads)


LEVEL = """
import sys
sys.path.insert(0, sys.argv[1])
from test_convnet_features import *
from nsdbench.ops import backend
for name in ("colour", "grey-pads-3", "four-channels", "odd-maps", "more-than-a-panel",
             "tiles-beyond-the-map"):
    tensors, directions = draw(CASES[name])
    pairs = zip(native_derivatives(CASES[name], tensors, directions),
                twin_derivatives(CASES[name], tensors, directions))
    assert all(error(a, b) < 1e-10 for a, b in pairs), name
    narrow, _ = draw(CASES[name], torch.float32)
    shape = CASES[name].shape
    assert error(convnet_features(*narrow[:2], shape), convnet_features(*tensors[:2], shape)) < 1e-5
print(backend.simd_level())
"""


@pytest.mark.parametrize("level", ["baseline", "avx2"])
def test_narrower_instruction_sets(level):
    """The set is chosen once a process."""
    environment = {**os.environ, "NSDBENCH_SIMD": level}
    command = [sys.executable, "-c", LEVEL, os.path.dirname(__file__)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() in ("baseline", level)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": lambda x: x[0]}, r"x: expected 4 dimensions \[N, C, H, W\], got \[2, 8, 8\]"),
        ({"x": lambda x: x.half()}, "x: expected dtype float32 or float64"),
        ({"x": lambda x: x.repeat(1, 3, 1, 1)}, r"x: expected 1 to 4 channels, got \[2, 6, 8, 8\]"),
        ({"x": lambda x: x[..., :3]}, r"x: 2 blocks halve \[2, 2, 8, 3\] to nothing"),
        ({"theta": lambda t: t[1:]}, r"theta: expected shape \[153\], got \[152\]"),
        ({"theta": lambda t: t.float()}, "theta: expected the dtype of x"),
        ({"theta": lambda t: t.to("meta")}, "theta: expected the device of x"),
        ({"depth": lambda d: 9}, "depth: expected 1 to 8, got 9"),
        ({"width": lambda w: 0}, "width: expected a whole number of at least 1, got 0"),
        ({"padding": lambda p: 0}, "padding: expected a whole number of at least 1, got 0"),
    ],
)
def test_wrong_arguments(changes, message):
    case = CASES["two-channels"]
    theta, x, _ = draw(case)[0]
    arguments = {"theta": theta, "x": x, "depth": 2, "width": 3, "padding": 1}
    arguments |= {name: change(arguments[name]) for name, change in changes.items()}
    theta, x, *sizes = arguments.values()
    with pytest.raises(ValueError, match=message):
        convnet_features(theta, x, ConvNetShape(*sizes))
    if theta.device.type == "cpu":  # the dispatcher sends mixed devices elsewhere
        (changed,) = changes
        with pytest.raises(ValueError, match=f"convnet: .*{changed}"):
            NATIVE.convnet_features(theta, x, *sizes, False)


def test_wrong_cotangents_and_tangents():
    case = CASES["two-channels"]
    (theta, x, grad), (theta_t, x_t, _) = draw(case)
    sizes = (case.depth, case.width, case.shape.padding)
    none = theta.new_empty([0])
    with pytest.raises(ValueError, match=r"grad: expected shape \[2, 12\] .*got \[2, 11\]"):
        NATIVE.convnet_features_backward(grad[:, 1:], theta, x, none, *sizes, True, True)
    with pytest.raises(ValueError, match=r"activations: expected shape \[2, "):
        kept = theta.new_zeros([2, 7])
        NATIVE.convnet_features_backward(grad, theta, x, kept, *sizes, True, True)
    with pytest.raises(ValueError, match=r"theta_t: expected shape \[153\] .*got \[3\]"):
        NATIVE.convnet_features_jvp(theta, x, theta_t[:3], x_t, *sizes)
    with pytest.raises(ValueError, match="theta_t and x_t: expected at least one tangent"):
        NATIVE.convnet_features_jvp(theta, x, None, None, *sizes)
