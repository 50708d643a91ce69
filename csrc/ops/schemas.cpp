// The signatures of all native operators, with the shapes in the comment above each. Implementations
// are registered per device in <operator>_cpu.cpp and <operator>_cuda.cpp, fake kernels and autograd in
// nsdbench/ops.

#include <torch/csrc/stable/library.h>

#include "cpu/simd.h"

STABLE_TORCH_LIBRARY(nsdbench, m) {
  // x[i,j] = T_i x1 K1_j x2 K2_j x3 K3_j x4 K4_j for all pairs, or the images listed in `index`.
  //   spectra [N_T,t1,t2,t3,t4], kernel_n [N_K,t_n,u_n] or None for the identity, index [n] int64
  //   returns [N_T*N_K*u1, u2, u3, u4] in image order (i * N_K + j) * u1 + r, or [n, u2, u3, u4]
  m.def(
      "reconstruct("
      "Tensor spectra, "
      "Tensor? kernel1, Tensor? kernel2, Tensor? kernel3, Tensor? kernel4, "
      "Tensor? index"
      ") -> Tensor");

  // Gradients of sum(grad_images * reconstruct(...)).
  //   wanted: bit 0 asks for the spectra's gradient, bit n for kernel n's
  //   returns five tensors shaped like spectra, kernel1 .. kernel4; [0] where not wanted
  m.def(
      "reconstruct_backward("
      "Tensor grad_images, "
      "Tensor spectra, "
      "Tensor? kernel1, Tensor? kernel2, Tensor? kernel3, Tensor? kernel4, "
      "Tensor? index, "
      "int wanted"
      ") -> (Tensor, Tensor, Tensor, Tensor, Tensor)");

  // Instance norm with scale and shift, ReLU, 2x2 mean pool (formulas: kernels/inorm_relu_pool.h).
  //   x [N,C,H,W], weight [C], bias [C]; returns [N,C,H/2,W/2]
  m.def("inorm_relu_pool(Tensor x, Tensor weight, Tensor bias, float eps) -> Tensor");

  // Tangent of the output along the tangents given; None is zero.
  m.def(
      "inorm_relu_pool_jvp("
      "Tensor x, Tensor weight, Tensor bias, float eps, "
      "Tensor? x_t, Tensor? weight_t, Tensor? bias_t"
      ") -> Tensor");

  // Gradients of sum(grad * inorm_relu_pool(x, ...)) with respect to x, weight and bias.
  m.def(
      "inorm_relu_pool_backward("
      "Tensor grad, Tensor x, Tensor weight, Tensor bias, float eps"
      ") -> (Tensor, Tensor, Tensor)");

  // Tangent of those gradients along the tangents given.
  m.def(
      "inorm_relu_pool_backward_jvp("
      "Tensor grad, Tensor x, Tensor weight, Tensor bias, float eps, "
      "Tensor? grad_t, Tensor? x_t, Tensor? weight_t, Tensor? bias_t"
      ") -> (Tensor, Tensor, Tensor)");

  // The same four on maps whose channels are innermost: x, x_t and the gradients of x [N,H,W,C], pooled
  // maps and their gradients [N,H/2,W/2,C].
  m.def("inorm_relu_pool_nhwc(Tensor x, Tensor weight, Tensor bias, float eps) -> Tensor");
  m.def(
      "inorm_relu_pool_nhwc_jvp("
      "Tensor x, Tensor weight, Tensor bias, float eps, "
      "Tensor? x_t, Tensor? weight_t, Tensor? bias_t"
      ") -> Tensor");
  m.def(
      "inorm_relu_pool_nhwc_backward("
      "Tensor grad, Tensor x, Tensor weight, Tensor bias, float eps"
      ") -> (Tensor, Tensor, Tensor)");
  m.def(
      "inorm_relu_pool_nhwc_backward_jvp("
      "Tensor grad, Tensor x, Tensor weight, Tensor bias, float eps, "
      "Tensor? grad_t, Tensor? x_t, Tensor? weight_t, Tensor? bias_t"
      ") -> (Tensor, Tensor, Tensor)");

  // The first block of a ConvNet, its map never in memory (formulas: kernels/first_block.h): on CUDA
  // for images of 1 or 3 channels; on the CPU the twin of nsdbench/ops/first_block.py serves.
  //   x [N,C_in,H,W], weight [C,C_in,3,3], gamma and beta [C]
  //   returns the pooled map [N,h,w,C], channels innermost, and its moments [2,N,C]
  m.def(
      "first_block("
      "Tensor x, Tensor weight, Tensor gamma, Tensor beta, int padding, float eps"
      ") -> (Tensor, Tensor)");

  // Tangents of both along one of the parameters; moments are those of the forward pass.
  m.def(
      "first_block_jvp("
      "Tensor x, Tensor weight, Tensor gamma, Tensor beta, int padding, Tensor moments, "
      "Tensor weight_t, Tensor gamma_t, Tensor beta_t"
      ") -> (Tensor, Tensor)");

  // Gradients of sum(grad * the pooled map) with respect to weight, gamma and beta.
  m.def(
      "first_block_backward("
      "Tensor grad, Tensor x, Tensor weight, Tensor gamma, Tensor beta, int padding, Tensor moments"
      ") -> (Tensor, Tensor, Tensor)");

  // Tangents of those gradients and of that with respect to x, along one of grad and the parameters;
  // [0] for the weight's or for x's where not needed.
  m.def(
      "first_block_backward_jvp("
      "Tensor grad, Tensor x, Tensor weight, Tensor gamma, Tensor beta, int padding, "
      "Tensor moments, "
      "Tensor grad_t, Tensor weight_t, Tensor gamma_t, Tensor beta_t, Tensor moments_t, "
      "bool needs_weight, bool needs_x"
      ") -> (Tensor, Tensor, Tensor, Tensor)");

  // One operation of differentiable Siamese augmentation (formulas and numbers: kernels/dsa.h).
  //   images [B,C,H,W], parameters [B or 1, columns of the operation] float64; returns [B,C,H,W]
  //   is_linear: leave out the brightness offset of color, which makes it the tangent
  m.def(
      "dsa("
      "Tensor images, int operation, Tensor parameters, bool align_corners, bool is_linear"
      ") -> Tensor");

  // The transpose of that: gradient of sum(grad * dsa(images, ...)) with respect to the images.
  m.def(
      "dsa_backward("
      "Tensor grad, int operation, Tensor parameters, bool align_corners"
      ") -> Tensor");

  // Flat features of a ConvNet with instance norm (cpu/convnet.h): depth x [conv, norm, ReLU, pool].
  //   theta [P] the features' parameters in the order of the network, x [N,C,H,W] with C <= 4
  //   padding: of the first convolution; keep: return activations for the backward pass
  //   returns features [N,F] and activations [N,*], or [0]
  m.def(
      "convnet_features("
      "Tensor theta, Tensor x, int depth, int width, int padding, bool keep"
      ") -> (Tensor, Tensor)");

  // Gradients of sum(grad * features) with respect to theta and x; [0] where not needed.
  m.def(
      "convnet_features_backward("
      "Tensor grad, Tensor theta, Tensor x, Tensor activations, "
      "int depth, int width, int padding, bool needs_theta, bool needs_x"
      ") -> (Tensor, Tensor)");

  // Tangent of the features along theta_t and x_t (None is zero, one must be given).
  m.def(
      "convnet_features_jvp("
      "Tensor theta, Tensor x, Tensor? theta_t, Tensor? x_t, int depth, int width, int padding"
      ") -> Tensor");

  // Tangents of the features and of both gradients; [0] for a gradient that is not needed.
  m.def(
      "convnet_features_backward_jvp("
      "Tensor grad, Tensor theta, Tensor x, Tensor? grad_t, Tensor? theta_t, Tensor? x_t, "
      "int depth, int width, int padding, bool needs_theta, bool needs_x"
      ") -> (Tensor, Tensor, Tensor)");

  // One step of SGD on the mean cross-entropy g = grad L: v' = momentum v + g, theta' = theta - lr v'.
  //   theta [P] with the classifier, y [N] int64 classes or [N,K] probabilities
  //   returns theta', v', L
  m.def(
      "convnet_step("
      "Tensor theta, Tensor x, Tensor y, float lr, Tensor? velocity, float momentum, "
      "int depth, int width, int padding"
      ") -> (Tensor, Tensor, Tensor)");

  // Its adjoint: derivatives of L and of the gradients of L along direction p [P] in theta.
  //   returns L, <g, p>, h_theta, h_x, h_y; [0] for an h that is not needed
  m.def(
      "convnet_step_adjoint("
      "Tensor theta, Tensor x, Tensor y, Tensor direction, "
      "int depth, int width, int padding, bool needs_theta, bool needs_x, bool needs_y"
      ") -> (Tensor, Tensor, Tensor, Tensor, Tensor)");

  // Instruction set of the CPU kernels: 0 baseline, 1 AVX2, 2 AVX-512.
  m.def("simd_level() -> int");
}

namespace {
int64_t simd_level() { return static_cast<int64_t>(nsdbench::cpu::simd_level()); }
}  // namespace

STABLE_TORCH_LIBRARY_IMPL(nsdbench, CompositeExplicitAutograd, m) {
  m.impl("simd_level", TORCH_BOX(&simd_level));
}
