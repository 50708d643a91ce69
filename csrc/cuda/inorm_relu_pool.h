// inorm_relu_pool on a CUDA device (or, in the tests, on the host): device pointers, sizes checked before,
// the work queued on `stream` (cudaStream_t), nothing allocated. Formulas: kernels/inorm_relu_pool.h.
// Every launcher returns nullptr, or what went wrong with the launches.

#pragma once

#include "kernels/inorm_relu_pool.h"

namespace nsdbench::cuda {

// Elements of workspace that the gradients need.
inline int64_t norm_workspace_elements(const PlaneSizes& sizes) { return 2 * sizes.planes(); }

// out: [images, channels, height / 2, width / 2]
template <typename T>
const char* launch_inorm_relu_pool_fwd(const PlaneSizes& sizes, const NormInput<T>& input, T* out,
                                       void* stream);

// out_t: like out
template <typename T>
const char* launch_inorm_relu_pool_jvp(const PlaneSizes& sizes, const NormInput<T>& input,
                                       const NormTangent<T>& tangent, T* out_t, void* stream);

// grad: like out. Overwrites all three gradients; without images those of weight and bias are 0.
template <typename T>
const char* launch_inorm_relu_pool_bwd(const PlaneSizes& sizes, const T* grad,
                                       const NormInput<T>& input, const NormGradient<T>& result,
                                       T* workspace, void* stream);

// grad_t: like out, or null for zero
template <typename T>
const char* launch_inorm_relu_pool_bwd_jvp(const PlaneSizes& sizes, const T* grad,
                                           const NormInput<T>& input, const T* grad_t,
                                           const NormTangent<T>& tangent,
                                           const NormGradient<T>& result, T* workspace,
                                           void* stream);

}  // namespace nsdbench::cuda
