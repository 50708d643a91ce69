"""The ConvNet's step out of library convolutions: what CUDA runs, here on the CPU's operators."""

import itertools
import statistics

import pytest
import torch

from nsdbench.ops import convnet_blocks
from nsdbench.ops.convnet_blocks import convnet_adjoint, convnet_gradient
from nsdbench.student import unroll
from nsdbench.student.step import repeatable
from tests.ops.test_convnet_features import Case, error
from tests.ops.test_convnet_step import CASES, UNROLLED, Problem, Unrolled


def adjoint(problem, direction=None, needs=None):
    direction = problem.direction if direction is None else direction
    needs = (True, True, problem.y.dim() == 2) if needs is None else needs
    return convnet_adjoint(problem.theta, problem.x, problem.y, direction, problem.shape, needs)


@pytest.mark.parametrize("is_soft", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_gradient_and_adjoint_equal_the_twin(name, is_soft):
    problem = Problem(CASES[name], is_soft)
    _, gradient, along, exact = problem.twin()
    ours = convnet_gradient(problem.theta, problem.x, problem.y, problem.shape)
    assert error(ours, gradient) < 1e-10
    our_along, found = adjoint(problem)
    assert error(our_along, along) < 1e-10
    for h, expected in zip(found, exact, strict=False):
        assert error(h, expected) < 1e-10
    assert len(exact) == 3 or found[2] is None


@pytest.mark.parametrize("name", ["colour", "grey-pads-3", "odd-maps"])
def test_it_agrees_with_the_native_step(name):
    problem = Problem(CASES[name], True)
    _, along, found = problem.adjoint()
    our_along, ours = adjoint(problem)
    for a, b in zip((our_along, *ours), (along, *found), strict=True):
        assert error(a, b) < 1e-10


@pytest.mark.parametrize("name", ["colour", "odd-maps", "uneven-groups", "one-block"])
def test_the_recomputed_forward_pass_is_the_first_one(name, monkeypatch):
    """Bit by bit in float32: every map that the adjoint differentiates at is the step's own."""
    passes, run_blocks = [], convnet_blocks._run_blocks

    def recorded(*arguments):
        passes.append([list(maps) for maps in run_blocks(*arguments)])
        return tuple(list(maps) for maps in passes[-1])

    monkeypatch.setattr(convnet_blocks, "_run_blocks", recorded)
    problem = Problem(CASES[name], False, torch.float32)
    convnet_gradient(problem.theta, problem.x, problem.y, problem.shape)
    adjoint(problem)
    (inputs, convolved), (inputs_again, convolved_again) = passes
    assert len(inputs) == len(convolved) + 1 == problem.case.depth
    assert all(map(torch.equal, inputs + convolved, inputs_again + convolved_again))


def test_the_hessian_is_symmetric_and_the_adjoint_linear():
    problem = Problem(CASES["colour"], True)
    p = problem.direction
    q = p.roll(17) + 0.3
    for_p, for_q = adjoint(problem, p)[1], adjoint(problem, q)[1]
    assert torch.dot(q, for_p[0]).isclose(torch.dot(p, for_q[0]), rtol=1e-10)
    for_sum = adjoint(problem, 2 * p - 3 * q)[1]
    for a, b, both in zip(for_p, for_q, for_sum, strict=True):
        assert error(both, 2 * a - 3 * b) < 1e-10


@pytest.mark.parametrize("is_soft", [False, True])
def test_only_what_is_needed(is_soft):
    problem = Problem(CASES["odd-maps"], is_soft, torch.float32)
    along, everything = adjoint(problem)
    for needs in itertools.product([False, True], repeat=3 if is_soft else 2):
        needs = (*needs, False)[:3]
        again, found = adjoint(problem, needs=needs)
        assert torch.equal(again, along)
        for need, h, full in zip(needs, found, everything, strict=True):
            assert torch.equal(h, full) if need else h is None


class CountedConvolutions(torch.utils._python_dispatch.TorchDispatchMode):
    """Count convolutions over the batch: 1 forward, 1 for each gradient asked for."""

    def __init__(self):
        super().__init__()
        self.forward, self.backward = 0, 0

    def __torch_dispatch__(self, operator, types, arguments=(), options=None):
        if operator is torch.ops.aten.convolution.default:
            self.forward += 1
        if operator is torch.ops.aten.convolution_backward.default:
            self.backward += sum(arguments[-1])
        return operator(*arguments, **(options or {}))


def test_number_of_convolutions():
    """3 for a step and 8 for its adjoint, for each block but the first, which is an operator."""
    problem = Problem(CASES["colour"], False)
    blocks = problem.case.depth - 1
    with CountedConvolutions() as counted:
        convnet_gradient(problem.theta, problem.x, problem.y, problem.shape)
    assert (counted.forward, counted.backward) == (blocks, 2 * blocks)
    with CountedConvolutions() as counted:
        adjoint(problem)
    assert (counted.forward, counted.backward) == (3 * blocks, 5 * blocks)


class SeenMaps(torch.utils._python_dispatch.TorchDispatchMode):
    """Note for every map that our operators read whether it is in memory as they want it."""

    def __init__(self):
        super().__init__()
        self.are_in_order = []

    def __torch_dispatch__(self, operator, types, arguments=(), options=None):
        if operator.name().startswith("nsdbench::"):
            maps = [a for a in arguments if isinstance(a, torch.Tensor) and a.dim() == 4]
            self.are_in_order += [a.is_contiguous() for a in maps]
        return operator(*arguments, **(options or {}))


@pytest.mark.parametrize("name", ["colour", "odd-maps", "not-square"])
def test_no_map_is_copied_between_blocks(device, name):
    """In float32, which the library convolves with channels innermost on the CPU as well."""
    problem = Problem(CASES[name], True, torch.float32)
    operands = (problem.theta, problem.x, problem.y, problem.direction)
    theta, x, y, direction = (operand.to(device) for operand in operands)
    with SeenMaps() as seen:
        convnet_gradient(theta, x, y, problem.shape)
        _, found = convnet_adjoint(theta, x, y, direction, problem.shape, (True, True, True))
    # Maps, images and the first block's weights.
    assert len(seen.are_in_order) == 12 * (problem.case.depth - 1) + 15
    assert all(seen.are_in_order)
    assert found[1].is_contiguous()


def test_wrong_arguments_and_saturated_softmax():
    problem = Problem(CASES["one-block"], False)
    with pytest.raises(ValueError, match="theta: expected shape"):
        convnet_gradient(problem.theta[:-1], problem.x, problem.y, problem.shape)
    with pytest.raises(ValueError, match="direction: expected the dtype of x"):
        adjoint(problem, problem.direction.float())
    problem.theta *= 1e4
    along, found = adjoint(problem)
    assert along.isfinite() and all(h.isfinite().all() for h in found[:2])


@pytest.mark.parametrize(("case", "momentum"), UNROLLED)
def test_unrolled_gradient_equals_full_autograd(case, momentum, fused_on_cpu):
    problem = Unrolled(case, num_steps=3, momentum=momentum)
    assert unroll.code_path(problem.model, "exact") == "fused"
    for ours, full in zip(problem.gradients("exact"), problem.gradients("full"), strict=True):
        assert error(ours, full) < 1e-10


def test_unrolled_gradient_in_float32_is_as_accurate_as_autograd(fused_on_cpu):
    """Median over ten draws: a ReLU that flips by rounding decides the error of a single one."""
    ratios, case = [], Case(6, 3, (16, 16), 3, 16)
    for seed in range(10):
        wide = Unrolled(case, 6, is_augmented=False, seed=seed).gradients("full")
        problem = Unrolled(case, 6, torch.float32, is_augmented=False, seed=seed)
        ratios.append(
            [
                error(a, exact) / (2 * error(b, exact) + torch.finfo(torch.float32).eps)
                for a, b, exact in zip(
                    problem.gradients("exact"), problem.gradients("full"), wide, strict=True
                )
            ]
        )
    assert max(map(statistics.median, zip(*ratios, strict=True))) <= 1


def test_equal_calls_give_equal_bits(fused_on_cpu):
    problem = Unrolled(CASES["colour"], 3, torch.float32, momentum=0.9)
    first, second = problem.gradients("exact"), problem.gradients("exact")
    assert all(map(torch.equal, first, second))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_equals_cpu_and_repeats_itself():
    problem = Problem(CASES["colour"], True)
    along, found = adjoint(problem)
    for name in ("theta", "x", "y", "direction"):
        setattr(problem, name, getattr(problem, name).cuda())
    with repeatable():
        first, second = adjoint(problem), adjoint(problem)
    for ours, again, exact in zip(
        (first[0], *first[1]), (second[0], *second[1]), (along, *found), strict=True
    ):
        assert torch.equal(ours, again)
        assert error(ours.cpu(), exact) < 1e-10
