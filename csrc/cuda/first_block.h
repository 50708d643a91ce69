// The first block of a ConvNet on a CUDA device (or, in the tests, on the host): device pointers, sizes
// checked before, the work queued on `stream` (cudaStream_t), nothing allocated. Formulas:
// kernels/first_block.h. Every launcher returns nullptr, or what went wrong with the launches.

#pragma once

#include <cstdint>

#include "kernels/first_block.h"

namespace nsdbench::cuda {

// What all passes read: images and parameters, and `workspace` to work in, aligned as 16 bytes.
template <typename T>
struct FirstBlockCall {
  FirstBlockSizes sizes;  // in_channels 1 or 3
  const T* x;             // [images, in_channels, height, width]
  FirstBlockWeights<T> weights;
  T* workspace;
};

// Elements of workspace: of the forward passes, of the gradients, and of their tangents with or without
// that of the images' gradient.
int64_t first_block_workspace(const FirstBlockSizes& sizes);
int64_t first_block_bwd_workspace(const FirstBlockSizes& sizes);
int64_t first_block_bwd_jvp_workspace(const FirstBlockSizes& sizes, bool needs_images);

// out: [images, map_height / 2, map_width / 2, channels]; moments: [2, images, channels]
template <typename T>
const char* launch_first_block_fwd(const FirstBlockCall<T>& call, double eps, T* out, T* moments,
                                   void* stream);

// moments: of the forward pass; out_t, moments_t: like out and moments
template <typename T>
const char* launch_first_block_jvp(const FirstBlockCall<T>& call, const T* moments,
                                   const FirstBlockWeights<T>& tangent, T* out_t, T* moments_t,
                                   void* stream);

// grad: like out. Overwrites the gradients; without images they are 0.
template <typename T>
const char* launch_first_block_bwd(const FirstBlockCall<T>& call, const T* moments, const T* grad,
                                   const FirstBlockGradient<T>& result, void* stream);

// moments_t: of the tangent; grad_t: like grad; result: the tangents of the gradients, of which the
// weight's may be null; images: [images, in_channels, height, width] that of x, or null.
template <typename T>
const char* launch_first_block_bwd_jvp(const FirstBlockCall<T>& call, const T* moments,
                                       const T* grad, const T* moments_t,
                                       const FirstBlockWeights<T>& tangent, const T* grad_t,
                                       const FirstBlockGradient<T>& result, T* images,
                                       void* stream);

}  // namespace nsdbench::cuda
