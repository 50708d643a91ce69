"""`dsa`: values and derivatives on every implementation, against the plain-PyTorch twin."""

import math
from dataclasses import dataclass

import pytest
import torch
from torch.autograd import forward_ad

from nsdbench import ops
from nsdbench.ops import reference
from nsdbench.ops.backend import operators
from nsdbench.ops.dsa import OPERATIONS, PARAMETERS
from nsdbench.student import augment

# The twin says so of images one pixel high or wide, which are meant here.
pytestmark = pytest.mark.filterwarnings("ignore:Since version 1.3.0, affine_grid behavior")

FORWARD = operators().dsa.default
BACKWARD = operators().dsa_backward.default
SHAPES = {  # B, C, H, W
    "7x7": (3, 3, 7, 7),
    "28x28": (2, 1, 28, 28),
    "tall": (2, 3, 33, 6),
    "wide": (3, 1, 5, 40),
    "five-channels": (2, 5, 9, 17),
    "one-row": (2, 3, 1, 9),
    "one-column": (2, 1, 9, 1),
    "one-pixel": (3, 2, 1, 1),
}
SMALL = (2, 3, 4, 5)
EPS32 = torch.finfo(torch.float32).eps


@dataclass(frozen=True)
class Case:
    operation: str
    shape: tuple[int, int, int, int]
    align_corners: bool = True
    is_siamese: bool = False
    is_wild: bool = False  # parameters far outside of what is drawn

    def __str__(self) -> str:
        size = "x".join(map(str, self.shape))
        flags = [name for name in ("align_corners", "is_siamese", "is_wild") if getattr(self, name)]
        return "-".join([self.operation, size, *flags])


CASES = [Case(op, shape) for op in OPERATIONS for shape in SHAPES.values()]
CASES += [Case("rotate", shape, align_corners=False) for shape in SHAPES.values()]
CASES += [Case(op, SHAPES["7x7"], is_siamese=True) for op in OPERATIONS]
CASES += [Case(op, (5, 1, 9, 20), is_wild=True) for op in OPERATIONS]
SMALL_CASES = [Case(op, SMALL) for op in OPERATIONS] + [Case("rotate", SMALL, False, True)]

cases = pytest.mark.parametrize("case", CASES, ids=str)
small_cases = pytest.mark.parametrize("case", SMALL_CASES, ids=str)


def stream(seed):
    return torch.Generator().manual_seed(seed)


