// Separable reconstruction on a CUDA device (or, in the tests, on the host): device pointers, sizes
// checked before, all work queued on `stream`, nothing allocated.

#pragma once

#include <cstdint>

#include "kernels/contraction.h"

namespace nsdbench::cuda {

template <typename T>
struct Call {
  Problem problem;
  const T* spectra;          // [N_T, t1, t2, t3, t4]
  const T* kernels[kModes];  // [N_K, t_n, u_n], null for the identity
  const int64_t* index;      // [count] images wanted, null: all
  int64_t count;             // images wanted, at least 1
  T* workspace;              // workspace_elements(...)
  void* stream;              // cudaStream_t
};

template <typename T>
struct Gradients {
  T* spectra;          // [N_T, t1, t2, t3, t4], null if not wanted
  T* kernels[kModes];  // [N_K, t_n, u_n], null if not wanted
};

// Elements of workspace that a call needs.
int64_t workspace_elements(const Problem& problem, bool has_index, int64_t count, bool is_backward);

// images: [count, u2, u3, u4]. At least one kernel or an index must be given: otherwise the images are
// the spectra. Returns nullptr, or what went wrong with the launches.
template <typename T>
const char* launch_reconstruct_fwd(const Call<T>& call, T* images);

// grad_images: [count, u2, u3, u4]; the gradients are overwritten.
template <typename T>
const char* launch_reconstruct_bwd(const Call<T>& call, const T* grad_images,
                                   const Gradients<T>& gradients);

}  // namespace nsdbench::cuda
