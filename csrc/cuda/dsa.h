// DSA on a CUDA device (or, in the tests, on the host): device pointers, sizes checked before, the work
// queued on `stream` (cudaStream_t), nothing allocated. Formulas: kernels/dsa.h.

#pragma once

#include "kernels/dsa.h"

namespace nsdbench::cuda {

// x, out: [images, channels, height, width], none of them empty; parameters: [images or 1, columns].
// Returns nullptr, or what went wrong with the launch.
template <typename T>
const char* launch_dsa_fwd(const DsaProblem& problem, const double* parameters, const T* x, T* out,
                           void* stream);

// The exact transpose: grad, grad_x like x.
template <typename T>
const char* launch_dsa_bwd(const DsaProblem& problem, const double* parameters, const T* grad,
                           T* grad_x, void* stream);

}  // namespace nsdbench::cuda
