// inorm_relu_pool on maps whose channels are innermost, [images, height, width, channels]; otherwise as
// inorm_relu_pool.h, whose workspace it needs as well.

#pragma once

#include "cuda/inorm_relu_pool.h"

namespace nsdbench::cuda {

// out: [images, height / 2, width / 2, channels]
template <typename T>
const char* launch_inorm_relu_pool_nhwc_fwd(const PlaneSizes& sizes, const NormInput<T>& input,
                                            T* out, void* stream);

// out_t: like out
template <typename T>
const char* launch_inorm_relu_pool_nhwc_jvp(const PlaneSizes& sizes, const NormInput<T>& input,
                                            const NormTangent<T>& tangent, T* out_t, void* stream);

// grad: like out. Overwrites all three gradients; without images those of weight and bias are 0.
template <typename T>
const char* launch_inorm_relu_pool_nhwc_bwd(const PlaneSizes& sizes, const T* grad,
                                            const NormInput<T>& input,
                                            const NormGradient<T>& result, T* workspace,
                                            void* stream);

// grad_t: like out, or null for zero
template <typename T>
const char* launch_inorm_relu_pool_nhwc_bwd_jvp(const PlaneSizes& sizes, const T* grad,
                                                const NormInput<T>& input, const T* grad_t,
                                                const NormTangent<T>& tangent,
                                                const NormGradient<T>& result, T* workspace,
                                                void* stream);

}  // namespace nsdbench::cuda