def draw_parameters(case):
    """Parameters [B or 1, n] as augmentation draws them, or wilder ones."""
    count, _, height, width = case.shape
    rows = 1 if case.is_siamese else count
    generator = stream(5)

    def uniform(low, high):
        return low + (high - low) * torch.rand(rows, dtype=torch.float64, generator=generator)

    def whole(low, high):
        return torch.randint(low, high + 1, (rows,), generator=generator).double()

    if case.is_wild:
        # Quarter and half turns, shrinking to a dot, mirroring, everything out of sight.
        pi = math.pi
        wild = {
            "color": ([2.0, -3, 0, 1, 9], [0.0, 5, -1, 1, 2], [3.0, 0, -2, 1, 0]),
            "crop": ([-9.0, 100, 0, 3, 8], [1.0, 0, -20, -19, 50]),
            "cutout": ([-5.0, 2, 8, 3, 0], [-5.0, 3, 0, 30, 0], [50.0, 4, 2, 9, 9], [3.0] * 5),
            "flip": ([1.0, 0, -1, 0.5, 0],),
            "scale": ([0.01, 40, 1, -1, 0], [1e3, 0.2, 0.05, 1, 1e-3]),
            "rotate": ([pi / 2, pi, -pi / 4, 1.5, 100],),
        }[case.operation]
        return torch.tensor(wild, dtype=torch.float64).T.contiguous()
    if case.operation == "color":
        columns = [uniform(-0.5, 0.5), uniform(0, 2), uniform(0.5, 1.5)]
    elif case.operation == "crop":
        columns = [whole(-(size // 6) - 1, size // 6 + 1) for size in (height, width)]
    elif case.operation == "cutout":
        top, left = whole(-2, height), whole(-2, width)
        columns = [top, left, top + height // 2, left + width // 2]
    elif case.operation == "flip":
        columns = [torch.arange(rows, dtype=torch.float64) % 2]
    elif case.operation == "scale":
        columns = [uniform(1 / 1.2, 1.2), uniform(1 / 1.2, 1.2)]
    else:
        columns = [uniform(-math.pi / 12, math.pi / 12)]
    return torch.stack(columns, dim=1)


def draw(case, dtype=torch.float64, device="cpu"):
    """Make images, a cotangent and the parameters."""
    generator = stream(3)
    images, grad = (
        torch.randn(case.shape, generator=generator, dtype=torch.float64).to(dtype).to(device)
        for _ in range(2)
    )
    return images, grad, draw_parameters(case).to(device)


def twin(case, images, grad, parameters):
    """Evaluate the twin on the CPU: images and their gradient."""
    leaf = images.detach().cpu().requires_grad_()
    out = reference.dsa(leaf, case.operation, parameters.cpu(), case.align_corners)
    (grad_images,) = torch.autograd.grad(out, leaf, grad.cpu())
    return out.detach(), grad_images


def run(backend, case, images, parameters, is_linear=False, is_transposed=False):
    """Apply the operator without autograd."""
    number = OPERATIONS.index(case.operation)
    if backend.simt is None:
        if is_transposed:
            return BACKWARD(images, number, parameters, case.align_corners)
        return FORWARD(images, number, parameters, case.align_corners, is_linear)
    host = getattr(backend.simt, f"dsa_{str(images.dtype).removeprefix('torch.')}")
    args = (number, parameters.numpy(), case.align_corners, is_linear, is_transposed)
    return torch.from_numpy(host(images.contiguous().numpy(), *args))


def error(x, exact):
    """Largest absolute difference."""
    return (x.cpu().double() - exact.double()).abs().max().item() if exact.numel() else 0.0


def size(x):
    return error(x, torch.zeros_like(x, device="cpu"))


@cases
def test_forward_equals_twin(backend, case):
    images, grad, parameters = draw(case, device=backend.device)
    exact, _ = twin(case, images, grad, parameters)
    ours = run(backend, case, images, parameters)
    assert ours.shape == exact.shape and ours.dtype == exact.dtype
    assert error(ours, exact) <= 1e-10 * size(exact)


@cases
def test_backward_equals_twin_autograd(backend, case):
    images, grad, parameters = draw(case, device=backend.device)
    _, exact = twin(case, images, grad, parameters)
    ours = run(backend, case, grad, parameters, is_transposed=True)
    assert ours.shape == exact.shape and ours.dtype == exact.dtype
    assert error(ours, exact) <= 1e-10 * size(exact)


@cases
def test_float32_is_as_accurate_as_the_twin_in_float32(backend, case):
    images, grad, parameters = draw(case, torch.float32, backend.device)
    exact = twin(case, images.double(), grad.double(), parameters)
    in_float = twin(case, images, grad, parameters)
    ours = (
        run(backend, case, images, parameters),
        run(backend, case, grad, parameters, is_transposed=True),
    )
    for x, x_twin, x_exact in zip(ours, in_float, exact, strict=True):
        assert x.dtype == torch.float32
        assert error(x, x_exact) <= 2 * error(x_twin, x_exact) + EPS32 * size(x_exact)


@cases
def test_transpose_is_exact(backend, case):
    """<A x, y> = <x, A^T y>"""
    images, grad, parameters = draw(case, device=backend.device)
    left = run(backend, case, images, parameters, is_linear=True) * grad
    right = images * run(backend, case, grad, parameters, is_transposed=True)
    assert abs(left.sum() - right.sum()) <= 1e-13 * left.abs().sum()


@pytest.mark.parametrize("operation", OPERATIONS)
def test_offset_is_the_only_part_that_is_not_linear(backend, operation):
    case = Case(operation, SHAPES["7x7"])
    images, other, parameters = draw(case, device=backend.device)
    linear = run(backend, case, images, parameters, is_linear=True)
    at_zero = run(backend, case, torch.zeros_like(images), parameters)
    torch.testing.assert_close(
        linear + at_zero, run(backend, case, images, parameters), rtol=1e-12, atol=1e-12
    )
    together = run(backend, case, 2 * images - other, parameters, is_linear=True)
    apart = 2 * linear - run(backend, case, other, parameters, is_linear=True)
    torch.testing.assert_close(together, apart, rtol=1e-12, atol=1e-12)
    assert (operation == "color") == bool(at_zero.any())


def differentiable(case, parameters):
    return lambda x: ops.dsa(x, case.operation, parameters, case.align_corners)


@small_cases
def test_gradcheck_and_gradgradcheck(device, case):
    images, _, parameters = draw(case, device=device)
    apply = differentiable(case, parameters)
    leaf = images.requires_grad_()
    assert torch.autograd.gradcheck(apply, (leaf,), check_forward_ad=True)
    assert torch.autograd.gradgradcheck(
        apply, (leaf,), check_fwd_over_rev=True, check_rev_over_rev=True
    )


@small_cases
def test_second_and_third_derivatives_equal_those_of_the_twin(device, case):
    images, _, parameters = draw(case)
    values = []
    # The twin on the CPU: cuDNN's grid_sample has no second derivative; in torch 2.11 none has.
    for apply, its_device in ((ops.dsa, device), (reference.dsa, "cpu")):
        leaf = images.to(its_device, copy=True).requires_grad_()
        rows = parameters.to(its_device)
        value = apply(leaf, case.operation, rows, case.align_corners).pow(4).sum()
        for _ in range(3):
            (gradient,) = torch.autograd.grad(value, leaf, create_graph=True)
            value = gradient.pow(2).sum()
        values.append(value.cpu())
    torch.testing.assert_close(*values, rtol=1e-10, atol=0)


@small_cases
def test_tangent_equals_finite_difference(device, case):
    images, images_t, parameters = draw(case, device=device)
    apply = differentiable(case, parameters)
    difference = (apply(images + images_t) - apply(images - images_t)) / 2  # exact: it is affine
    tangent = ops.dsa_jvp(images_t, case.operation, parameters, case.align_corners)
    torch.testing.assert_close(tangent, difference, rtol=1e-12, atol=1e-12)
    value, functional = torch.func.jvp(apply, (images,), (images_t,))
    assert torch.equal(functional, tangent) and torch.equal(value, apply(images))


@small_cases
def test_tangent_of_the_gradient(device, case):
    """Forward over reverse: for J = 1/4 |A x + b|^4 the gradient is A^T (A x + b)^3."""
    images, images_t, parameters = draw(case, device=device)
    apply = differentiable(case, parameters)
    gradient = torch.func.grad(lambda x: apply(x).pow(4).sum() / 4)
    _, ours = torch.func.jvp(gradient, (images,), (images_t,))
    inner = (
        3
        * apply(images) ** 2
        * ops.dsa_jvp(images_t, case.operation, parameters, case.align_corners)
    )
    exact = ops.dsa_backward(inner, case.operation, parameters, case.align_corners)
    torch.testing.assert_close(ours, exact, rtol=1e-12, atol=1e-12)


@small_cases
def test_tangent_of_a_gradient_without_a_graph(device, case):
    """The same in dual numbers, where the backward pass itself need not be differentiable."""
    images, images_t, parameters = draw(case, device=device)
    apply = differentiable(case, parameters)
    leaf = images.clone().requires_grad_()
    with forward_ad.dual_level():
        value = apply(forward_ad.make_dual(leaf, images_t)).pow(4).sum() / 4
        (gradient,) = torch.autograd.grad(value, leaf)
        ours = forward_ad.unpack_dual(gradient).tangent
    _, exact = torch.func.jvp(
        torch.func.grad(lambda x: apply(x).pow(4).sum() / 4), (images,), (images_t,)
    )
    torch.testing.assert_close(ours, exact, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("requires_grad", [False, True])
@small_cases
def test_opcheck(device, case, requires_grad):
    images, grad, parameters = draw(case, device=device)
    number = OPERATIONS.index(case.operation)
    images.requires_grad_(requires_grad)
    grad.requires_grad_(requires_grad)
    for is_linear in (False, True):
        args = (images, number, parameters, case.align_corners, is_linear)
        torch.library.opcheck(FORWARD, args)
    torch.library.opcheck(BACKWARD, (grad, number, parameters, case.align_corners))


@pytest.mark.parametrize("operation", OPERATIONS)
def test_equal_calls_give_equal_bits(backend, operation):
    case = Case(operation, SHAPES["28x28"])
    images, grad, parameters = draw(case, torch.float32, backend.device)
    for is_transposed in (False, True):
        first, second = (
            run(backend, case, images, parameters, is_transposed=is_transposed) for _ in range(2)
        )
        assert torch.equal(first, second)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_bits_depend_neither_on_threads_nor_on_the_batch(operation):
    case = Case(operation, (67, 3, 28, 28))
    images, grad, parameters = draw(case, torch.float32)
    results, threads = [], torch.get_num_threads()
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            leaf = images.clone().requires_grad_()
            out = ops.dsa(leaf, operation, parameters)
            results.append((out.detach(), *torch.autograd.grad(out, leaf, grad)))
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(map(torch.equal, results[0], other))
    alone = ops.dsa(images[5:6], operation, parameters[5:6])
    assert torch.equal(alone, results[0][0][5:6])


@pytest.mark.parametrize("operation", OPERATIONS)
def test_siamese_is_the_same_row_for_every_image(backend, operation):
    case = Case(operation, SHAPES["7x7"], is_siamese=True)
    images, _, row = draw(case, device=backend.device)
    shared = run(backend, case, images, row)
    assert torch.equal(shared, run(backend, case, images, row.expand(3, -1).contiguous()))


@pytest.mark.parametrize("operation", OPERATIONS)
def test_non_contiguous_operands(device, operation):
    case = Case(operation, SHAPES["7x7"])
    images, _, parameters = draw(case, device=device)
    expected = ops.dsa(images, operation, parameters)
    strided = images.mT.contiguous().mT
    channels_last = images.contiguous(memory_format=torch.channels_last)
    spread = torch.stack((parameters, parameters), dim=2)[..., 0]
    for x in (strided, channels_last):
        assert not x.is_contiguous() and not spread.is_contiguous()
        assert torch.equal(ops.dsa(x, operation, spread), expected)

    leaf = images.clone().requires_grad_()
    out = ops.dsa(leaf, operation, parameters)
    out.backward(torch.ones((), dtype=out.dtype, device=device).expand(out.shape))
    assert torch.equal(leaf.grad, ops.dsa_backward(torch.ones_like(out), operation, parameters))


@pytest.mark.parametrize("shape", [(0, 3, 8, 8), (2, 0, 8, 8), (2, 3, 0, 8), (2, 3, 8, 0)])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_empty(device, operation, shape):
    rows = draw_parameters(Case(operation, (2, 3, 8, 8)))[: shape[0]].to(device)
    leaf = torch.zeros(shape, device=device, requires_grad=True)
    out = ops.dsa(leaf, operation, rows)
    assert out.shape == shape
    (grad,) = torch.autograd.grad(out.sum(), leaf)
    assert grad.shape == shape


def test_identity_returns_the_images():
    images = torch.zeros(2, 1, 4, 4)
    nothing = torch.zeros(1, 0, dtype=torch.float64)
    assert ops.dsa(images, "identity", nothing) is images
    assert ops.dsa_jvp(images, "identity", nothing) is images
    assert ops.dsa_backward(images, "identity", nothing) is images


def test_a_nan_in_the_images_stays_in_sight(backend):
    """Divergence must not be augmented away: a pixel that is read makes NaN of what reads it."""
    for operation in ("color", "flip", "scale", "rotate"):
        case = Case(operation, SHAPES["7x7"])
        images, _, parameters = draw(case, device=backend.device)
        images[0, 1, 3, 3] = torch.nan
        assert run(backend, case, images, parameters)[0].isnan().any(), operation
        assert not run(backend, case, images, parameters)[1:].isnan().any(), operation


class Recorder(torch.utils._python_dispatch.TorchDispatchMode):
    """Notes the native operators that run."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.namespace == "nsdbench":
            self.names.append(func._schema.name)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("operation", OPERATIONS)
def test_augment_runs_natively_unless_switched_off(device, operation, monkeypatch):
    params = augment.sample(operation, 4, (3, 9, 8), stream(0)).to(device)
    images = torch.randn(4, 3, 9, 8, generator=stream(1)).to(device)
    results = []
    for switch, expected in (("1", ["nsdbench::dsa", "nsdbench::dsa_backward"]), ("0", [])):
        monkeypatch.setenv("NSDBENCH_NATIVE", switch)
        leaf = images.clone().requires_grad_()
        with Recorder() as recorder:
            out = augment.apply(leaf, params)
            (grad,) = torch.autograd.grad(out, leaf, images)
        assert recorder.names == expected
        results.append((out.detach(), grad))
    for native, plain in zip(*results, strict=True):
        torch.testing.assert_close(native, plain, rtol=1e-4, atol=1e-5)


def test_half_precision_takes_the_twin():
    params = augment.sample("flip", 4, (3, 8, 8), stream(0))
    images = torch.randn(4, 3, 8, 8, generator=stream(1)).bfloat16()
    with Recorder() as recorder:
        out = augment.apply(images, params)
    assert recorder.names == [] and out.dtype == torch.bfloat16
    assert torch.equal(out.float(), augment.apply(images.float(), params))


def test_parameters_are_named_for_every_operation():
    assert set(PARAMETERS) == {*OPERATIONS, "identity"}
    for operation in OPERATIONS:
        columns = draw_parameters(Case(operation, SMALL)).shape[1]
        assert len(PARAMETERS[operation]) == columns
