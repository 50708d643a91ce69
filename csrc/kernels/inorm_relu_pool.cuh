// Instance norm, ReLU and 2x2 mean pool of a batch, its tangent, its gradients and their tangent.
//
// Formulas, with the names used below: inorm_relu_pool.h. Layout: x [N, C, H, W], pooled tensors
// [N, C, H/2, W/2], per-channel tensors [C], all row-major and contiguous. A plane is one (n, c). Sizes
// and offsets of planes are 64-bit, indices within a plane 32-bit: H W is at most kMaxPlaneSize.
//
// Thread-to-data map, the four inorm_relu_pool kernels:
//   grid    x: tiles of 256 / threads_per_plane planes, memory order
//   block   256 threads: several small planes or one large one
//   group   threads_per_plane threads own a plane: a power of two from 4 to 256, about 8 elements each
//   thread  elements (when pooling: windows) rank, rank + threads_per_plane, .. of its plane, ascending:
//           neighbours own neighbouring columns
// sum_over_images_kernel:
//   grid    x: tiles of 8 channels
//   block   8 x 32 threads
//   thread  x: a channel; y: images y, y + 32, ..
//
// Shared memory: at most 4096 bytes a block (sum_over_images_kernel in double; the others 512 or less).
// Passes over memory: x is read three times by the forward kernels and four times by the backward ones,
// after the first from cache as far as it holds the resident planes; tangents likewise; grad twice;
// results are written once.
// Reduction order: a thread's elements ascending, then a butterfly over the group's lanes of a warp, then
// the group's warps ascending. Gradients of weight and bias: per plane like this, then per channel every
// 32nd image ascending, then a tree over the 32 sums. No atomics: equal calls give equal bits, and those
// of a plane do not depend on the rest of the batch.
// Accuracy: everything in scalar_t; the variance is of centred values.
// Reference: nsdbench/ops/reference.py, inorm_relu_pool. CPU twin: csrc/cpu/inorm_relu_pool.cpp.

#pragma once

#include <cmath>
#include <cstdint>

#include "inorm_relu_pool.h"
#include "simt.h"

