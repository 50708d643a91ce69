"""torch.func and torch.compile through the unrolled student: right, or refused in our words."""

import pytest
import torch
from torch.autograd import forward_ad
from torch.func import grad, jacrev, jvp, vmap

from nsdbench.student import unroll
from tests.student.test_unroll import Problem

NAMES = ("theta", "images", "labels", "lr")
ADJOINT = [mode for mode in unroll.MODES if mode != "full"]


@pytest.fixture(autouse=True, params=["native", "generic"])
def implementation(request, monkeypatch):
    monkeypatch.setenv("NSDBENCH_NATIVE", "0" if request.param == "generic" else "1")


@pytest.fixture
def problem():
    return Problem(num_steps=2, momentum=0.5, is_augmented=False, num_images=4, batch_size=2)


def function_of(problem, name, mode):
    """J as a function of one input, and the input."""

    def distance(value):
        return problem.distance(problem.train(mode, problem.inputs | {name: value}))

    return distance, problem.inputs[name]


def by_autograd(run, operand):
    leaf = operand.clone().requires_grad_()
    return torch.autograd.grad(run(leaf), leaf)[0]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("mode", unroll.MODES)
def test_grad_equals_autograd(problem, mode, name):
    run, operand = function_of(problem, name, mode)
    torch.testing.assert_close(grad(run)(operand), by_autograd(run, operand))


@pytest.mark.parametrize("mode", unroll.MODES)
def test_grad_through_augmentation_and_hard_labels(mode):
    problem = Problem(num_steps=2, is_soft=False)
    run, operand = function_of(problem, "images", mode)
    torch.testing.assert_close(grad(run)(operand), by_autograd(run, operand))


@pytest.mark.parametrize("name", NAMES)
def test_all_transforms_run_through_full(problem, name):
    run, operand = function_of(problem, name, "full")
    gradient = by_autograd(run, operand)
    along = torch.ones_like(operand)
    torch.testing.assert_close(jvp(run, (operand,), (along,))[1], gradient.sum())
    with forward_ad.dual_level():
        tangent = forward_ad.unpack_dual(run(forward_ad.make_dual(operand, along))).tangent
    torch.testing.assert_close(tangent, gradient.sum())
    torch.testing.assert_close(jacrev(run)(operand), gradient)
    both = torch.stack([operand, 0.9 * operand])
    torch.testing.assert_close(vmap(grad(run))(both)[0], gradient)
    torch.testing.assert_close(vmap(run)(both), torch.stack([run(row) for row in both]))
    second = grad(lambda value: grad(run)(value).sum())(operand)
    leaf = operand.clone().requires_grad_()
    (first,) = torch.autograd.grad(run(leaf), leaf, create_graph=True)
    torch.testing.assert_close(second, torch.autograd.grad(first.sum(), leaf)[0])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("mode", ADJOINT)
def test_the_other_modes_say_what_to_use(problem, mode, name):
    run, operand = function_of(problem, name, mode)
    along, both = torch.ones_like(operand), torch.stack([operand, operand])
    no_jvp = r"^unrolled_sgd in mode .* cannot run under torch.func.jvp: use mode='full'$"
    no_vmap = r"^unrolled_sgd in mode .* cannot run under torch.func.vmap: use mode='full', or"
    for refused in (run, grad(run)):
        with pytest.raises(RuntimeError, match=no_jvp):
            jvp(refused, (operand,), (along,))
        with pytest.raises(ValueError, match=no_vmap):
            vmap(refused)(both)
    with pytest.raises(ValueError, match=no_vmap):
        jacrev(lambda value: run(value) * torch.ones(2))(operand)
    with forward_ad.dual_level(), pytest.raises(RuntimeError, match=no_jvp):
        run(forward_ad.make_dual(operand, along))
    with pytest.raises(RuntimeError, match="only once in modes .* use mode='full'"):
        grad(lambda value: grad(run)(value).sum())(operand)


@pytest.mark.parametrize("mode", unroll.MODES)
def test_batches_and_classes_cannot_be_batched(mode):
    problem = Problem(num_steps=2, is_soft=False)
    message = "batches and classes cannot run under torch.func.vmap: batch theta"
    run, labels = function_of(problem, "labels", mode)
    with pytest.raises(ValueError, match=message):
        vmap(run)(labels[None])

    def train(batches):
        return unroll.unrolled_sgd(
            problem.model, problem.theta, problem.images, problem.labels, batches, 0.1, mode=mode
        )

    with pytest.raises(ValueError, match=message):
        vmap(train)(torch.zeros(1, 2, 2, dtype=torch.int64))
    with pytest.raises(ValueError, match=message):
        vmap(lambda rows: train([rows, rows]))(torch.zeros(1, 2, dtype=torch.int64))


# torch looks at `.grad` of what a graph break hands over.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.parametrize("mode", unroll.MODES)
def test_compiled_without_then_with_a_gradient(problem, mode):
    run, operand = function_of(problem, "images", mode)
    torch.compiler.reset()
    compiled = torch.compile(run, backend="aot_eager")
    assert torch.equal(compiled(operand), run(operand))
    torch.testing.assert_close(by_autograd(compiled, operand), by_autograd(run, operand))
