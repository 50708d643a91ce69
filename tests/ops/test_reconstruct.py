"""`reconstruct`: values and derivatives on every implementation, against the plain-PyTorch twin."""

from dataclasses import dataclass

import pytest
import torch

from nsdbench import ops
from nsdbench.ops import reference
from nsdbench.ops.backend import operators

FORWARD = operators().reconstruct.default
BACKWARD = operators().reconstruct_backward.default


@dataclass(frozen=True)
class Case:
    num_spectra: int
    num_kernel_sets: int
    t: tuple[int, int, int, int]
    u: tuple[int, int, int, int]
    identity: tuple[int, ...] = ()  # modes without a kernel
    index: tuple[int, ...] | None = None


CASES = {
    "every-mode": Case(2, 3, (3, 3, 5, 4), (6, 3, 9, 7)),
    "index": Case(2, 3, (3, 3, 5, 4), (6, 3, 9, 7), index=(35, 0, 7, 7, 12, 13, 14)),
    "index-of-one": Case(3, 2, (9, 2, 3, 4), (11, 2, 8, 8), index=(40,)),
    "index-empty": Case(2, 2, (2, 2, 2, 2), (3, 2, 4, 4), index=()),
    "index-of-many": Case(
        2, 2, (2, 1, 2, 2), (3, 1, 2, 3), index=tuple(7 * n % 12 for n in range(300))
    ),
    "size-one": Case(1, 1, (1, 1, 1, 1), (1, 1, 1, 1)),
    "odd-sizes": Case(2, 1, (1, 2, 19, 1), (5, 1, 33, 17)),
    "shrinking": Case(2, 2, (21, 3, 7, 18), (4, 2, 3, 5)),
    "more-than-one-tile": Case(1, 2, (2, 1, 18, 17), (19, 1, 20, 33)),
    "no-sample-kernel": Case(2, 2, (4, 3, 3, 3), (4, 3, 6, 6), identity=(0, 1)),
    "no-sample-kernel-index": Case(
        2, 2, (4, 3, 3, 3), (4, 3, 6, 6), identity=(0, 1), index=(15, 3, 3, 8)
    ),
    "sample-kernel-only": Case(1, 1, (5, 3, 4, 4), (30, 3, 4, 4), identity=(1, 2, 3)),
    "last-mode-only": Case(2, 2, (3, 2, 2, 5), (3, 2, 2, 17), identity=(0, 1, 2)),
    "long-sums": Case(1, 1, (2, 3, 24, 24), (2, 3, 24, 25)),
}
SMALL = {  # for checks by finite differences
    "every-mode": Case(2, 2, (2, 2, 2, 3), (3, 2, 3, 2)),
    "index": Case(2, 2, (2, 1, 2, 2), (3, 2, 2, 2), index=(11, 4, 4)),
    "identities": Case(2, 2, (2, 2, 2, 2), (2, 2, 3, 2), identity=(0, 1, 3)),
}


