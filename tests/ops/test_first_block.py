"""The first block of a ConvNet: its passes on every implementation, against autograd."""

import statistics

import pytest
import torch
from torch.nn import functional as F

from nsdbench.ops import first_block, reference
from nsdbench.ops.backend import operators
from nsdbench.ops.inorm_relu_pool import EPS
from tests.ops.test_inorm_relu_pool import error, on_host

NATIVE = operators()
SHAPES = {  # N, C_in, H, W, C, padding
    "smallest": (1, 1, 2, 2, 1, 1),
    "grey-pads-3": (2, 1, 4, 5, 3, 3),
    "colour": (2, 3, 8, 8, 5, 1),
    "odd": (3, 3, 7, 9, 4, 1),
    "odd-and-wide": (1, 1, 3, 21, 2, 1),
    "rows-to-spare": (1, 3, 13, 6, 33, 1),
    "three-groups": (1, 1, 5, 6, 70, 1),
    "more-tiles-than-slices": (1, 3, 18, 22, 3, 1),
    "many-images": (11, 1, 3, 2, 2, 1),
}
PASSES = ("", "_jvp", "_backward", "_backward_jvp")
LABELS = (
    "out", "mean", "rstd", "grad_weight", "grad_gamma", "grad_beta", "out_t", "mean_t", "q",
    "grad_x_t", "grad_weight_t", "grad_gamma_t", "grad_beta_t",
)  # fmt: skip


def native(name, *args):
    """Call an operator by its name."""
    return getattr(NATIVE, name)(*args)


@pytest.fixture
def call(backend):
    """What calls an operator on every implementation; on the CPU it is the twin."""
    return native if backend.simt is None else on_host(backend.simt)


