"""Matrices of a mode that a formula gives: K [t, u] decodes t coefficients to u samples.

A decoded vector is x = K^T c. Where a set starts from real images, `encoder` gives the coefficients
of a vector x: c = E^T x.
"""

import math

import torch
from torch import Tensor


def bilinear(t: int, u: int) -> Tensor:
    """Linear enlargement from t to u samples, centres at half pixels.

    Sample v lies at p = (v + 1/2) t / u - 1/2, kept within [0, t - 1], and takes 1 - (p - floor p)
    of its left and p - floor p of its right neighbour (torch's `interpolate` without
    align_corners).

    Returns:
        [t, u] float64; every column sums to 1.
    """
    position = ((torch.arange(u, dtype=torch.float64) + 0.5) * t / u - 0.5).clamp(0, t - 1)
    left = position.floor().long()
    right = (left + 1).clamp(max=t - 1)
    share = position - left
    kernel = torch.zeros(t, u, dtype=torch.float64)
    columns = torch.arange(u)
    kernel[left, columns] += 1 - share
    kernel[right, columns] += share
    return kernel


def dct2(t: int, u: int) -> Tensor:
    """First t rows of the orthonormal DCT-II of length u.

    K[i, v] = s_i cos(pi / u (v + 1/2) i), s_0 = sqrt(1 / u), s_i = sqrt(2 / u); rows are
    orthonormal, so K itself decodes.

    Returns:
        [t, u] float64.
    """
    kernel = math.sqrt(2 / u) * torch.cos(math.pi / u * torch.outer(_numbers(t), _centres(u)))
    kernel[0] /= math.sqrt(2)
    return kernel


def dct4(t: int, u: int) -> Tensor:
    """First t rows of the orthonormal DCT-IV of length u: Eq. 4 of the paper, indices from 0.

    K[i, v] = sqrt(2 / u) cos(pi / u (v + 1/2) (i + 1/2)). Eq. 4 has no factor, and its inverse then
    needs 2 / u on each side; here either side has the square root. Coefficients of an image by
    Eq. 4 are u / 2 times these.

    Returns:
        [t, u] float64.
    """
    return math.sqrt(2 / u) * torch.cos(math.pi / u * torch.outer(_centres(t), _centres(u)))


def encoder(kind: str, t: int, u: int) -> Tensor:
    """Give the matrix [u, t] float64 that takes samples of a real image to coefficients.

    Of the cosine transforms it is K^T, the orthogonal projection; of the enlargement it is
    shrinking to the nearest sample floor(i u / t), as IDC starts its tiles.
    """
    if kind != "bilinear":
        return ANALYTIC[kind](t, u).T
    nearest = torch.arange(t) * u // t
    return torch.nn.functional.one_hot(nearest, u).T.to(torch.float64)


def _numbers(n: int) -> Tensor:
    return torch.arange(n, dtype=torch.float64)


def _centres(n: int) -> Tensor:
    return _numbers(n) + 0.5


ANALYTIC = {"bilinear": bilinear, "dct2": dct2, "dct4": dct4}
