// DSA on the CPU: raw pointers in, raw pointers out, all sizes checked before. Formulas: kernels/dsa.h.

#pragma once

#include "kernels/dsa.h"

namespace nsdbench::cpu {

// x, out: [images, channels, height, width]; parameters: [images or 1, columns of the operation]
template <typename T>
void dsa(const DsaProblem& problem, const double* parameters, const T* x, T* out);

// The exact transpose: grad, grad_x [images, channels, height, width].
template <typename T>
void dsa_backward(const DsaProblem& problem, const double* parameters, const T* grad, T* grad_x);

// Scale or rotate one image, or apply the transpose of that; all pointers [channels, height, width].
template <typename T>
void scale(const DsaProblem& problem, const ResampleMap& map, bool is_transposed, const T* x, T* out);
template <typename T>
void rotate(const DsaProblem& problem, const ResampleMap& map, bool is_transposed, const T* x, T* out);

}  // namespace nsdbench::cpu
