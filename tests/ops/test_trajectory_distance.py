"""`trajectory_distance`: values and derivatives on every implementation, against the twin."""

import os
import subprocess
import sys
from fractions import Fraction

import pytest
import torch

from nsdbench import _simt, ops
from nsdbench.distillation.objectives.trajectory import matching_distance
from nsdbench.ops import reference

FORWARD = torch.ops.nsdbench.trajectory_distance.default
BACKWARD = torch.ops.nsdbench.trajectory_distance_backward.default
# Both sides of a vector, of a block of threads, of a chunk and of the chunks worth a thread.
COUNTS = (1, 2, 15, 16, 17, 255, 257, 1025, 4095, 4097, 33001)
EPS32 = torch.finfo(torch.float32).eps
ALL = 7  # every gradient is wanted


def draw(count, dtype=torch.float64, device="cpu", seed=3):
    """Make theta, theta_start and theta_target, as far apart as a student's are."""
    stream = torch.Generator().manual_seed(seed)
    start = torch.randn(count, generator=stream, dtype=torch.float64)
    theta, target = (
        start + 0.1 * torch.randn(count, generator=stream, dtype=torch.float64) for _ in range(2)
    )
    return [tensor.to(dtype).to(device) for tensor in (theta, start, target)]


def run(backend, operands):
    """Compute the distance without autograd: the scalar and its two sums."""
    if not backend.is_host_simt:
        return FORWARD(*operands)
    name = f"trajectory_distance_{str(operands[0].dtype).removeprefix('torch.')}"
    value, sums = getattr(_simt, name)(*(tensor.numpy() for tensor in operands))
    return torch.from_numpy(value), torch.from_numpy(sums)


def run_backward(backend, grad, operands, sums, wanted=ALL):
    if not backend.is_host_simt:
        return BACKWARD(grad, *operands, sums, wanted)
    name = f"trajectory_distance_backward_{str(operands[0].dtype).removeprefix('torch.')}"
    arrays = [tensor.numpy() for tensor in (grad, *operands, sums)]
    return [torch.from_numpy(found) for found in getattr(_simt, name)(*arrays, wanted)]


def twin(operands, grad=1.0):
    """Evaluate the twin on the CPU: the distance and its three gradients."""
    leaves = [tensor.detach().cpu().requires_grad_() for tensor in operands]
    value = reference.trajectory_distance(*leaves)
    return value.detach(), *torch.autograd.grad(value * grad, leaves)


def error(x, exact):
    return (x.cpu().double() - exact.double()).abs().max().item()


def size(x):
    return x.abs().max().item()


def test_value_by_hand(backend):
    """Against exact rational arithmetic, for numbers that floats hold exactly."""
    rows = ([3, -1, 0.5], [0.25, 4, 1], [1, 1, -2])
    theta, start, target = ([Fraction(number) for number in row] for row in rows)
    numerator = sum((a - b) ** 2 for a, b in zip(theta, target, strict=True))
    denominator = sum((a - b) ** 2 for a, b in zip(start, target, strict=True))
    operands = [torch.tensor(row, dtype=torch.float64, device=backend.device) for row in rows]
    value, sums = run(backend, operands)
    assert sums.tolist() == [float(numerator), float(denominator)]
    assert value.item() == float(numerator) / float(denominator)


@pytest.mark.parametrize("count", COUNTS)
def test_forward_equals_twin(backend, count):
    operands = draw(count, device=backend.device)
    value, sums = run(backend, operands)
    exact, *_ = twin(operands)
    assert value.shape == () and value.dtype == torch.float64
    assert error(value, exact) <= 1e-10 * size(exact)
    assert sums[0] / sums[1] == value


@pytest.mark.parametrize("count", COUNTS)
def test_backward_equals_twin_autograd(backend, count):
    operands = draw(count, device=backend.device)
    grad = torch.tensor(-1.7, dtype=torch.float64, device=backend.device)
    found = run_backward(backend, grad, operands, run(backend, operands)[1])
    _, *exact = twin(operands, -1.7)
    for ours, other in zip(found, exact, strict=True):
        assert ours.shape == other.shape and ours.dtype == other.dtype
        assert error(ours, other) <= 1e-10 * size(other)


@pytest.mark.parametrize("wanted", range(8))
def test_only_what_is_wanted_is_computed(backend, wanted):
    operands = draw(300, device=backend.device)
    grad = torch.tensor(2.0, dtype=torch.float64, device=backend.device)
    _, sums = run(backend, operands)
    every = run_backward(backend, grad, operands, sums)
    for bit, found in enumerate(run_backward(backend, grad, operands, sums, wanted)):
        if wanted >> bit & 1:
            assert torch.equal(found, every[bit])
        else:
            assert found.shape == (0,)


