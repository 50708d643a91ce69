// Instance norm, ReLU and 2x2 mean pool in one pass over a plane, with all first and second
// derivatives, on the CPU. Raw pointers in, raw pointers out, all sizes checked before. Formulas:
// kernels/inorm_relu_pool.h.

#pragma once

#include "kernels/inorm_relu_pool.h"

namespace nsdbench::cpu {

// out: [images, channels, height / 2, width / 2]
template <typename T>
void inorm_relu_pool(const PlaneSizes& sizes, const NormInput<T>& input, T* out);

template <typename T>
void inorm_relu_pool_jvp(const PlaneSizes& sizes, const NormInput<T>& input,
                         const NormTangent<T>& tangent, T* out_t);

// grad: like out
template <typename T>
void inorm_relu_pool_backward(const PlaneSizes& sizes, const T* grad, const NormInput<T>& input,
                              const NormGradient<T>& result);

// grad_t: like out, or null for zero
template <typename T>
void inorm_relu_pool_backward_jvp(const PlaneSizes& sizes, const T* grad, const NormInput<T>& input,
                                  const T* grad_t, const NormTangent<T>& tangent,
                                  const NormGradient<T>& result);

}  // namespace nsdbench::cpu
