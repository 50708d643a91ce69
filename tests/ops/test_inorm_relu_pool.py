"""`inorm_relu_pool`: values and derivatives on every implementation, against the plain twin.

In both layouts: with channels innermost the same tests run, their maps permuted on the way.
"""

import os
import statistics
import subprocess
import sys

import pytest
import torch
from torch import Tensor

from nsdbench import ops
from nsdbench.ops import reference
from nsdbench.ops.backend import operators
from nsdbench.ops.inorm_relu_pool import EPS

NATIVE = operators()
SHAPES = {  # N, C, H, W
    "smallest": (1, 1, 2, 2),
    "pool-drops-a-row": (2, 3, 3, 2),
    "pool-drops-a-column": (2, 3, 2, 3),
    "odd": (2, 3, 7, 7),
    "odd-and-wide": (1, 2, 5, 33),
    "a-vector-and-a-bit": (2, 2, 4, 18),
    "block-of-convnet": (3, 5, 16, 16),
    "largest": (1, 2, 128, 128),
    "many-planes": (7, 19, 4, 4),
    "many-images": (70, 9, 3, 2),
    "two-warps-a-plane": (3, 3, 17, 19),
    "four-warps-a-plane": (1, 3, 25, 30),
    "vectors-of-channels": (9, 20, 4, 6),
    "more-than-registers-hold": (2, 4, 21, 18),
}
TINY = {"even": (2, 2, 2, 4), "odd": (2, 1, 3, 5)}


def native(name, *args):
    """Call an operator by its name."""
    return getattr(NATIVE, name)(*args)


def on_host(simt):
    """Return what calls its CUDA kernels on the host."""

    def call(name, *args):
        arrays = [
            a.detach().contiguous().numpy() if isinstance(a, torch.Tensor) else a for a in args
        ]
        results = getattr(simt, f"{name}_{arrays[0].dtype.name}")(*arrays)
        if isinstance(results, tuple):
            return tuple(map(torch.from_numpy, results))
        return torch.from_numpy(results)

    return call


def permuted(call):
    """Return what calls the operators on maps with channels innermost, in terms of the others."""

    def call_nhwc(name, *args):
        there = [
            a.permute(0, 2, 3, 1) if isinstance(a, Tensor) and a.dim() == 4 else a for a in args
        ]
        results = call(name.replace("inorm_relu_pool", "inorm_relu_pool_nhwc"), *there)
        if isinstance(results, tuple):
            return results[0].permute(0, 3, 1, 2), *results[1:]
        return results.permute(0, 3, 1, 2)

    return call_nhwc


LAYOUTS = {"nchw": lambda call: call, "nhwc": permuted}


@pytest.fixture(params=LAYOUTS)
def layout(request):
    """What makes a function that calls the operators take maps of one layout or the other."""
    return LAYOUTS[request.param]


@pytest.fixture
def call(backend, layout):
    """What calls an operator, without autograd, on every implementation, in both layouts."""
    return layout(native if backend.simt is None else on_host(backend.simt))


@pytest.fixture(params=LAYOUTS)
def pool(request):
    """The public operator, on maps [N, C, H, W] in either layout."""
    if request.param == "nchw":
        return ops.inorm_relu_pool

    def pool_nhwc(x, weight, bias):
        return ops.inorm_relu_pool_nhwc(x.permute(0, 2, 3, 1), weight, bias).permute(0, 3, 1, 2)

    return pool_nhwc


