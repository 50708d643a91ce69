// Instance norm, ReLU and 2x2 mean pool on one channel block of one image, [rows, columns, kBlock],
// with its gradient and the tangents of both. The formulas are those of inorm_relu_pool.h; here a
// lane is a channel, so no sum ever crosses lanes.

#pragma once

#include <cstdint>

#include "tile_product.h"

namespace nsdbench::cpu {

// Scale and shift of a block, [kBlock] each.
template <typename T>
struct NormWeights {
  const T *gamma, *beta;
};

// Mean and 1 / standard deviation of a block, [kBlock] each; for tangents mean(z_t) and
// mean(xhat z_t).
template <typename T>
struct NormMoments {
  T *mean, *scale;
};

struct NormSizes {
  int64_t height, width;  // of the map that is normalised
  int64_t padded_height;  // rows of z
  int64_t row;            // elements between rows of z
  int64_t pooled_row;     // elements between rows of the pooled map and its gradient
  double eps;
};

// Moments and pooled output of z.
template <typename T>
void norm_forward(const NormSizes& sizes, const NormWeights<T>& weights, const T* z,
                  const NormMoments<T>& moments, T* pooled);

// Besides, the tangents of both.
template <typename T>
void norm_forward_jvp(const NormSizes& sizes, const NormWeights<T>& weights,
                      const NormWeights<T>& weights_t, const T* z, const T* z_t,
                      const NormMoments<T>& moments, const NormMoments<T>& moments_t, T* pooled,
                      T* pooled_t);

// Gradient dz for the gradient `grad` of the pooled output; adds to the gradients of gamma and
// beta. dz may be z. Moments are those of norm_forward.
template <typename T>
void norm_backward(const NormSizes& sizes, const NormWeights<T>& weights, const T* z,
                   const NormMoments<T>& moments, const T* grad, T* dz, T* grad_gamma,
                   T* grad_beta);

// Besides, the tangent dz_t; adds to the *tangents* of the gradients of gamma and beta.
template <typename T>
void norm_backward_jvp(const NormSizes& sizes, const NormWeights<T>& weights,
                       const NormWeights<T>& weights_t, const T* z, const T* z_t,
                       const NormMoments<T>& moments, const NormMoments<T>& moments_t,
                       const T* grad, const T* grad_t, T* dz, T* dz_t, T* grad_gamma_t,
                       T* grad_beta_t);

}  // namespace nsdbench::cpu