@pytest.mark.parametrize("count", COUNTS)
def test_float32_is_as_accurate_as_the_twin_in_float32(backend, count):
    operands = draw(count, torch.float32, backend.device)
    exact = twin([tensor.double() for tensor in operands])
    in_float = twin(operands)
    value, sums = run(backend, operands)
    assert sums.dtype == torch.float64
    grad = torch.ones((), device=backend.device)
    ours = [value, *run_backward(backend, grad, operands, sums)]
    for x, x_twin, x_exact in zip(ours, in_float, exact, strict=True):
        assert x.dtype == torch.float32
        assert error(x, x_exact) <= 2 * error(x_twin, x_exact) + EPS32 * size(x_exact)


def test_float32_sums_are_those_of_float64(backend):
    """Differences and sums are double: nothing is lost but in the operands and the result."""
    operands = draw(33001, torch.float32, backend.device)
    _, sums = run(backend, operands)
    _, wide = run(backend, [tensor.double() for tensor in operands])
    assert torch.equal(sums, wide)


def leaves_of(device, count=5):
    return [tensor.requires_grad_() for tensor in draw(count, device=device)]


@pytest.mark.parametrize("learned", [(True, False, False), (False, True, True), (True,) * 3])
def test_gradcheck_and_gradgradcheck(device, learned):
    leaves = [
        leaf.requires_grad_(is_learned)
        for leaf, is_learned in zip(draw(5, device=device), learned, strict=True)
    ]
    assert torch.autograd.gradcheck(ops.trajectory_distance, leaves, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(
        ops.trajectory_distance, leaves, check_fwd_over_rev=True, check_rev_over_rev=True
    )


def test_third_derivatives_equal_those_of_the_twin(device):
    values = []
    for run_it in (ops.trajectory_distance, reference.trajectory_distance):
        leaves = leaves_of(device, 17)
        value = run_it(*leaves).pow(2)
        for _ in range(3):
            gradients = torch.autograd.grad(value, leaves, create_graph=True)
            value = sum(gradient.pow(2).sum() for gradient in gradients)
        values.append(value)
    torch.testing.assert_close(*values, rtol=1e-10, atol=0)


def test_tangent_equals_finite_difference(device):
    operands, tangents = draw(17, device=device), draw(17, device=device, seed=4)
    step = 1e-5
    ahead, behind = (
        ops.trajectory_distance(
            *(x + sign * step * x_t for x, x_t in zip(operands, tangents, strict=True))
        )
        for sign in (1, -1)
    )
    value, along = torch.func.jvp(ops.trajectory_distance, tuple(operands), tuple(tangents))
    assert value == ops.trajectory_distance(*operands)
    torch.testing.assert_close(along, (ahead - behind) / (2 * step), rtol=1e-8, atol=1e-10)


def test_derivative_of_a_tangent_is_not_lost(device):
    """Reverse over forward: the sums that the operator keeps depend on theta as well."""
    operands, tangents = draw(7, device=device), tuple(draw(7, device=device, seed=4))

    def along(run_it):
        def tangent(*x):
            return torch.func.jvp(run_it, x, tangents)[1]

        return torch.func.grad(tangent, argnums=(0, 1, 2))(*operands)

    for ours, other in zip(
        along(ops.trajectory_distance), along(reference.trajectory_distance), strict=True
    ):
        torch.testing.assert_close(ours, other, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("requires_grad", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_opcheck(device, dtype, requires_grad):
    operands = [x.requires_grad_(requires_grad) for x in draw(9, dtype, device)]
    torch.library.opcheck(FORWARD, operands)
    sums = FORWARD(*operands)[1]
    grad = torch.ones((), dtype=dtype, device=device).requires_grad_(requires_grad)
    for wanted in (1, ALL):
        torch.library.opcheck(BACKWARD, (grad, *operands, sums, wanted))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_calls_give_equal_bits(backend, dtype):
    operands = draw(33001, dtype, backend.device)
    grad = torch.ones((), dtype=dtype, device=backend.device)
    results = []
    for _ in range(2):
        value, sums = run(backend, operands)
        results.append((value, sums, *run_backward(backend, grad, operands, sums)))
    assert all(map(torch.equal, *results))


def test_bits_do_not_depend_on_threads():
    results, threads = [], torch.get_num_threads()
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            leaves = [x.requires_grad_() for x in draw(320_010, torch.float32)]
            value = ops.trajectory_distance(*leaves)
            results.append((value.detach(), *torch.autograd.grad(value, leaves)))
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(map(torch.equal, results[0], other))


PROGRAM = """
import torch
from nsdbench import ops

stream = torch.Generator().manual_seed(1)
bits = []
for dtype in (torch.float32, torch.float64):
    leaves = [torch.randn(9001, generator=stream, dtype=dtype).requires_grad_() for _ in range(3)]
    value = ops.trajectory_distance(*leaves)
    gradients = torch.autograd.grad(value, leaves)
    bits += [value.item().hex(), *(hash(tuple(found.tolist())) for found in gradients)]
print(bits)
"""


@pytest.mark.slow
def test_bits_do_not_depend_on_the_instruction_set():
    printed = set()
    for level in ("baseline", "avx2", "avx512"):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            capture_output=True,
            text=True,
            env=os.environ | {"NSDBENCH_SIMD": level},
        )
        assert done.returncode == 0, done.stderr
        printed.add(done.stdout)
    assert len(printed) == 1


def test_non_contiguous_operands(device):
    operands = draw(301, device=device)
    expected = ops.trajectory_distance(*operands)
    spread = [torch.stack((x, x), dim=1)[:, 0].requires_grad_() for x in operands]
    assert not spread[0].is_contiguous()
    value = ops.trajectory_distance(*spread)
    assert torch.equal(value, expected)
    for found, exact in zip(
        torch.autograd.grad(value, spread), twin(operands)[1:], strict=True
    ):
        torch.testing.assert_close(found.cpu(), exact, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_empty_and_standstill_are_as_the_twin_says(backend, dtype):
    empty = draw(0, dtype, backend.device)
    value, sums = run(backend, empty)
    assert value.isnan() and sums.tolist() == [0, 0]
    grad = torch.ones((), dtype=dtype, device=backend.device)
    assert all(found.shape == (0,) for found in run_backward(backend, grad, empty, sums))
    theta, _, target = draw(5, dtype, backend.device)
    assert run(backend, [theta, target, target])[0] == torch.inf
    assert run(backend, [target, target, target])[0].isnan()


def test_a_nan_stays_in_sight(backend):
    for position in range(3):
        operands = draw(300, device=backend.device)
        operands[position][77] = torch.nan
        assert run(backend, operands)[0].isnan()


def through_wrapper(*operands):
    return ops.trajectory_distance(*operands)


def through_fake(*operands):
    with torch._subclasses.FakeTensorMode() as mode:
        return FORWARD(*map(mode.from_tensor, operands))


def through_backward(theta, start, target):
    grad, sums = theta.new_ones(()), theta.new_ones(2, dtype=torch.float64)
    return BACKWARD(grad, theta, start, target, sums, ALL)


entries = pytest.mark.parametrize(
    "entry", [through_wrapper, FORWARD, through_backward, through_fake]
)


@entries
def test_wrong_operands(device, entry):
    theta, start, target = draw(4, device=device)
    cases = {
        r"theta: expected 1 dimension \[P\], got \[2, 2\]": (theta.view(2, 2), start, target),
        "theta: expected dtype float32 or float64, got": (theta.half(), start, target),
        r"theta_start: expected shape \[4\], got \[3\]": (theta, start[:3], target),
        r"theta_target: expected shape \[4\], got \[4, 1\]": (theta, start, target[:, None]),
        "theta_target: expected dtype float64, got": (theta, start, target.float()),
    }
    for message, operands in cases.items():
        with pytest.raises(ValueError, match=f"trajectory_distance: {message}"):
            entry(*operands)


def test_wrong_device(device):
    theta, start, target = draw(4, device=device)
    expected = f"theta_start: expected the device of theta, {theta.device}, got meta"
    with pytest.raises(ValueError, match=expected):
        ops.trajectory_distance(theta, start.to("meta"), target)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("entry", [through_wrapper, FORWARD, through_backward])
def test_operands_on_the_cpu_beside_theta_on_cuda(entry):
    theta, start, target = draw(4, device="cuda")
    with pytest.raises(ValueError, match="theta_target: expected the device of theta"):
        entry(theta, start, target.cpu())


def test_wrong_operands_of_the_gradient(device):
    operands = draw(4, device=device)
    grad, sums = operands[0].new_ones(()), operands[0].new_ones(2)
    cases = {
        r"grad: expected shape \[\], got \[1\]": (grad[None], sums, 1),
        "grad: expected dtype float64, got": (grad.float(), sums, 1),
        r"sums: expected shape \[2\], got \[3\]": (grad, sums.new_ones(3), 1),
        "sums: expected dtype float64, got": (grad, sums.float(), 1),
        "wanted: expected 0 to 7, got 8": (grad, sums, 8),
    }
    for message, (its_grad, its_sums, wanted) in cases.items():
        with pytest.raises(ValueError, match=f"trajectory_distance: {message}"):
            BACKWARD(its_grad, *operands, its_sums, wanted)


class Recorder(torch.utils._python_dispatch.TorchDispatchMode):
    """Notes the native operators that run."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.namespace == "nsdbench":
            self.names.append(func._schema.name.removeprefix("nsdbench::"))
        return func(*args, **(kwargs or {}))


def test_matching_runs_natively_unless_switched_off(device, monkeypatch):
    names = ["trajectory_distance", "trajectory_distance_backward"]
    results = []
    for switch, expected in (("1", names), ("0", [])):
        monkeypatch.setenv("NSDBENCH_NATIVE", switch)
        theta, start, target = draw(1000, torch.float32, device)
        theta.requires_grad_()
        with Recorder() as recorder:
            value = matching_distance(theta, start, target)
            (gradient,) = torch.autograd.grad(value, theta)
        assert recorder.names == expected
        results.append((value.detach(), gradient))
    for native, plain in zip(*results, strict=True):
        torch.testing.assert_close(native, plain, rtol=1e-5, atol=0)


def test_half_precision_takes_the_twin():
    operands = draw(100, torch.bfloat16)
    assert matching_distance(*operands) == reference.trajectory_distance(*operands)
