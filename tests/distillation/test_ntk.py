"""Exact kernels of the ConvNet: against the recursion done naively, closed cases, wide networks."""

import math
from functools import cache

import pytest
import torch

from nsdbench import models
from nsdbench.distillation import ntk
from nsdbench.distillation.ntk import KernelNet
from nsdbench.distillation.objectives.families.regression import kernel_pair_bytes
from nsdbench.models.nets.plain_convnet import PlainConvNet
from nsdbench.seeding import generator

ALL = 1e12  # bytes: every pair in one block


def images(n, channels, size, *names, dtype=torch.float64):
    return torch.randn(n, channels, size, size, generator=generator(0, *names)).to(dtype)


def naive(x, y, layers):
    """Return NNGP and NTK of two images [C, H, W], a pair of positions at a time, in floats."""
    sides = [x.shape[1]]
    for layer in layers:
        sides.append(sides[-1] // 2 if layer == "pool" else sides[-1])
    pixels = {"x": x.tolist(), "y": y.tolist()}

    @cache
    def at(depth, one, p, other, q):
        """S and T of image `one` at p and image `other` at q, behind that many layers."""
        side = sides[depth]
        if any(not 0 <= k < side for k in (*p, *q)):
            return 0.0, 0.0
        if depth == 0:
            channels = zip(pixels[one], pixels[other], strict=True)
            values = [a[p[0]][p[1]] * b[q[0]][q[1]] for a, b in channels]
            return sum(values) / len(values), 0.0
        layer, before = layers[depth - 1], depth - 1
        if layer == "conv":
            near = [
                at(before, one, (p[0] + i, p[1] + j), other, (q[0] + i, q[1] + j))
                for i in (-1, 0, 1)
                for j in (-1, 0, 1)
            ]
            s = 2 * sum(value[0] for value in near) / 9 + 0.1**2
            return s, s + 2 * sum(value[1] for value in near) / 9
        if layer == "pool":
            within = [
                at(before, one, (2 * p[0] + i, 2 * p[1] + j), other, (2 * q[0] + k, 2 * q[1] + m))
                for i in (0, 1) for j in (0, 1) for k in (0, 1) for m in (0, 1)
            ]  # fmt: skip
            return tuple(sum(value[i] for value in within) / 16 for i in (0, 1))
        s, t = at(before, one, p, other, q)
        a, b = at(before, one, p, one, p)[0], at(before, other, q, other, q)[0]
        angle = math.acos(max(-1.0, min(1.0, s / math.sqrt(a * b))))
        grown = math.sin(angle) + (math.pi - angle) * math.cos(angle)
        return math.sqrt(a * b) * grown / (2 * math.pi), t * (math.pi - angle) / (2 * math.pi)

    side = sides[-1]
    ends = [at(len(layers), "x", (i, j), "y", (i, j)) for i in range(side) for j in range(side)]
    s, t = (sum(end[i] for end in ends) / len(ends) for i in (0, 1))
    nngp = 2 * s + 0.1**2
    return nngp, nngp + 2 * t


@pytest.mark.parametrize(
    ("channels", "size", "net"),
    [
        (1, 2, KernelNet(1)),
        (2, 5, KernelNet(1, is_prepended=True)),
        (1, 7, KernelNet(2)),
        (3, 8, KernelNet(2, is_prepended=True)),
    ],
)
def test_kernels_are_the_recursion_pixel_pair_by_pixel_pair(channels, size, net):
    layers = ["conv", "relu"] * net.is_prepended + ["conv", "relu", "pool"] * net.depth
    x, y = images(2, channels, size, "x"), images(1, channels, size, "y")
    found = torch.stack(ntk.kernels(net, x, y, ALL))
    for i in range(2):
        expected = naive(x[i], y[0], layers)
        assert found[:, i, 0].tolist() == pytest.approx(expected, rel=1e-12)
    own = torch.stack(ntk.kernels(net, x, None, ALL))
    # acos at 1 turns rounding of 1e-16 into angles of 1e-8
    assert own[:, 0, 0].tolist() == pytest.approx(naive(x[0], x[0], layers), rel=1e-7)
    assert own[:, 0, 1].tolist() == pytest.approx(naive(x[0], x[1], layers), rel=1e-12)
    assert torch.equal(own, own.mT)


def test_images_of_nothing_have_the_kernel_of_biases():
    """S: .01, halved by the ReLU, kept by the pool: 2 x .005 + .01. T: the same .005, so .02 + .01.

    With a layer in front, both positions of a pair of a 2 x 2 image have k neighbours in common: 4
    where they are one (4 of 16 pairs), 2 where they share a side (8), 1 across (4). Then
    S = 2/9 k .005 + .01, T = S + 2/9 k .005, and every variance is that of k = 4.
    """
    nothing = torch.zeros(1, 1, 2, 2, dtype=torch.float64)
    nngp, tangent = ntk.kernels(KernelNet(1), nothing, None, ALL)
    assert nngp.item() == pytest.approx(0.02, rel=1e-12)
    assert tangent.item() == pytest.approx(0.03, rel=1e-12)
    nngp, tangent = ntk.kernels(KernelNet(1, is_prepended=True), nothing, None, ALL)
    variance, means = 2 / 9 * 4 * 0.005 + 0.01, [0.0, 0.0]
    for k, share in ((4, 4 / 16), (2, 8 / 16), (1, 4 / 16)):
        s = 2 / 9 * k * 0.005 + 0.01
        angle = math.acos(s / variance)
        grown = math.sin(angle) + (math.pi - angle) * math.cos(angle)
        means[0] += share * variance * grown / (2 * math.pi)
        means[1] += share * (s + 2 / 9 * k * 0.005) * (math.pi - angle) / (2 * math.pi)
    assert nngp.item() == pytest.approx(2 * means[0] + 0.01, rel=1e-12)
    assert tangent.item() == pytest.approx(2 * means[0] + 0.01 + 2 * means[1], rel=1e-12)


def test_one_pixel_has_the_arc_cosine_kernels():
    """A 1 x 1 image is a vector, and [conv, ReLU, head] a network with one hidden layer.

    Cho and Saul, 2009: with u = sqrt(2/9) x and a bias, E relu relu = |u||v| J1 / (2 pi) and
    E step step = J0 / (2 pi), J1 = sin t + (pi - t) cos t, J0 = pi - t.
    """
    x, y = torch.tensor([0.7, -1.1, 0.4]).double(), torch.tensor([-0.3, 0.9, 2.0]).double()
    net = KernelNet(0, is_prepended=True)
    nngp, tangent = ntk.kernels(net, x.view(1, 3, 1, 1), y.view(1, 3, 1, 1), ALL)
    a, b, s = (2 / 9 * float(u @ v) / 3 + 0.01 for u, v in ((x, x), (y, y), (x, y)))
    t = math.acos(s / math.sqrt(a * b))
    hidden = math.sqrt(a * b) * (math.sin(t) + (math.pi - t) * math.cos(t)) / (2 * math.pi)
    assert nngp.item() == pytest.approx(2 * hidden + 0.01, rel=1e-12)
    expected = 2 * hidden + 0.01 + 2 * s * (math.pi - t) / (2 * math.pi)
    assert tangent.item() == pytest.approx(expected, rel=1e-12)


def test_the_kernels_are_those_of_wide_random_networks():
    """Means over 24 networks of width 128, within 6 standard errors of the exact kernels.

    NNGP: 2 phi . phi' / F + .01. NTK: products of gradients, a layer's weights times 2 / fan_in and
    its biases times .01, as the NTK parametrisation has it; of 4 outputs, which are independent.
    The standard error is that of the networks' spread; it is a few per cent, so that a factor of 2
    anywhere is far outside. Finite width shifts the mean by O(1 / 128), less than half of that.
    """
    x = images(3, 2, 8, "x")
    nngp, tangent = ntk.kernels(KernelNet(2), x, None, ALL)
    draws = generator(0, "networks")
    model = PlainConvNet(2, 8, 4, width=128, depth=2).double()
    found = {"nngp": [], "ntk": []}
    for _ in range(24):
        models.initialize(model, draws)
        features = model.embed(x)
        found["nngp"].append((2 * features @ features.mT / features.shape[1] + 0.01).detach())
        outputs = model.classifier(features)
        product = torch.zeros(3, 3, dtype=torch.float64)
        parameters = list(model.parameters())
        for output in range(4):
            gradients = [
                torch.autograd.grad(outputs[i, output], parameters, retain_graph=True)
                for i in range(3)
            ]
            for layer in zip(*gradients, strict=True):
                flat = torch.stack([gradient.flatten() for gradient in layer])
                scale = 0.01 if layer[0].dim() == 1 else 2 / layer[0][0].numel()
                product += scale * flat @ flat.mT / 4
        found["ntk"].append(product)
    for exact, sample in ((nngp, found["nngp"]), (tangent, found["ntk"])):
        values = torch.stack(sample)
        error = values.std(0) / len(values) ** 0.5
        assert ((values.mean(0) - exact).abs() < 6 * error).all()
        assert (error < 0.06 * exact).all(), "the comparison says nothing"


def test_blocks_make_no_difference():
    net, x, y = KernelNet(2, is_prepended=True), images(5, 1, 8, "x"), images(3, 1, 8, "y")
    pair = kernel_pair_bytes(8, 2, True, 8)
    for second in (y, None):
        whole = ntk.kernels(net, x, second, ALL)
        for max_bytes in (0.0, 2 * pair, 7 * pair):
            for part, one in zip(ntk.kernels(net, x, second, max_bytes), whole, strict=True):
                torch.testing.assert_close(part, one, rtol=1e-13, atol=0)


def test_a_block_keeps_no_more_than_is_said():
    """What autograd saves of a pair, counted as it is saved; the price is no more than twice it."""
    for side, depth, is_prepended in ((8, 2, True), (14, 3, False), (9, 1, True)):
        net, kept = KernelNet(depth, is_prepended), []
        x = images(1, 1, side, "x").requires_grad_()
        own = [variance.detach() for variance in ntk._own_variances(net, x)]

        def keep(tensor, kept=kept):
            kept.append(tensor.numel() * tensor.element_size())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            ntk._pair_kernels(net, x, images(1, 1, side, "y"), own, own)
        assert sum(kept) <= kernel_pair_bytes(side, depth, is_prepended, 8) <= 2 * sum(kept)
    assert ntk.block_size(KernelNet(3), images(1, 3, 32, "x"), 0.0) == 1


@pytest.mark.parametrize("second", [True, False])
def test_gradients(second):
    """Of distinct images, and of images with themselves, whose angles of 0 have no gradient."""
    x, y = images(2, 1, 4, "x").requires_grad_(), images(1, 1, 4, "y").requires_grad_()
    net = KernelNet(1, is_prepended=True)
    if second:
        assert torch.autograd.gradcheck(lambda a, b: ntk.kernels(net, a, b, 0.0), (x, y))
        return

    def kernel(a):
        return ntk.kernels(net, a, None, 0.0)[0]

    assert torch.autograd.gradcheck(kernel, (x,), eps=1e-5, atol=1e-5)


def test_the_tangent_kernel_of_an_image_with_itself_has_a_gradient():
    """Its slope along a direction, by central differences of K(x, x)."""
    net, x = KernelNet(1, is_prepended=True), images(1, 1, 4, "x").requires_grad_()
    (found,) = torch.autograd.grad(ntk.kernels(net, x, None, ALL)[1].sum(), x)
    step, direction = 1e-4, images(1, 1, 4, "d")
    ends = [
        ntk.kernels(net, (x + sign * step * direction).detach(), None, ALL)[1].item()
        for sign in (1, -1)
    ]
    expected = (ends[0] - ends[1]) / (2 * step)
    assert float((found * direction).sum()) == pytest.approx(expected, rel=1e-6)


def test_single_precision():
    """Angles are acos of a rounded cosine, wrong by up to sqrt(8 eps) where it is 1.

    That is a share of sqrt(8 eps) / pi of a tangent kernel for every ReLU; sines and cosines of
    such angles are right to a few eps.
    """
    net, x = KernelNet(2, is_prepended=True), images(4, 3, 8, "x")
    exact = ntk.kernels(net, x, None, ALL)
    rounded = ntk.kernels(net, x.float(), None, ALL)
    eps = torch.finfo(torch.float32).eps
    for value, kernel, bound in zip(
        rounded, exact, (3 * 30 * eps, 3 * (8 * eps) ** 0.5 / math.pi), strict=True
    ):
        assert value.dtype == torch.float32
        assert ((value.double() - kernel).abs() <= bound * kernel).all()


def test_ntk_is_positive_definite_for_distinct_images():
    k = ntk.kernels(KernelNet(2), images(6, 1, 8, "x"), None, ALL)[1]
    assert torch.linalg.eigvalsh(k).min() > 0