def draw(shape, device="cpu", dtype=torch.float64, seed=0):
    """x, weight, bias, a cotangent of the output, and a direction for all four."""
    generator = torch.Generator().manual_seed(seed)
    pooled = (*shape[:2], shape[2] // 2, shape[3] // 2)
    shapes = (shape, shape[1:2], shape[1:2], pooled)

    def normal(size):
        values = torch.randn(size, generator=generator, dtype=torch.float64)
        return values.to(device=device, dtype=dtype)

    tensors = [normal(size) for size in shapes]
    tensors[0] = 2 * tensors[0] + 1  # neither centred nor scaled
    return tensors, [normal(size) for size in shapes]


def twin_derivatives(tensors, directions):
    """Output, gradients, and the tangents of both along the directions, by autograd of the twin."""
    leaves = [tensor.detach().requires_grad_() for tensor in tensors]
    x, weight, bias, grad = leaves
    x_t, weight_t, bias_t, grad_t = directions
    leaves_in_order = (grad, x, weight, bias)
    out = reference.inorm_relu_pool(x, weight, bias)
    grads = torch.autograd.grad(out, (x, weight, bias), grad, create_graph=True)
    # <v, gradients> = <grad, tangent of the output along v>
    paired = sum((g * v).sum() for g, v in zip(grads, (x_t, weight_t, bias_t), strict=True))
    out_t, *grads_t = torch.autograd.grad(paired, leaves_in_order, retain_graph=True)
    # The gradients are linear in the cotangent.
    along_grad = torch.autograd.grad(out, (x, weight, bias), grad_t)
    grads_t = [a + b for a, b in zip(grads_t, along_grad, strict=True)]
    return [t.detach() for t in (out, *grads, out_t, *grads_t)]


def derivatives(call, tensors, directions):
    x, weight, bias, grad = tensors
    x_t, weight_t, bias_t, grad_t = directions
    point = (x, weight, bias, EPS)
    tangent = (x_t, weight_t, bias_t)
    return [
        call("inorm_relu_pool", *point),
        *call("inorm_relu_pool_backward", grad, *point),
        call("inorm_relu_pool_jvp", *point, *tangent),
        *call("inorm_relu_pool_backward_jvp", grad, *point, grad_t, *tangent),
    ]


LABELS = (
    "out", "grad_x", "grad_weight", "grad_bias",
    "out_t", "grad_x_t", "grad_weight_t", "grad_bias_t",
)  # fmt: skip


def error(x, exact):
    return float((x.double() - exact.double()).abs().max())


@pytest.mark.parametrize("name", SHAPES)
def test_values_and_derivatives_equal_the_twin(backend, call, name):
    tensors, directions = draw(SHAPES[name], backend.device)
    ours = derivatives(call, tensors, directions)
    exact = twin_derivatives(tensors, directions)
    for label, a, b in zip(LABELS, ours, exact, strict=True):
        assert a.shape == b.shape
        assert error(a, b) <= 1e-10 * (float(b.abs().max()) + 1), label


@pytest.mark.parametrize("name", SHAPES)
def test_float32_is_as_accurate_as_the_twin_in_float32(backend, call, name):
    """Median over ten draws: one rounding at a ReLU's kink decides the error of a single draw."""
    ratios = {label: [] for label in LABELS}
    for seed in range(10):
        narrow = draw(SHAPES[name], backend.device, torch.float32, seed)
        wide = [[tensor.double() for tensor in half] for half in narrow]
        rows = zip(
            LABELS,
            derivatives(call, *narrow),
            twin_derivatives(*narrow),
            twin_derivatives(*wide),
            strict=True,
        )
        for label, a, b, exact in rows:
            assert a.dtype == torch.float32
            tiny = torch.finfo(torch.float32).eps * (float(exact.abs().max()) + 1)
            ratios[label].append(error(a, exact) / (2 * error(b, exact) + tiny))
    assert {label: r for label in LABELS if (r := statistics.median(ratios[label])) > 1} == {}


@pytest.mark.parametrize("name", TINY)
def test_gradcheck_and_gradgradcheck(device, pool, name):
    tensors = [t.requires_grad_() for t in draw(TINY[name], device)[0][:3]]
    assert torch.autograd.gradcheck(pool, tensors, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(pool, tensors)


@pytest.mark.parametrize("name", TINY)
def test_tangents_equal_finite_differences(backend, call, name):
    tensors, directions = draw(TINY[name], backend.device)
    (x, weight, bias, grad), (x_t, weight_t, bias_t, grad_t) = tensors, directions

    def along(step):
        moved = (x + step * x_t, weight + step * weight_t, bias + step * bias_t, EPS)
        gradients = call("inorm_relu_pool_backward", grad + step * grad_t, *moved)
        return torch.cat([t.flatten() for t in (call("inorm_relu_pool", *moved), *gradients)])

    h = 1e-4  # the fourth-order difference
    difference = (8 * (along(h) - along(-h)) - (along(2 * h) - along(-2 * h))) / (12 * h)
    tangent = torch.cat([t.flatten() for t in derivatives(call, tensors, directions)[4:]])
    torch.testing.assert_close(tangent, difference, rtol=1e-7, atol=1e-7)


def test_tangent_by_name_and_by_transform(device):
    (x, weight, bias, _), (x_t, weight_t, bias_t, _) = draw((2, 3, 5, 4), device)
    out_t = ops.inorm_relu_pool_jvp(x, weight, bias, x_t, weight_t, bias_t)
    native_t = NATIVE.inorm_relu_pool_jvp(x, weight, bias, EPS, x_t, weight_t, bias_t)
    _, functional = torch.func.jvp(ops.inorm_relu_pool, (x, weight, bias), (x_t, weight_t, bias_t))
    assert torch.equal(out_t, native_t) and torch.equal(functional, native_t)


@pytest.mark.parametrize("left_out", range(16))
def test_absent_tangents_are_zero(backend, call, left_out):
    (x, weight, bias, grad), directions = draw((2, 3, 5, 4), backend.device)
    some = [None if left_out >> n & 1 else t for n, t in enumerate(directions)]
    full = [torch.zeros_like(t) if left_out >> n & 1 else t for n, t in enumerate(directions)]
    point = (x, weight, bias, EPS)
    for name, order in (("jvp", (0, 1, 2)), ("backward_jvp", (3, 0, 1, 2))):
        head = point if name == "jvp" else (grad, *point)
        ours, expected = (
            call(f"inorm_relu_pool_{name}", *head, *(tangents[n] for n in order))
            for tangents in (some, full)
        )
        torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["inorm_relu_pool", "inorm_relu_pool_nhwc"])
@pytest.mark.parametrize("requires_grad", [False, True])
def test_opcheck(device, requires_grad, name):
    (x, weight, bias, grad), (x_t, weight_t, bias_t, grad_t) = (
        [t.permute(0, 2, 3, 1).contiguous() if "nhwc" in name and t.dim() == 4 else t for t in half]
        for half in draw((2, 2, 3, 4), device)
    )
    operator, backward, jvp, backward_jvp = (
        getattr(NATIVE, name + suffix).default
        for suffix in ("", "_backward", "_jvp", "_backward_jvp")
    )
    tensors = [t.requires_grad_(requires_grad) for t in (x, weight, bias)]
    grad.requires_grad_(requires_grad)
    torch.library.opcheck(operator, (*tensors, EPS))
    torch.library.opcheck(backward, (grad, *tensors, EPS))
    if not requires_grad:
        torch.library.opcheck(jvp, (*tensors, EPS, x_t, None, bias_t))
        torch.library.opcheck(backward_jvp, (grad, *tensors, EPS, grad_t, x_t, weight_t, None))


def test_third_derivative_is_a_clear_error(device, pool):
    tensors = [t.requires_grad_() for t in draw((2, 2, 3, 4), device)[0][:3]]
    value = pool(*tensors).square().sum()
    for _ in range(2):
        (gradient,) = torch.autograd.grad(value, tensors[0], create_graph=True)
        value = gradient.square().sum()
    with pytest.raises(RuntimeError, match="has no derivatives of its own: set NSDBENCH_NATIVE=0"):
        value.backward()


def test_no_images_and_non_contiguous_tensors(device):
    tensors, _ = draw((3, 4, 6, 8), device)
    x, weight, bias, grad = tensors
    expected = ops.inorm_relu_pool(x, weight, bias)
    strided = x.transpose(1, 3).contiguous().transpose(1, 3)
    every_second = torch.stack([weight, weight], dim=1)[:, 0]
    assert not strided.is_contiguous() and not every_second.is_contiguous()
    assert torch.equal(ops.inorm_relu_pool(strided, every_second, bias), expected)
    leaf = x.clone().requires_grad_()
    ops.inorm_relu_pool(leaf, weight, bias).sum().backward()  # an expanded cotangent
    ones = torch.ones_like(grad)
    assert torch.equal(leaf.grad, NATIVE.inorm_relu_pool_backward(ones, x, weight, bias, EPS)[0])
    nothing = x[:0].requires_grad_()
    out = ops.inorm_relu_pool(nothing, weight.requires_grad_(), bias)
    assert out.shape == (0, 4, 3, 4)
    assert torch.equal(torch.autograd.grad(out.sum(), weight)[0], torch.zeros_like(weight))


@pytest.mark.parametrize("shape", [(0, 3, 4, 5), (2, 0, 4, 5), (0, 0, 2, 2)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_images_or_no_channels(backend, call, shape, dtype):
    """The gradients of weight and bias are sums over no images: zero, not left as they were."""
    tensors, directions = draw(shape, backend.device, dtype)
    pooled = (*shape[:2], shape[2] // 2, shape[3] // 2)
    expected = [pooled, shape, shape[1:2], shape[1:2]] * 2
    for ours, size in zip(derivatives(call, tensors, directions), expected, strict=True):
        assert ours.shape == size and ours.dtype == dtype and not ours.any()


def test_nan_is_not_clipped_away(backend, call):
    tensors, directions = draw((1, 2, 4, 4), backend.device)
    tensors[0][0, 1, 2, 2] = torch.nan
    out, grad_x, _, _, out_t, grad_x_t, _, _ = derivatives(call, tensors, directions)
    for result in (out, grad_x, out_t, grad_x_t):
        assert result[0, 0].isfinite().all() and result[0, 1].isnan().all()


def test_constant_planes(backend, call):
    """Variance 0: xhat = 0, so the output is max(bias, 0) and the gradient of x is finite."""
    tensors, directions = draw((1, 2, 4, 4), backend.device)
    tensors[0] = torch.full_like(tensors[0], 3.0)
    tensors[2] = torch.tensor([0.5, -0.5], device=backend.device, dtype=torch.float64)
    out, grad_x, *_ = derivatives(call, tensors, directions)
    assert torch.equal(out[0, 0], torch.full_like(out[0, 0], 0.5)) and out[0, 1].abs().max() == 0
    assert grad_x.isfinite().all()


def test_equal_calls_give_equal_bits(backend, call):
    for name in ("many-planes", "many-images", "four-warps-a-plane"):
        operands = draw(SHAPES[name], backend.device, torch.float32)
        first, second = (derivatives(call, *operands) for _ in range(2))
        assert all(map(torch.equal, first, second))


@pytest.mark.parametrize("name", SHAPES)
def test_bits_do_not_depend_on_the_order_of_cuda_threads(simt, layout, name):
    operands, results = draw(SHAPES[name], dtype=torch.float32), []
    for order in ("natural", "reversed", "shuffled"):
        simt.set_order(order, seed=4)
        results.append(derivatives(layout(on_host(simt)), *operands))
    for other in results[1:]:
        assert all(map(torch.equal, results[0], other))


def test_bits_of_a_plane_do_not_depend_on_the_batch(backend, call):
    (x, weight, bias, _), _ = draw((9, 3, 5, 6), backend.device, torch.float32)
    whole = call("inorm_relu_pool", x, weight, bias, EPS)
    assert torch.equal(call("inorm_relu_pool", x[4:5], weight, bias, EPS), whole[4:5])


def test_bits_do_not_depend_on_the_number_of_cpu_threads():
    tensors, directions = draw((5, 33, 9, 12), dtype=torch.float32)
    first = derivatives(native, tensors, directions)
    threads = torch.get_num_threads()
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            assert all(map(torch.equal, first, derivatives(native, tensors, directions)))
    finally:
        torch.set_num_threads(threads)


LEVEL = """
import sys, torch
sys.path.insert(0, sys.argv[1])
from test_inorm_relu_pool import *
for shape in SHAPES.values():
    tensors, directions = draw(shape)
    pairs = zip(derivatives(native, tensors, directions), twin_derivatives(tensors, directions))
    assert all(error(a, b) <= 1e-10 * (float(b.abs().max()) + 1) for a, b in pairs), shape
print(ops.backend.simd_level())
"""


@pytest.mark.parametrize("level", ["baseline", "avx2"])
def test_narrower_instruction_sets(level):
    """The set is chosen once a process."""
    environment = {**os.environ, "NSDBENCH_SIMD": level}
    command = [sys.executable, "-c", LEVEL, os.path.dirname(__file__)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() in ("baseline", level)


def change(position, new):
    return lambda tensors: [new(t) if n == position else t for n, t in enumerate(tensors)]


WRONG = pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (change(0, lambda x: x[0]), r"x: expected 4 dimensions \[N, C, H, W\], got \[3, 4, 4\]"),
        (change(0, lambda x: x.half()), "x: expected dtype float32 or float64"),
        (change(0, lambda x: x[..., :1]), r"x: expected planes of at least 2x2, got \[2, 3, 4, "),
        (change(1, lambda w: w[:2]), r"weight: expected shape \[3\], got \[2\]"),
        (change(1, lambda w: w.float()), "weight: expected the dtype of x"),
        (change(2, lambda b: b[:, None]), r"bias: expected shape \[3\], got \[3, 1\]"),
        (change(2, lambda b: b.to("meta")), "bias: expected the device of x"),
    ],
)


def test_wrong_arguments_with_channels_innermost(device):
    (x, weight, bias, _), _ = draw((2, 3, 4, 5), device)
    x = x.permute(0, 2, 3, 1)
    with pytest.raises(ValueError, match=r"x: expected 4 dimensions \[N, H, W, C\], got \[4, 5, 3"):
        ops.inorm_relu_pool_nhwc(x[0], weight, bias)
    with pytest.raises(ValueError, match=r"x: expected planes of at least 2x2, got \[2, 4, 1, 3"):
        ops.inorm_relu_pool_nhwc(x[:, :, :1], weight, bias)
    for run in (ops.inorm_relu_pool_nhwc, lambda *args: NATIVE.inorm_relu_pool_nhwc(*args, EPS)):
        with pytest.raises(ValueError, match=r"inorm_relu_pool: weight: expected shape \[3\]"):
            run(x, weight[:2], bias)


def test_no_twin_is_needed_with_channels_innermost(device, monkeypatch):
    """NSDBENCH_NATIVE=0 takes the twin of the other layout."""
    (x, weight, bias, _), _ = draw((2, 3, 4, 5), device)
    expected = ops.inorm_relu_pool(x, weight, bias)
    monkeypatch.setenv("NSDBENCH_NATIVE", "0")
    out = ops.inorm_relu_pool_nhwc(x.permute(0, 2, 3, 1), weight, bias)
    torch.testing.assert_close(out.permute(0, 3, 1, 2), expected, rtol=1e-12, atol=1e-12)


@WRONG
def test_wrong_arguments(device, wrong, message):
    tensors = draw((2, 3, 4, 4), device)[0][:3]
    ops.inorm_relu_pool(*tensors)
    with pytest.raises(ValueError, match=message):
        ops.inorm_relu_pool(*wrong(tensors))
    if "device" not in message:  # the dispatcher refuses mixed devices before the operator can
        argument = message.split(":")[0]
        with pytest.raises(ValueError, match=f"inorm_relu_pool: {argument}: expected"):
            NATIVE.inorm_relu_pool(*wrong(tensors), EPS)


def test_wrong_eps_tangents_and_cotangents(device):
    (x, weight, bias, grad), (x_t, *_) = draw((2, 3, 4, 4), device)
    with pytest.raises(ValueError, match="eps: expected a positive number, got 0"):
        ops.inorm_relu_pool(x, weight, bias, eps=0)
    with pytest.raises(ValueError, match=r"x_t: expected shape \[2, 3, 4, 4\], got \[1, 3"):
        ops.inorm_relu_pool_jvp(x, weight, bias, x_t[:1], None, None)
    with pytest.raises(ValueError, match=r"x_t: expected shape \[2, 3, 4, 4\] .*got \[1, 3"):
        NATIVE.inorm_relu_pool_jvp(x, weight, bias, EPS, x_t[:1], None, None)
    with pytest.raises(ValueError, match=r"grad: expected shape \[2, 3, 2, 2\] .*got \[2, 3, 4"):
        NATIVE.inorm_relu_pool_backward(x, x, weight, bias, EPS)
