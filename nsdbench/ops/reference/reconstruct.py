"""The twin of `ops.reconstruct`."""

from collections.abc import Sequence

import torch
from torch import Tensor


def mode_product(x: Tensor, matrix: Tensor, mode: int) -> Tensor:
    """Multiply mode `mode` of a tensor by a matrix: y[.., v, ..] = sum_s x[.., s, ..] matrix[s, v].

    Args:
        x: [d0, d1, d2, d3].
        matrix: [d_mode, u].
        mode: 0 to 3.

    Returns:
        x's shape with d_mode replaced by u.
    """
    return torch.movedim(torch.tensordot(x, matrix, dims=([mode], [0])), -1, mode)


def reconstruct(
    spectra: Tensor, kernels: Sequence[Tensor | None], index: Tensor | None = None
) -> Tensor:
    """Map every spectrum tensor by every kernel set: T x1 K1 x2 K2 x3 K3 x4 K4 (Eq. 1, Eq. 2).

    Args:
        spectra: [N_T, t1, t2, t3, t4].
        kernels: four [N_K, t_n, u_n], or None for the identity.
        index: [n] images wanted, None for all.

    Returns:
        [N_T * N_K * u1, u2, u3, u4] in image order (i * N_K + j) * u1 + r, or the n rows asked for.
    """
    num_kernel_sets = next((len(kernel) for kernel in kernels if kernel is not None), 1)
    blocks = []
    for spectrum in spectra:
        for j in range(num_kernel_sets):
            x = spectrum
            for mode, kernel in enumerate(kernels):
                if kernel is not None:
                    x = mode_product(x, kernel[j], mode)
            blocks.append(x)
    images = torch.cat(blocks)
    return images if index is None else images[index]


def reconstruct_jvp(
    spectra: Tensor,
    kernels: Sequence[Tensor | None],
    spectra_t: Tensor | None,
    kernels_t: Sequence[Tensor | None],
    index: Tensor | None = None,
) -> Tensor:
    """Add up reconstructions with one operand replaced by its tangent; None is zero."""
    total = torch.zeros_like(reconstruct(spectra, kernels, index))
    if spectra_t is not None:
        total = total + reconstruct(spectra_t, kernels, index)
    for n, kernel_t in enumerate(kernels_t):
        if kernel_t is not None:
            replaced = [*kernels[:n], kernel_t, *kernels[n + 1 :]]
            total = total + reconstruct(spectra, replaced, index)
    return total