def draw(shape, device="cpu", dtype=torch.float64, seed=0):
    """x; weight, gamma, beta, a cotangent of the output; and a direction for these four."""
    generator = torch.Generator().manual_seed(seed)
    images, in_channels, height, width, channels, padding = shape
    pooled = [(size + 2 * padding - 2) // 2 for size in (height, width)]
    shapes = [(channels, in_channels, 3, 3), (channels,), (channels,), (images, *pooled, channels)]

    def normal(size):
        values = torch.randn(size, generator=generator, dtype=torch.float64)
        return values.to(device=device, dtype=dtype)

    x = 2 * normal((images, in_channels, height, width)) + 1  # neither centred nor scaled
    return x, [normal(size) for size in shapes], [normal(size) for size in shapes]


def derivatives(call, shape, x, tensors, directions):
    """Everything that the four passes return, in the order of LABELS."""
    (*parameters, grad), (*tangent, grad_t) = tensors, directions
    point = (x, *parameters, shape[-1])
    out, moments = call("first_block", *point, EPS)
    out_t, moments_t = call("first_block_jvp", *point, moments, *tangent)
    grads = call("first_block_backward", grad, *point, moments)
    grads_t = call(
        "first_block_backward_jvp",
        *(grad, *point, moments, grad_t, *tangent, moments_t, True, True),
    )
    return [out, *moments, *grads, out_t, *moments_t, *grads_t]


def exact_derivatives(shape, x, tensors, directions):
    """The same from convolution and norm block by autograd."""
    x, *leaves = (tensor.detach().requires_grad_() for tensor in (x, *tensors))
    weight, gamma, beta, grad = leaves
    weight_t, gamma_t, beta_t, grad_t = directions

    def along(values):  # each depends on the weight alone
        (tangent,) = torch.autograd.grad(
            torch.autograd.grad(
                values, weight, dummy := torch.ones_like(values).requires_grad_(), create_graph=True
            )[0],
            dummy,
            weight_t,
        )
        return tangent

    z = F.conv2d(x, weight, padding=shape[-1])
    mean = z.mean((2, 3))
    variance = (z - mean[:, :, None, None]).square().mean((2, 3))
    rstd = (variance + EPS).rsqrt()
    out = reference.inorm_relu_pool(z, gamma, beta).permute(0, 2, 3, 1)
    grads = torch.autograd.grad(out, (x, weight, gamma, beta), grad, create_graph=True)
    # <v, gradients> = <grad, tangent of the output along v>; the images have no tangent.
    paired = sum((g * v).sum() for g, v in zip(grads[1:], (weight_t, gamma_t, beta_t), strict=True))
    out_t, *grads_t = torch.autograd.grad(paired, (grad, x, weight, gamma, beta), retain_graph=True)
    along_grad = torch.autograd.grad(out, (x, weight, gamma, beta), grad_t, retain_graph=True)
    grads_t = [a + b for a, b in zip(grads_t, along_grad, strict=True)]
    # rstd_t = -rstd^2 q
    q = -along(rstd) / rstd.square()
    values = [out, mean, rstd, *grads[1:], out_t, along(mean), q, *grads_t]
    return [value.detach() for value in values]


@pytest.mark.parametrize("name", SHAPES)
def test_passes_equal_autograd(backend, call, name):
    shape = SHAPES[name]
    operands = draw(shape, backend.device)
    ours, exact = derivatives(call, shape, *operands), exact_derivatives(shape, *operands)
    for label, a, b in zip(LABELS, ours, exact, strict=True):
        assert a.shape == b.shape
        assert error(a, b) <= 1e-10 * (float(b.abs().max()) + 1), label


@pytest.mark.parametrize("name", ["grey-pads-3", "odd", "rows-to-spare", "more-tiles-than-slices"])
def test_float32_is_as_accurate_as_autograd_in_float32(backend, call, name):
    """Median over ten draws: one rounding at a ReLU's kink decides the error of a single draw."""
    ratios, shape = {label: [] for label in LABELS}, SHAPES[name]
    for seed in range(10):
        narrow = draw(shape, backend.device, torch.float32, seed)
        wide = narrow[0].double(), *([t.double() for t in half] for half in narrow[1:])
        rows = zip(
            LABELS,
            derivatives(call, shape, *narrow),
            exact_derivatives(shape, *narrow),
            exact_derivatives(shape, *wide),
            strict=True,
        )
        for label, a, b, exact in rows:
            assert a.dtype == torch.float32
            tiny = torch.finfo(torch.float32).eps * (float(exact.abs().max()) + 1)
            ratios[label].append(error(a, exact) / (2 * error(b, exact) + tiny))
    assert {label: r for label in LABELS if (r := statistics.median(ratios[label])) > 1} == {}


def test_only_what_is_needed(backend, call):
    shape = SHAPES["odd"]
    x, (*parameters, grad), (*tangent, grad_t) = draw(shape, backend.device)
    point = (x, *parameters, shape[-1])
    _, moments = call("first_block", *point, EPS)
    _, moments_t = call("first_block_jvp", *point, moments, *tangent)
    operands = (grad, *point, moments, grad_t, *tangent, moments_t)
    of_x, of_weight, *norm = call("first_block_backward_jvp", *operands, True, True)
    for needs_weight, needs_x in ((False, True), (True, False), (False, False)):
        found = call("first_block_backward_jvp", *operands, needs_weight, needs_x)
        assert torch.equal(found[0], of_x) if needs_x else found[0].shape == (0,)
        assert torch.equal(found[1], of_weight) if needs_weight else found[1].shape == (0,)
        assert all(map(torch.equal, found[2:], norm))


@pytest.mark.parametrize("in_channels", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_images(backend, call, in_channels, dtype):
    """The gradients of the parameters are sums over no images: zero, not left as they were."""
    shape = (0, in_channels, 4, 5, 3, 1)
    results = derivatives(call, shape, *draw(shape, backend.device, dtype))
    assert all(result.dtype == dtype and not result.any() for result in results)


def test_nan_is_not_clipped_away(backend, call):
    shape = (2, 3, 4, 4, 2, 1)
    x, tensors, directions = draw(shape, backend.device)
    x[1, 1, 2, 2] = torch.nan
    out, *_ = derivatives(call, shape, x, tensors, directions)
    assert out[0].isfinite().all() and out[1].isnan().all()


def test_equal_calls_give_equal_bits(backend, call):
    for name in ("rows-to-spare", "many-images"):
        operands = draw(SHAPES[name], backend.device, torch.float32)
        first, second = (derivatives(call, SHAPES[name], *operands) for _ in range(2))
        assert all(map(torch.equal, first, second))


@pytest.mark.parametrize("name", SHAPES)
def test_bits_do_not_depend_on_the_order_of_cuda_threads(simt, name):
    operands, results = draw(SHAPES[name], dtype=torch.float32), []
    for order in ("natural", "reversed", "shuffled"):
        simt.set_order(order, seed=4)
        results.append(derivatives(on_host(simt), SHAPES[name], *operands))
    for other in results[1:]:
        assert all(map(torch.equal, results[0], other))


def test_bits_of_an_image_do_not_depend_on_the_batch(backend, call):
    shape = SHAPES["many-images"]
    x, (*parameters, _), _ = draw(shape, backend.device, torch.float32)
    whole, _ = call("first_block", x, *parameters, 1, EPS)
    one, _ = call("first_block", x[4:5], *parameters, 1, EPS)
    assert torch.equal(one, whole[4:5]) or backend.name == "cpu"  # the library's convolutions


def test_opcheck(device):
    shape = SHAPES["colour"]
    x, (*parameters, grad), (*tangent, grad_t) = draw(shape, device)
    point = (x, *parameters, shape[-1])
    _, moments = NATIVE.first_block(*point, EPS)
    _, moments_t = NATIVE.first_block_jvp(*point, moments, *tangent)
    calls = {
        "": (*point, EPS),
        "_jvp": (*point, moments, *tangent),
        "_backward": (grad, *point, moments),
        "_backward_jvp": (grad, *point, moments, grad_t, *tangent, moments_t, False, True),
    }
    for name in PASSES:
        torch.library.opcheck(getattr(NATIVE, f"first_block{name}").default, calls[name])


def test_it_has_no_derivatives_of_its_own(device):
    x, (*parameters, _), _ = draw(SHAPES["colour"], device)
    out, _ = first_block.forward(x.requires_grad_(), *parameters, 1, EPS)
    with pytest.raises(RuntimeError, match="first_block has no derivatives of its own"):
        out.sum().backward()


@pytest.mark.parametrize("in_channels", [2, 4])
def test_other_channels_take_the_twin(device, in_channels):
    shape = (2, in_channels, 5, 6, 3, 1)
    operands = draw(shape, device)
    passes = {
        "first_block": first_block.forward,
        "first_block_jvp": first_block.tangent,
        "first_block_backward": first_block.gradients,
        "first_block_backward_jvp": first_block.gradients_tangent,
    }
    ours = derivatives(lambda name, *args: passes[name](*args), shape, *operands)
    for a, b in zip(ours, exact_derivatives(shape, *operands), strict=True):
        assert error(a, b) <= 1e-10 * (float(b.abs().max()) + 1)


@pytest.mark.parametrize(
    ("position", "wrong", "message"),
    [
        (0, lambda x: x[0], r"x: expected 4 dimensions"),
        (0, lambda x: x.half(), "x: expected "),
        (0, lambda x: x[:, :2], r"x: expected 1 or 3 channels, got \[2, 2, 8, 8\]"),
        (0, lambda x: x[:, :, :1], r"x: expected a map of at least 2x2, got \[2, 3, 1, 8\] and"),
        (1, lambda w: w[:, :1], r"weight: expected shape \[5, 3, 3, 3\]"),
        (1, lambda w: w[..., :2], r"weight: expected shape \[5, 3, 3, 3\]"),
        (2, lambda g: g[:4], r"gamma: expected shape \[5\]"),
        (3, lambda b: b.float(), "beta: expected "),
        (4, lambda p: 0, "padding: expected at least 1, got 0"),
    ],
)
def test_wrong_arguments(device, position, wrong, message):
    x, (*parameters, grad), _ = draw(SHAPES["colour"], device)
    point = [x, *parameters, 1]
    _, moments = NATIVE.first_block(*point, EPS)
    point[position] = wrong(point[position])
    with pytest.raises(ValueError, match=f"first_block: {message}"):
        NATIVE.first_block(*point, EPS)
    with pytest.raises(ValueError, match=f"first_block: {message}"):
        NATIVE.first_block_backward(grad, *point, moments)


def test_wrong_operands_of_the_derivatives(device):
    x, (*parameters, grad), (*tangent, grad_t) = draw(SHAPES["colour"], device)
    point = (x, *parameters, 1)
    _, moments = NATIVE.first_block(*point, EPS)
    with pytest.raises(ValueError, match=r"grad: expected shape \[2, 4, 4, 5\]"):
        NATIVE.first_block_backward(grad[:, :3], *point, moments)
    with pytest.raises(ValueError, match=r"moments: expected shape \[2, 2, 5\]"):
        NATIVE.first_block_backward(grad, *point, moments[:1])
    with pytest.raises(ValueError, match=r"gamma_t: expected shape \[5\]"):
        NATIVE.first_block_jvp(*point, moments, tangent[0], tangent[1][:1], tangent[2])
    with pytest.raises(ValueError, match=r"grad_t: expected shape \[2, 4, 4, 5\]"):
        NATIVE.first_block_backward_jvp(
            grad, *point, moments, grad_t[:1], *tangent, moments, True, True
        )
