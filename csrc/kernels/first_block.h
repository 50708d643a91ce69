// The first block of a ConvNet as one operator: convolution of the images, instance norm, ReLU and 2x2
// mean pool, with the derivatives that a student's step and its adjoint need: formulas and operands.
// Shared by the CUDA kernels and their launchers, and free of any framework header.
//
// With x [N, C_in, H, W] the images, padded by p zeros on each side, and a patch P [9 C_in] of the pixels
// that the 3x3 weights w_c [9 C_in] of channel c see at a place of the map, in the order of the weights:
//
//   z = w_c P                      the map, [H + 2p - 2, W + 2p - 2], of which there are M places
//   out = pool(max(y, 0))          from z as in inorm_relu_pool.h, with gamma and beta of the channel
//   mu = w_c mean(P)               the mean of z, since z is linear in P
//
// Tangent along (w_t, gamma_t, beta_t), the images having none:
//
//   z_t = w_t P,   mean(z_t) = w_t mean(P),   q = mean(xhat (z_t - mean(z_t)))
//
// and out_t from them as in inorm_relu_pool.h, where q = mean(xhat z_t) is the same number: xhat sums to 0.
// Gradients for grad = dJ/dout, with dz what inorm_relu_pool.h calls grad_x:
//
//   grad_w = sum over images and places of dz P,   grad_gamma and grad_beta as there
//
// Tangent of the gradients along (grad_t, w_t, gamma_t, beta_t), with dz_t the grad_x_t of that header:
//
//   grad_w_t = sum of dz_t P,   grad_gamma_t and grad_beta_t as there
//   grad_x_t = sum over the channels and the places that see the pixel of dz_t w + dz w_t
//
// Neither z nor dz nor their tangents are ever in memory: they are computed again wherever they are
// needed. Kept from the forward passes are the moments (mu, r) and their tangents (mean(z_t), q).
//
// Work, in multiply-adds for each of the N C M elements of the map and an input channel (of 9 taps):
//   forward        18   the variance; the output
//   its tangent    36   z and z_t for q; for the output
//   gradients      27   z for mean(dy), mean(dy xhat); z for dz, and the sum of dz P
//   their tangent  45   the same with z_t besides;  for the images 36 more: z, z_t, and dz_t w + dz w_t
// Memory: images, pooled maps and their gradients, which the map is four times as large as.

#pragma once

#include <cstdint>

namespace nsdbench {

struct FirstBlockSizes {
  int64_t images, in_channels, height, width;  // of x
  int64_t padding, channels;                   // channels of the map

  int64_t map_height() const { return height + 2 * padding - 2; }
  int64_t map_width() const { return width + 2 * padding - 2; }
  int64_t taps() const { return 9 * in_channels; }
  int64_t moments_size() const { return 2 * images * channels; }
  int64_t pooled_size() const {
    return images * (map_height() / 2) * (map_width() / 2) * channels;
  }
};

// The parameters, or a direction in their space.
template <typename T>
struct FirstBlockWeights {
  const T* weight;  // [channels, in_channels, 3, 3]
  const T* gamma;   // [channels]
  const T* beta;    // [channels]
};

// Where to write gradients of the parameters, or their tangents; the weight's may be null: not wanted.
template <typename T>
struct FirstBlockGradient {
  T* weight;
  T* gamma;
  T* beta;
};

}  // namespace nsdbench
