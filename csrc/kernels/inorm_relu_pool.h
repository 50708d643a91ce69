// Instance norm, ReLU and 2x2 mean pool of a batch, with all first and second derivatives: formulas and
// operands. Shared by the CPU implementation, the CUDA kernels and their launchers, and free of any
// framework header.
//
// A plane is one channel of one image, x [H, W], M = H W. With per-channel gamma, beta:
//
//   mu = mean(x),  v = mean((x - mu)^2),  r = 1 / sqrt(v + eps),  xhat = (x - mu) r
//   y  = gamma xhat + beta,   out[i,j] = 1/4 sum over the 2x2 window of max(y, 0)
//
// The pool drops an odd last row or column; the norm does not.
//
// Tangent along (x_t, gamma_t, beta_t), with q = mean(xhat x_t), so that r_t = -r^2 q:
//
//   xhat_t = r (x_t - mean(x_t) - xhat q)
//   y_t = gamma xhat_t + gamma_t xhat + beta_t,   out_t = pool of y_t where y > 0
//
// Gradients for grad = dJ/dout, with dy = grad/4 over its window where y > 0, else 0:
//
//   grad_beta = sum(dy),  grad_gamma = sum(dy xhat)        (both summed over the images)
//   grad_x = gamma r (dy - mean(dy) - xhat mean(dy xhat))
//
// Tangent of the gradients along (grad_t, x_t, gamma_t, beta_t), with dy_t made of grad_t as dy is of
// grad, m1 = mean(dy), m2 = mean(dy xhat), m1_t = mean(dy_t), m2_t = mean(dy_t xhat + dy xhat_t):
//
//   grad_beta_t = sum(dy_t),  grad_gamma_t = sum(dy_t xhat + dy xhat_t)
//   grad_x_t = (gamma_t r - gamma r^2 q) (dy - m1 - xhat m2)
//            + gamma r (dy_t - m1_t - xhat_t m2 - xhat m2_t)
//
// Only inputs are saved: mu, r and the mask y > 0 are recomputed, always by the same expressions.

#pragma once

#include <cstdint>

namespace nsdbench {

struct PlaneSizes {
  int64_t images, channels, height, width;

  int64_t planes() const { return images * channels; }
  int64_t plane_size() const { return height * width; }
  int64_t pooled_size() const { return (height / 2) * (width / 2); }
};

// The point at which everything is evaluated.
template <typename T>
struct NormInput {
  const T* x;       // [images, channels, height, width]
  const T* weight;  // [channels] gamma
  const T* bias;    // [channels] beta
  double eps;
};

// A direction in the same space; null stands for zero.
template <typename T>
struct NormTangent {
  const T* x;
  const T* weight;
  const T* bias;
};

template <typename T>
struct NormGradient {
  T* x;       // [images, channels, height, width]
  T* weight;  // [channels]
  T* bias;    // [channels]
};

}  // namespace nsdbench