namespace nsdbench::kernels {

constexpr int kNormThreads = 256;
constexpr int kNormWarps = kNormThreads / simt::kWarpSize;
constexpr int64_t kMaxPlaneSize = int64_t{1} << 30;  // indices and their strides fit 32 bits
constexpr int kSumChannels = 8, kSumRows = 32;

// What one thread knows of the plane that its group owns.
template <typename scalar_t>
struct NormPlane {
  int64_t index;            // n C + c
  bool is_owned;            // false beyond the last plane: such groups only keep step
  int threads, rank;        // of the group
  int height, width;
  int count, pooled_count;  // elements and windows to visit; 0 where not owned
  scalar_t size;            // H W
  const scalar_t *x, *x_t;  // [H, W]; x_t may be null
  scalar_t gamma, beta, gamma_t, beta_t, eps;
};

template <typename scalar_t>
SIMT_DEVICE NormPlane<scalar_t> own_plane(const PlaneSizes& sizes, int threads_per_plane,
                                          const NormInput<scalar_t>& input,
                                          const NormTangent<scalar_t>& tangent) {
  const int planes_per_block = kNormThreads / threads_per_plane;
  const int64_t planes = sizes.images * sizes.channels;
  const int64_t wanted = simt::block_x() * planes_per_block + simt::thread_x() / threads_per_plane;
  NormPlane<scalar_t> plane;
  plane.is_owned = wanted < planes;
  plane.index = plane.is_owned ? wanted : planes - 1;
  plane.threads = threads_per_plane;
  plane.rank = simt::thread_x() % threads_per_plane;
  plane.height = static_cast<int>(sizes.height);
  plane.width = static_cast<int>(sizes.width);
  const int size = plane.height * plane.width;
  plane.count = plane.is_owned ? size : 0;
  plane.pooled_count = plane.is_owned ? (plane.height / 2) * (plane.width / 2) : 0;
  plane.size = static_cast<scalar_t>(size);
  plane.x = input.x + plane.index * size;
  plane.x_t = tangent.x == nullptr ? nullptr : tangent.x + plane.index * size;
  const int64_t c = plane.index % sizes.channels;
  plane.gamma = input.weight[c];
  plane.beta = input.bias[c];
  plane.gamma_t = tangent.weight == nullptr ? scalar_t(0) : tangent.weight[c];
  plane.beta_t = tangent.bias == nullptr ? scalar_t(0) : tangent.bias[c];
  plane.eps = static_cast<scalar_t>(input.eps);
  return plane;
}

// Replaces every value by its sum over the group; all its threads receive the same bits. Each use in a
// kernel has its own kStep and so its own shared memory, which makes one barrier enough.
template <int kStep, int kCount, typename scalar_t>
SIMT_DEVICE void sum_over_group(const NormPlane<scalar_t>& plane, scalar_t (&value)[kCount]) {
  const int lanes = plane.threads < simt::kWarpSize ? plane.threads : simt::kWarpSize;
  for (int mask = lanes / 2; mask > 0; mask /= 2) {
    for (int k = 0; k < kCount; ++k) value[k] += simt::shuffle_xor(value[k], mask);
  }
  if (plane.threads <= simt::kWarpSize) return;
  SIMT_SHARED(scalar_t, partial, kCount * kNormWarps);
  const int warp = simt::thread_x() / simt::kWarpSize;
  if (simt::thread_x() % simt::kWarpSize == 0) {
    for (int k = 0; k < kCount; ++k) partial[k * kNormWarps + warp] = value[k];
  }
  simt::barrier();
  const int warps = plane.threads / simt::kWarpSize;
  const int first = warp / warps * warps;
  for (int k = 0; k < kCount; ++k) {
    value[k] = partial[k * kNormWarps + first];
    for (int n = 1; n < warps; ++n) value[k] += partial[k * kNormWarps + first + n];
  }
}

template <typename scalar_t>
struct NormMoments {
  scalar_t mean, rstd;
  scalar_t mean_t, q;  // mean of x_t, mean of xhat x_t
};

template <bool kTangent, typename scalar_t>
SIMT_DEVICE NormMoments<scalar_t> moments(const NormPlane<scalar_t>& plane) {
  constexpr int kSums = kTangent ? 2 : 1;
  const bool has_x_t = kTangent && plane.x_t != nullptr;
  NormMoments<scalar_t> m{};
  scalar_t first[kSums] = {}, second[kSums] = {};
  for (int n = plane.rank; n < plane.count; n += plane.threads) {
    first[0] += plane.x[n];
    if (has_x_t) first[kSums - 1] += plane.x_t[n];
  }
  sum_over_group<0>(plane, first);
  m.mean = first[0] / plane.size;
  for (int n = plane.rank; n < plane.count; n += plane.threads) {
    const scalar_t centred = plane.x[n] - m.mean;
    second[0] += centred * centred;
    if (has_x_t) second[kSums - 1] += centred * plane.x_t[n];
  }
  sum_over_group<1>(plane, second);
  m.rstd = 1 / std::sqrt(second[0] / plane.size + plane.eps);
  if (kTangent) {
    m.mean_t = first[kSums - 1] / plane.size;
    m.q = m.rstd * second[kSums - 1] / plane.size;
  }
  return m;
}

// xhat, y and their tangents at one element.
template <typename scalar_t>
struct NormPoint {
  scalar_t xhat, y, xhat_t, y_t;
};

template <bool kTangent, typename scalar_t>
SIMT_DEVICE NormPoint<scalar_t> evaluate(const NormPlane<scalar_t>& plane,
                                         const NormMoments<scalar_t>& m, int n) {
  NormPoint<scalar_t> point{};
  point.xhat = (plane.x[n] - m.mean) * m.rstd;
  point.y = plane.gamma * point.xhat + plane.beta;
  if (kTangent) {
    if (plane.x_t != nullptr) {
      point.xhat_t = (plane.x_t[n] - m.mean_t - point.xhat * m.q) * m.rstd;
    }
    point.y_t = plane.gamma * point.xhat_t + plane.gamma_t * point.xhat + plane.beta_t;
  }
  return point;
}

// `value` where y is positive, else 0. A NaN in y counts as positive: divergence must stay visible.
template <typename scalar_t>
SIMT_DEVICE scalar_t where_positive(scalar_t y, scalar_t value) {
  return y <= 0 ? scalar_t(0) : value;
}

// Calls body(n, h, w) for this thread's elements n = h width + w below count, without dividing for each.
template <typename scalar_t, typename Body>
SIMT_DEVICE void for_each_element(const NormPlane<scalar_t>& plane, int count, int width,
                                  const Body& body) {
  const int down = plane.threads / width, right = plane.threads % width;
  int h = plane.rank / width, w = plane.rank % width;
  for (int n = plane.rank; n < count; n += plane.threads) {
    body(n, h, w);
    h += down;
    w += right;
    if (w >= width) {
      w -= width;
      ++h;
    }
  }
}

// Pools one plane of max(y, 0), or of its tangent.
//   out [N, C, H/2, W/2]
template <bool kTangent, typename scalar_t>
SIMT_DEVICE void pool_plane(const NormPlane<scalar_t>& plane, scalar_t* out) {
  const NormMoments<scalar_t> m = moments<kTangent>(plane);
  const int width = plane.width, pooled_width = width / 2;
  out += plane.index * (plane.height / 2) * pooled_width;
  const auto rectified = [&](int n) {
    const NormPoint<scalar_t> point = evaluate<kTangent>(plane, m, n);
    return where_positive(point.y, kTangent ? point.y_t : point.y);
  };
  for_each_element(plane, plane.pooled_count, pooled_width, [&](int n, int i, int j) {
    const int corner = 2 * (i * width + j);
    const scalar_t left = rectified(corner) + rectified(corner + width);
    const scalar_t right = rectified(corner + 1) + rectified(corner + width + 1);
    out[n] = scalar_t(0.25) * (left + right);
  });
}

// grad/4 of the window that holds (h, w), 0 where the pool drops it or there is no grad.
//   grad [H/2, W/2]
template <typename scalar_t>
SIMT_DEVICE scalar_t spread(const NormPlane<scalar_t>& plane, const scalar_t* grad, int h, int w) {
  const int i = h / 2, j = w / 2;
  if (grad == nullptr || i >= plane.height / 2 || j >= plane.width / 2) return 0;
  return scalar_t(0.25) * grad[i * (plane.width / 2) + j];
}

// Gradient of one plane, or its tangent, and the plane's part of those of weight and bias.
//   grad, grad_t [N, C, H/2, W/2], grad_t may be null; out [N, C, H, W]; parts [2, N, C]
template <bool kTangent, typename scalar_t>
SIMT_DEVICE void differentiate_plane(const NormPlane<scalar_t>& plane, int64_t planes,
                                     const scalar_t* grad, const scalar_t* grad_t, scalar_t* out,
                                     scalar_t* parts) {
  const NormMoments<scalar_t> m = moments<kTangent>(plane);
  const int64_t pooled_size = int64_t{plane.height / 2} * (plane.width / 2);
  grad += plane.index * pooled_size;
  if (kTangent && grad_t != nullptr) grad_t += plane.index * pooled_size;

  scalar_t sums[kTangent ? 4 : 2] = {};  // of dy, dy xhat and their tangents
  for_each_element(plane, plane.count, plane.width, [&](int n, int h, int w) {
    const NormPoint<scalar_t> point = evaluate<kTangent>(plane, m, n);
    const scalar_t dy = where_positive(point.y, spread(plane, grad, h, w));
    sums[0] += dy;
    sums[1] += dy * point.xhat;
    if constexpr (kTangent) {
      const scalar_t dy_t = where_positive(point.y, spread(plane, grad_t, h, w));
      sums[2] += dy_t;
      sums[3] += dy_t * point.xhat + dy * point.xhat_t;
    }
  });
  sum_over_group<2>(plane, sums);
  if (plane.is_owned && plane.rank == 0) {
    parts[plane.index] = sums[kTangent ? 3 : 1];
    parts[planes + plane.index] = sums[kTangent ? 2 : 0];
  }

  const scalar_t m1 = sums[0] / plane.size, m2 = sums[1] / plane.size;
  const scalar_t scale = plane.gamma * m.rstd;
  out += plane.index * (int64_t{plane.height} * plane.width);
  for_each_element(plane, plane.count, plane.width, [&](int n, int h, int w) {
    const NormPoint<scalar_t> point = evaluate<kTangent>(plane, m, n);
    const scalar_t dy = where_positive(point.y, spread(plane, grad, h, w));
    const scalar_t projected = dy - m1 - point.xhat * m2;
    if constexpr (kTangent) {
      const scalar_t m1_t = sums[2] / plane.size, m2_t = sums[3] / plane.size;
      const scalar_t scale_t = plane.gamma_t * m.rstd - scale * m.rstd * m.q;
      const scalar_t dy_t = where_positive(point.y, spread(plane, grad_t, h, w));
      const scalar_t projected_t = dy_t - m1_t - point.xhat_t * m2 - point.xhat * m2_t;
      out[n] = scale_t * projected + scale * projected_t;
    } else {
      out[n] = scale * projected;
    }
  });
}

//   out [N, C, H/2, W/2]
template <typename scalar_t>
SIMT_KERNEL void inorm_relu_pool_fwd_kernel(PlaneSizes sizes, int threads_per_plane,
                                            NormInput<scalar_t> input, scalar_t* out) {
  pool_plane<false>(own_plane(sizes, threads_per_plane, input, {}), out);
}

//   out_t [N, C, H/2, W/2]
template <typename scalar_t>
SIMT_KERNEL void inorm_relu_pool_jvp_kernel(PlaneSizes sizes, int threads_per_plane,
                                            NormInput<scalar_t> input,
                                            NormTangent<scalar_t> tangent, scalar_t* out_t) {
  pool_plane<true>(own_plane(sizes, threads_per_plane, input, tangent), out_t);
}

//   grad [N, C, H/2, W/2]; grad_x [N, C, H, W]; parts [2, N, C]
template <typename scalar_t>
SIMT_KERNEL void inorm_relu_pool_bwd_kernel(PlaneSizes sizes, int threads_per_plane,
                                            const scalar_t* grad, NormInput<scalar_t> input,
                                            scalar_t* grad_x, scalar_t* parts) {
  differentiate_plane<false, scalar_t>(own_plane(sizes, threads_per_plane, input, {}),
                                       sizes.images * sizes.channels, grad, nullptr, grad_x, parts);
}

//   grad, grad_t [N, C, H/2, W/2], grad_t may be null; grad_x_t [N, C, H, W]; parts [2, N, C]
template <typename scalar_t>
SIMT_KERNEL void inorm_relu_pool_bwd_jvp_kernel(PlaneSizes sizes, int threads_per_plane,
                                                const scalar_t* grad, NormInput<scalar_t> input,
                                                const scalar_t* grad_t,
                                                NormTangent<scalar_t> tangent, scalar_t* grad_x_t,
                                                scalar_t* parts) {
  differentiate_plane<true, scalar_t>(own_plane(sizes, threads_per_plane, input, tangent),
                                      sizes.images * sizes.channels, grad, grad_t, grad_x_t, parts);
}

// weight[c] = sum over the images of parts[0, n, c], bias[c] of parts[1, n, c].
//   parts [2, N, C]; weight, bias [C]
template <typename scalar_t>
SIMT_KERNEL void sum_over_images_kernel(int64_t images, int64_t channels, const scalar_t* parts,
                                        scalar_t* weight, scalar_t* bias) {
  SIMT_SHARED(scalar_t, partial, 2 * kSumRows * kSumChannels);  // [2, row, channel]
  constexpr int kSide = kSumRows * kSumChannels;
  const int y = simt::thread_y();
  const int slot = y * kSumChannels + simt::thread_x();
  const int64_t c = simt::block_x() * kSumChannels + simt::thread_x();
  scalar_t total[2] = {};
  for (int64_t n = y; n < images && c < channels; n += kSumRows) {
    total[0] += parts[n * channels + c];
    total[1] += parts[(images + n) * channels + c];
  }
  partial[slot] = total[0];
  partial[kSide + slot] = total[1];
  for (int half = kSumRows / 2; half > 0; half /= 2) {
    simt::barrier();
    if (y < half) {
      partial[slot] += partial[slot + half * kSumChannels];
      partial[kSide + slot] += partial[kSide + slot + half * kSumChannels];
    }
  }
  if (y == 0 && c < channels) {
    weight[c] = partial[slot];
    bias[c] = partial[kSide + slot];
  }
}

}  // namespace nsdbench::kernels
