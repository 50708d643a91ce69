"""Matrices of a mode against explicit sums, against torch and scipy, and their identities."""

import math

import pytest
import scipy.fft
import torch
import torch.nn.functional as F

from nsdbench.sets.parameterizations.axis_kernels import ANALYTIC, bilinear, dct2, dct4, encoder
from nsdbench.sets.parameterizations.separable_shape import FORMULAS

F64 = torch.float64


@pytest.mark.parametrize(("t", "u"), [(1, 1), (1, 5), (4, 4), (4, 8), (5, 16), (6, 16), (11, 32)])
def test_bilinear_is_torchs_enlargement(t, u):
    torch.manual_seed(0)
    small = torch.randn(3, 2, t, t, dtype=F64)
    kernel = bilinear(t, u)
    expected = F.interpolate(small, size=(u, u), mode="bilinear", align_corners=False)
    torch.testing.assert_close(kernel.T @ small @ kernel, expected, rtol=0, atol=1e-14)
    torch.testing.assert_close(kernel.sum(0), torch.ones(u, dtype=F64), rtol=0, atol=1e-15)


def test_bilinear_by_hand():
    expected = [[1, 0.75, 0.25, 0], [0, 0.25, 0.75, 1]]
    assert torch.equal(bilinear(2, 4), torch.tensor(expected, dtype=F64))


@pytest.mark.parametrize("u", [1, 2, 7, 28])
def test_dct2_is_scipys(u):
    """scipy's transform of x is C x, so the transform of the identity is C itself."""
    expected = scipy.fft.dct(torch.eye(u, dtype=F64).numpy(), type=2, norm="ortho", axis=0)
    torch.testing.assert_close(dct2(u, u), torch.from_numpy(expected), rtol=0, atol=1e-13)


@pytest.mark.parametrize("kind", [dct2, dct4])
@pytest.mark.parametrize(("t", "u"), [(1, 4), (3, 7), (16, 32), (9, 9)])
def test_rows_of_the_cosine_transforms_are_orthonormal(kind, t, u):
    kernel = kind(t, u)
    torch.testing.assert_close(kernel @ kernel.T, torch.eye(t, dtype=F64), rtol=0, atol=1e-13)
    torch.testing.assert_close(kernel, kind(u, u)[:t], rtol=0, atol=0)


def _equation_4(m, n, first):
    """K_l[i, j] = cos(pi / n (j + 1/2)(i + 1/2)) with indices that begin at `first`."""
    rows = [
        [math.cos(math.pi / n * (j + 0.5) * (i + 0.5)) for j in range(first, first + n)]
        for i in range(first, first + m)
    ]
    return torch.tensor(rows, dtype=F64)


def test_dct4_is_equation_4_from_0_with_2_over_n_on_both_sides():
    """T = K X K^T and x = (2/n)^2 K^T T K; ours has the square root of 2/n in both directions."""
    n, m = 12, 5
    torch.manual_seed(0)
    image = torch.randn(n, n, dtype=F64)
    printed = _equation_4(m, n, 0)
    coefficients = printed @ image @ printed.T
    theirs = (2 / n) ** 2 * printed.T @ coefficients @ printed
    kernel = dct4(m, n)
    ours = kernel @ image @ kernel.T
    torch.testing.assert_close(ours * n / 2, coefficients, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(kernel.T @ ours @ kernel, theirs, rtol=1e-12, atol=1e-12)
    # What the paper prints, 2/n and 2/m, is another image; indices from 1 make K singular.
    assert not torch.allclose((2 / n) * (2 / m) * printed.T @ coefficients @ printed, theirs)
    assert torch.linalg.matrix_rank(_equation_4(n, n, 1)) == n - 1
    assert torch.linalg.matrix_rank(_equation_4(n, n, 0)) == n


@pytest.mark.parametrize("kind", ["dct2", "dct4"])
def test_encoding_twice_changes_nothing_and_all_rows_lose_nothing(kind):
    torch.manual_seed(0)
    image = torch.randn(8, 8, dtype=F64)

    def project(image, t):
        encode, decode = encoder(kind, t, 8), {"dct2": dct2, "dct4": dct4}[kind](t, 8)
        return decode.T @ (encode.T @ image @ encode) @ decode

    once = project(image, 3)
    assert 0.1 < (once - image).norm() / image.norm() < 1
    torch.testing.assert_close(project(once, 3), once, rtol=0, atol=1e-13)
    torch.testing.assert_close(project(image, 8), image, rtol=0, atol=1e-13)


@pytest.mark.parametrize(("t", "u"), [(4, 8), (6, 16), (5, 5), (1, 3)])
def test_tiles_are_encoded_by_the_nearest_sample(t, u):
    torch.manual_seed(0)
    image = torch.randn(1, 1, u, u, dtype=F64)
    matrix = encoder("bilinear", t, u)
    expected = F.interpolate(image, size=(t, t), mode="nearest")
    assert torch.equal(matrix.T @ image @ matrix, expected)


def test_sizes_know_every_formula():
    assert FORMULAS == tuple(ANALYTIC)