def draw(case: Case, dtype=torch.float64, device="cpu", requires_grad=False, seed=3):
    """Make operands [spectra, four kernels or None] and the index of a case."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        values = torch.randn(shape, generator=generator, dtype=torch.float64)
        return values.to(dtype=dtype, device=device).requires_grad_(requires_grad)

    operands = [normal(case.num_spectra, *case.t)]
    for mode in range(4):
        is_identity = mode in case.identity
        operands.append(
            None if is_identity else normal(case.num_kernel_sets, case.t[mode], case.u[mode])
        )
    index = None if case.index is None else torch.tensor(case.index, dtype=torch.int64)
    return operands, None if index is None else index.to(device)


def twin(operands, index, grad_images=None):
    """Evaluate the twin: images, a cotangent, and the gradients of the operands present."""
    leaves = [None if x is None else x.detach().cpu().requires_grad_() for x in operands]
    images = reference.reconstruct(leaves[0], leaves[1:], None if index is None else index.cpu())
    if grad_images is None:
        generator = torch.Generator().manual_seed(4)
        grad_images = torch.randn(images.shape, generator=generator, dtype=images.dtype)
    present = [x for x in leaves if x is not None]
    grads = iter(torch.autograd.grad(images, present, grad_images))
    return images.detach(), grad_images, [None if x is None else next(grads) for x in leaves]


def error(x, exact):
    """Largest absolute difference."""
    return (x.cpu().double() - exact.double()).abs().max().item() if exact.numel() else 0.0


def wanted_bits(operands):
    return sum(1 << n for n, operand in enumerate(operands) if operand is not None)


@pytest.mark.parametrize("name", CASES)
def test_forward_equals_twin(implementation, name):
    operands, index = draw(CASES[name], device=implementation.device)
    images = implementation.forward(operands, index)
    exact, _, _ = twin(operands, index)
    assert images.shape == exact.shape
    assert error(images, exact) <= 1e-10 * error(exact, torch.zeros_like(exact))


@pytest.mark.parametrize("name", CASES)
def test_backward_equals_twin_autograd(implementation, name):
    operands, index = draw(CASES[name], device=implementation.device)
    _, grad_images, exact = twin(operands, index)
    grads = implementation.backward(
        grad_images.to(implementation.device), operands, index, wanted_bits(operands)
    )
    for grad, expected in zip(grads, exact, strict=True):
        if expected is None:
            assert grad.shape == (0,)
            continue
        assert grad.shape == expected.shape
        assert error(grad, expected) <= 1e-10 * error(expected, torch.zeros_like(expected))


@pytest.mark.parametrize("name", CASES)
def test_float32_is_as_accurate_as_the_twin_in_float32(implementation, name):
    """At most twice the twin's error, medians over draws: one draw of a gradient with two elements
    says little, and the twin's own error depends on the processor.
    """
    ours, theirs, rounding = [], [], []
    for seed in range(3, 8):
        operands, index = draw(CASES[name], torch.float32, implementation.device, seed=seed)
        wide = [None if x is None else x.double() for x in operands]
        twin_images, grad_images, twin_grads = twin(operands, index)
        exact = twin(wide, index, grad_images.double())
        images = implementation.forward(operands, index)
        grads = implementation.backward(
            grad_images.to(implementation.device), operands, index, wanted_bits(operands)
        )
        expected = [exact[0], *exact[2]]
        present = [n for n, tensor in enumerate(expected) if tensor is not None]
        assert all([images, *grads][n].dtype == torch.float32 for n in present)
        ours.append([error([images, *grads][n], expected[n]) for n in present])
        theirs.append([error([twin_images, *twin_grads][n], expected[n]) for n in present])
        sizes = [error(expected[n], torch.zeros_like(expected[n])) for n in present]
        rounding.append([torch.finfo(torch.float32).eps * size for size in sizes])
    ours, theirs, rounding = (torch.tensor(x).median(0).values for x in (ours, theirs, rounding))
    assert (ours <= 2 * theirs + rounding).all(), (ours, theirs)


@pytest.mark.parametrize("wanted", range(1, 32))
def test_backward_computes_only_what_is_wanted(implementation, wanted):
    operands, index = draw(SMALL["every-mode"], device=implementation.device)
    _, grad_images, exact = twin(operands, index)
    grads = implementation.backward(grad_images.to(implementation.device), operands, index, wanted)
    for n, (grad, expected) in enumerate(zip(grads, exact, strict=True)):
        if wanted >> n & 1:
            assert error(grad, expected) <= 1e-12 * error(expected, torch.zeros_like(expected))
        else:
            assert grad.shape == (0,)


@pytest.mark.parametrize("name", SMALL)
def test_gradcheck_and_gradgradcheck(device, name):
    operands, index = draw(SMALL[name], device=device, requires_grad=True)
    present = [x for x in operands if x is not None]

    def run(*tensors):
        values = iter(tensors)
        spectra, *kernels = [None if x is None else next(values) for x in operands]
        return ops.reconstruct(spectra, kernels, index)

    assert torch.autograd.gradcheck(run, present, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(run, present)


@pytest.mark.parametrize("name", SMALL)
def test_third_derivative_exists(device, name):
    operands, index = draw(SMALL[name], device=device, requires_grad=True)
    present = [x for x in operands if x is not None]
    value = ops.reconstruct(operands[0], operands[1:], index).pow(2).sum()
    expected = reference.reconstruct(operands[0], operands[1:], index).pow(2).sum()
    for _ in range(3):
        value, expected = (
            sum(g.pow(2).sum() for g in torch.autograd.grad(x, present, create_graph=True))
            for x in (value, expected)
        )
    torch.testing.assert_close(value, expected, rtol=1e-10, atol=0)


@pytest.mark.parametrize("name", SMALL)
def test_tangent_equals_finite_difference(device, name):
    (spectra, *kernels), index = draw(SMALL[name], device=device)
    spectra_t = torch.full_like(spectra, 0.3)
    kernels_t = [None if k is None else torch.cos(k) for k in kernels]

    def along(step):
        moved = [
            None if k is None else k + step * k_t for k, k_t in zip(kernels, kernels_t, strict=True)
        ]
        return ops.reconstruct(spectra + step * spectra_t, moved, index)

    h = 1e-3  # exact to h^4 times the fifth derivative, then rounding
    difference = (8 * (along(h) - along(-h)) - (along(2 * h) - along(-2 * h))) / (12 * h)
    tangent = ops.reconstruct_jvp(spectra, kernels, spectra_t, kernels_t, index)
    torch.testing.assert_close(tangent, difference, rtol=1e-8, atol=1e-8)

    present = [n for n, k in enumerate(kernels) if k is not None]

    def run(spectra, *some):
        full = [some[present.index(n)] if n in present else None for n in range(4)]
        return ops.reconstruct(spectra, full, index)

    _, functional = torch.func.jvp(
        run,
        (spectra, *(kernels[n] for n in present)),
        (spectra_t, *(kernels_t[n] for n in present)),
    )
    torch.testing.assert_close(functional, tangent, rtol=1e-12, atol=1e-12)


def test_tangent_of_nothing_is_zero():
    (spectra, *kernels), index = draw(SMALL["index"])
    tangent = ops.reconstruct_jvp(spectra, kernels, None, [None] * 4, index)
    assert torch.equal(tangent, torch.zeros_like(ops.reconstruct(spectra, kernels, index)))


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("requires_grad", [False, True])
def test_opcheck(device, name, requires_grad):
    operands, index = draw(SMALL[name], device=device, requires_grad=requires_grad)
    torch.library.opcheck(FORWARD, (*operands, index))
    grad_images = torch.ones_like(FORWARD(*operands, index).detach())
    grad_images.requires_grad_(requires_grad)
    torch.library.opcheck(BACKWARD, (grad_images, *operands, index, wanted_bits(operands)))


@pytest.mark.parametrize("name", ["every-mode", "index", "shrinking"])
def test_non_contiguous_operands(device, name):
    operands, index = draw(CASES[name], device=device)
    expected = ops.reconstruct(operands[0], operands[1:], index)
    strided = [x.flip(-1).mT.contiguous().mT.flip(-1) for x in operands]
    assert not any(x.is_contiguous() for x in strided if x.numel() > x.shape[-1])
    if index is not None:
        index = torch.stack([index, index], dim=1)[:, 0]
    assert torch.equal(ops.reconstruct(strided[0], strided[1:], index), expected)

    leaf = operands[0].clone().requires_grad_()
    images = ops.reconstruct(leaf, operands[1:], index)
    images.backward(torch.ones((), dtype=images.dtype, device=device).expand(images.shape))
    (ones,) = torch.autograd.grad(ops.reconstruct(leaf, operands[1:], index).sum(), leaf)
    assert torch.equal(leaf.grad, ones)


def test_equal_calls_give_equal_bits(implementation):
    for name in ("every-mode", "index", "more-than-one-tile"):
        operands, index = draw(CASES[name], torch.float32, implementation.device)
        images = implementation.forward(operands, index)
        assert torch.equal(images, implementation.forward(operands, index))
        first, second = (
            implementation.backward(images, operands, index, wanted_bits(operands))
            for _ in range(2)
        )
        assert all(map(torch.equal, first, second))


def test_bits_do_not_depend_on_the_number_of_threads():
    (spectra, *kernels), _ = draw(
        Case(6, 3, (3, 3, 16, 16), (8, 3, 32, 32)), torch.float32, requires_grad=True
    )
    results, threads = [], torch.get_num_threads()
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            images = ops.reconstruct(spectra, kernels)
            grads = torch.autograd.grad(images.square().sum(), [spectra, *kernels])
            results.append((images, *grads))
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(map(torch.equal, results[0], other))


def test_image_order_is_spectrum_then_kernel_set_then_column(device):
    (spectra, *kernels), _ = draw(CASES["every-mode"], device=device)
    images = ops.reconstruct(spectra, kernels)
    for i in range(2):
        for j in range(3):
            block = ops.reconstruct(spectra[i : i + 1], [k[j : j + 1] for k in kernels])
            rows = images[(i * 3 + j) * 6 : (i * 3 + j + 1) * 6]
            torch.testing.assert_close(rows, block, rtol=1e-12, atol=1e-12)


def test_eq_2_equals_the_kronecker_kernel(device):
    """vec(x) = (K1 (x) K2 (x) K3 (x) K4)^T vec(T): the separable kernel is the full one."""
    (spectra, *kernels), _ = draw(Case(1, 1, (2, 3, 2, 3), (3, 2, 4, 3)), device=device)
    full = kernels[0][0]
    for kernel in kernels[1:]:
        full = torch.kron(full, kernel[0])
    expected = (full.T @ spectra.flatten()).reshape(3, 2, 4, 3)
    torch.testing.assert_close(ops.reconstruct(spectra, kernels), expected, rtol=1e-12, atol=0)
