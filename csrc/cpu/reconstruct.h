// Separable reconstruction on the CPU: raw pointers in, raw pointers out, all sizes checked before.

#pragma once

#include <cstdint>

#include "kernels/contraction.h"

namespace nsdbench::cpu {

template <typename T>
struct Operands {
  const T* spectra;          // [N_T, t1, t2, t3, t4]
  const T* kernels[kModes];  // [N_K, t_n, u_n], null for the identity
};

// Which images are wanted, in image order (i * N_K + j) * u1 + r.
struct Selection {
  const int64_t* index;  // [count], each in [0, problem.images()), repeats allowed; null: all of them
  int64_t count;         // at least 1
};

template <typename T>
struct Gradients {
  T* spectra;          // [N_T, t1, t2, t3, t4], null if not wanted
  T* kernels[kModes];  // [N_K, t_n, u_n], null if not wanted
};

// images: [count, u2, u3, u4]
template <typename T>
void reconstruct(const Problem& problem, const Operands<T>& operands, const Selection& selection,
                 T* images);

// Gradients of sum(grad_images * images) with respect to the operands asked for; overwrites them.
//   grad_images: [count, u2, u3, u4]
template <typename T>
void reconstruct_backward(const Problem& problem, const Operands<T>& operands,
                          const Selection& selection, const T* grad_images,
                          const Gradients<T>& gradients);

}  // namespace nsdbench::cpu
