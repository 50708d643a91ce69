"""The distance of trajectory matching against exact and float64 arithmetic."""

from fractions import Fraction

import pytest
import torch

from nsdbench.distillation.objectives.trajectory import matching_distance

EPS32 = torch.finfo(torch.float32).eps


def draw(count, dtype=torch.float64, device="cpu", seed=3):
    """Make theta, theta_start and theta_target, as far apart as a student's are."""
    stream = torch.Generator().manual_seed(seed)
    start = torch.randn(count, generator=stream, dtype=torch.float64)
    theta, target = (
        start + 0.1 * torch.randn(count, generator=stream, dtype=torch.float64) for _ in range(2)
    )
    return [tensor.to(device, dtype).requires_grad_() for tensor in (theta, start, target)]


def with_gradients(operands):
    value = matching_distance(*operands)
    return value.detach(), *torch.autograd.grad(value, operands)


def test_value_by_hand(device):
    """Against exact rational arithmetic, for numbers that floats hold exactly."""
    rows = ([3, -1, 0.5], [0.25, 4, 1], [1, 1, -2])
    theta, start, target = ([Fraction(number) for number in row] for row in rows)
    numerator = sum((a - b) ** 2 for a, b in zip(theta, target, strict=True))
    denominator = sum((a - b) ** 2 for a, b in zip(start, target, strict=True))
    value = matching_distance(*(torch.tensor(row, device=device) for row in rows))
    assert value.item() == torch.tensor(float(numerator) / float(denominator)).item()
    assert value.shape == () and value.dtype == torch.float32


def test_gradients_by_formula(device):
    """2 u / D, -2 N w / D^2 and the negative of their sum, with u and w the two differences."""
    operands = draw(4097, device=device)
    theta, start, target = (operand.detach() for operand in operands)
    u, w = theta - target, start - target
    numerator, denominator = u.square().sum(), w.square().sum()
    in_theta, in_start = 2 * u / denominator, -2 * numerator / denominator**2 * w
    expected = (numerator / denominator, in_theta, in_start, -(in_theta + in_start))
    for ours, exact in zip(with_gradients(operands), expected, strict=True):
        torch.testing.assert_close(ours, exact, rtol=1e-10, atol=1e-16)


@pytest.mark.parametrize("count", [1, 17, 4095, 4097, 320_010])
def test_float32_is_exact_but_for_the_rounding_of_the_result(device, count):
    operands = draw(count, torch.float32, device)
    exact = with_gradients([operand.detach().double().requires_grad_() for operand in operands])
    for n, (ours, wide) in enumerate(zip(with_gradients(operands), exact, strict=True)):
        assert ours.dtype == torch.float32
        # The gradient in the target is a sum of two that are rounded each.
        size = wide.abs().max() if n == 3 else wide.abs()
        assert ((ours.double() - wide).abs() <= EPS32 * size).all()


def test_bits_do_not_depend_on_threads():
    results, threads = [], torch.get_num_threads()
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append(with_gradients(draw(320_010)))
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(map(torch.equal, results[0], other))


def test_empty_standstill_and_nan(device):
    theta, start, target = draw(5, device=device)
    assert matching_distance(theta[:0], start[:0], target[:0]).isnan()
    assert matching_distance(theta, target, target) == torch.inf
    assert matching_distance(target, target, target).isnan()
    theta.detach()[3] = torch.nan
    assert matching_distance(theta, start, target).isnan()


def test_wrong_shapes_are_refused():
    theta, start, target = draw(4)
    for operands in (
        (theta, start[:3], target),
        (theta.view(2, 2),) * 3,
        (theta, start, target[0]),
    ):
        with pytest.raises(ValueError, match="three vectors .P. of one length, got"):
            matching_distance(*operands)
