// A block of a 32x32 map is 64 KiB, so the passes for mean, variance and result run in the cache.

#include "norm_block.h"

#include <cmath>

#include "simd.h"

namespace nsdbench::cpu {
namespace {

// Sum of term(offset) over all pixels, in four chains.
template <typename V, int64_t kPixel, typename Term>
NSDBENCH_INLINE V pixel_sum(const NormSizes& sizes, const Term& term) {
  V chain[4] = {};
  for (int64_t h = 0; h < sizes.height; ++h) {
    const int64_t row = h * sizes.row;
    int64_t w = 0;
    for (; w + 4 <= sizes.width; w += 4) {
#pragma GCC unroll 4
      for (int k = 0; k < 4; ++k) chain[k] += term(row + (w + k) * kPixel);
    }
    for (; w < sizes.width; ++w) chain[0] += term(row + w * kPixel);
  }
  return (chain[0] + chain[1]) + (chain[2] + chain[3]);
}

template <typename V>
struct Parameters {
  V gamma, beta, mean, rstd, scale;     // scale = gamma rstd
  V gamma_t, beta_t, mean_t, q;
};

template <typename V>
struct BlockPoint {
  V xhat, y, xhat_t, y_t;
};

// The one place where xhat and y are computed: the mask y > 0 must be the same in every pass.
template <typename V, bool kTangent, typename T>
NSDBENCH_INLINE BlockPoint<V> evaluate(const Parameters<V>& p, const T* z, const T* z_t) {
  BlockPoint<V> point;
  point.xhat = (load<V>(z) - p.mean) * p.rstd;
  point.y = p.gamma * point.xhat + p.beta;
  if constexpr (kTangent) {
    point.xhat_t = ((load<V>(z_t) - p.mean_t) - point.xhat * p.q) * p.rstd;
    point.y_t = p.gamma * point.xhat_t + (p.gamma_t * point.xhat + p.beta_t);
  }
  return point;
}

template <typename V, bool kTangent, typename T>
NSDBENCH_INLINE Parameters<V> read_parameters(const NormWeights<T>& weights,
                                              const NormWeights<T>& weights_t,
                                              const NormMoments<T>& moments,
                                              const NormMoments<T>& moments_t, int64_t lane) {
  Parameters<V> p;
  p.gamma = load<V>(weights.gamma + lane);
  p.beta = load<V>(weights.beta + lane);
  p.mean = load<V>(moments.mean + lane);
  p.rstd = load<V>(moments.scale + lane);
  p.scale = p.gamma * p.rstd;
  if constexpr (kTangent) {
    p.gamma_t = load<V>(weights_t.gamma + lane);
    p.beta_t = load<V>(weights_t.beta + lane);
    p.mean_t = load<V>(moments_t.mean + lane);
    p.q = load<V>(moments_t.scale + lane);
  }
  return p;
}

template <typename T, int kBytes, bool kTangent>
NSDBENCH_INLINE void forward_block(const NormSizes& sizes, const NormWeights<T>& weights,
                                   const NormWeights<T>& weights_t, const T* z, const T* z_t,
                                   const NormMoments<T>& moments,
                                   const NormMoments<T>& moments_t, T* pooled, T* pooled_t) {
  using V = typename NativeVector<T, kBytes>::type;
  constexpr int64_t kWidth = NativeVector<T, kBytes>::kWidth, kPixel = kBlock<T>;
  const T count = static_cast<T>(sizes.height * sizes.width);
  for (int64_t lane = 0; lane < kPixel; lane += kWidth) {
    const T* x = z + lane;
    const T* x_t = kTangent ? z_t + lane : nullptr;
    const V mean = pixel_sum<V, kPixel>(sizes, [&](int64_t n) NSDBENCH_INLINE_LAMBDA {
      return load<V>(x + n);
    }) / count;
    const V variance = pixel_sum<V, kPixel>(sizes, [&](int64_t n) NSDBENCH_INLINE_LAMBDA {
      const V centred = load<V>(x + n) - mean;
      return centred * centred;
    }) / count;
    T rstd[kWidth];
    for (int64_t n = 0; n < kWidth; ++n) {
      rstd[n] = 1 / std::sqrt(variance[n] + static_cast<T>(sizes.eps));
    }
    store<V>(moments.mean + lane, mean);
    store<V>(moments.scale + lane, load<V>(rstd));
    if constexpr (kTangent) {
      store<V>(moments_t.mean + lane,
               pixel_sum<V, kPixel>(sizes, [&](int64_t n) NSDBENCH_INLINE_LAMBDA {
                 return load<V>(x_t + n);
               }) / count);
      const V centred = pixel_sum<V, kPixel>(sizes, [&](int64_t n) NSDBENCH_INLINE_LAMBDA {
        return (load<V>(x + n) - mean) * load<V>(x_t + n);
      });
      store<V>(moments_t.scale + lane, centred * load<V>(rstd) / count);
    }
    const auto p = read_parameters<V, kTangent>(weights, weights_t, moments, moments_t, lane);
    for (int64_t i = 0; i < sizes.height / 2; ++i) {
      for (int64_t j = 0; j < sizes.width / 2; ++j) {
        V sum = {}, sum_t = {};
#pragma GCC unroll 4
        for (int k = 0; k < 4; ++k) {
          const int64_t n = (2 * i + k / 2) * sizes.row + (2 * j + k % 2) * kPixel;
          const auto point = evaluate<V, kTangent>(p, x + n, x_t + n);
          sum += where_positive(point.y, point.y);
          if constexpr (kTangent) sum_t += where_positive(point.y, point.y_t);
        }
        const int64_t target = i * sizes.pooled_row + j * kPixel + lane;
        store<V>(pooled + target, T(0.25) * sum);
        if constexpr (kTangent) store<V>(pooled_t + target, T(0.25) * sum_t);
      }
    }
  }
}

// Gradients with respect to one pixel, before the parts that the norm projects out.
template <typename V>
struct PixelGradient {
  V dy, dy_t;
};

template <typename T, int kBytes, bool kTangent>
NSDBENCH_INLINE void backward_block(const NormSizes& sizes, const NormWeights<T>& weights,
                                    const NormWeights<T>& weights_t, const T* z, const T* z_t,
                                    const NormMoments<T>& moments,
                                    const NormMoments<T>& moments_t, const T* grad,
                                    const T* grad_t, T* dz, T* dz_t, T* grad_gamma,
                                    T* grad_beta) {
  using V = typename NativeVector<T, kBytes>::type;
  constexpr int64_t kWidth = NativeVector<T, kBytes>::kWidth, kPixel = kBlock<T>;
  const T count = static_cast<T>(sizes.height * sizes.width);
  const int64_t pooled_height = sizes.height / 2, pooled_width = sizes.width / 2;
  for (int64_t lane = 0; lane < kPixel; lane += kWidth) {
    const T* x = z + lane;
    const T* x_t = kTangent ? z_t + lane : nullptr;
    const auto p = read_parameters<V, kTangent>(weights, weights_t, moments, moments_t, lane);
    V dy_sum = {}, dyx_sum = {}, dy_t_sum = {}, dyx_t_sum = {};
    for (int64_t i = 0; i < pooled_height; ++i) {
      V dy_row = {}, dyx_row = {}, dy_t_row = {}, dyx_t_row = {};
      for (int64_t j = 0; j < pooled_width; ++j) {
        const int64_t window = i * sizes.pooled_row + j * kPixel + lane;
        const V g = T(0.25) * load<V>(grad + window);
        V g_t = {};
        if constexpr (kTangent) g_t = T(0.25) * load<V>(grad_t + window);
#pragma GCC unroll 4
        for (int k = 0; k < 4; ++k) {
          const int64_t n = (2 * i + k / 2) * sizes.row + (2 * j + k % 2) * kPixel;
          const auto point = evaluate<V, kTangent>(p, x + n, x_t + n);
          const V dy = where_positive(point.y, g);
          dy_row += dy;
          dyx_row += dy * point.xhat;
          if constexpr (kTangent) {
            const V dy_t = where_positive(point.y, g_t);
            dy_t_row += dy_t;
            dyx_t_row += dy_t * point.xhat + dy * point.xhat_t;
          }
        }
      }
      dy_sum += dy_row;
      dyx_sum += dyx_row;
      dy_t_sum += dy_t_row;
      dyx_t_sum += dyx_t_row;
    }
    const V* sum_of_gamma = kTangent ? &dyx_t_sum : &dyx_sum;
    const V* sum_of_beta = kTangent ? &dy_t_sum : &dy_sum;
    store<V>(grad_gamma + lane, load<V>(grad_gamma + lane) + *sum_of_gamma);
    store<V>(grad_beta + lane, load<V>(grad_beta + lane) + *sum_of_beta);

    const V m1 = dy_sum / count, m2 = dyx_sum / count;
    const V m1_t = dy_t_sum / count, m2_t = dyx_t_sum / count;
    V scale_t = {};
    if constexpr (kTangent) scale_t = p.rstd * (p.gamma_t - p.scale * p.q);
    const auto write = [&](int64_t n, V g, V g_t) NSDBENCH_INLINE_LAMBDA {
      const auto point = evaluate<V, kTangent>(p, x + n, x_t + n);
      const V projected = (where_positive(point.y, g) - m1) - point.xhat * m2;
      store<V>(dz + lane + n, p.scale * projected);
      if constexpr (kTangent) {
        const V projected_t = ((where_positive(point.y, g_t) - m1_t) - point.xhat_t * m2) -
                              point.xhat * m2_t;
        store<V>(dz_t + lane + n, scale_t * projected + p.scale * projected_t);
      }
    };
    for (int64_t i = 0; i < pooled_height; ++i) {
      for (int64_t j = 0; j < pooled_width; ++j) {
        const int64_t window = i * sizes.pooled_row + j * kPixel + lane;
        const V g = T(0.25) * load<V>(grad + window);
        V g_t = {};
        if constexpr (kTangent) g_t = T(0.25) * load<V>(grad_t + window);
#pragma GCC unroll 4
        for (int k = 0; k < 4; ++k) {
          write((2 * i + k / 2) * sizes.row + (2 * j + k % 2) * kPixel, g, g_t);
        }
      }
    }
    // What the pool dropped still takes part in the norm; what pads the map has no gradient.
    const V zero = {};
    if (sizes.width % 2 != 0) {
      for (int64_t h = 0; h < sizes.height; ++h) {
        write(h * sizes.row + (sizes.width - 1) * kPixel, zero, zero);
      }
    }
    if (sizes.height % 2 != 0) {
      const int64_t last = (sizes.height - 1) * sizes.row;
      for (int64_t w = 0; w < sizes.width / 2 * 2; ++w) write(last + w * kPixel, zero, zero);
    }
    for (int64_t h = 0; h < sizes.padded_height; ++h) {
      const int64_t first = h < sizes.height ? sizes.width * kPixel : 0;
      for (int64_t n = h * sizes.row + first; n < (h + 1) * sizes.row; n += kPixel) {
        store<V>(dz + lane + n, zero);
        if constexpr (kTangent) store<V>(dz_t + lane + n, zero);
      }
    }
  }
}

#define NSDBENCH_FORWARD_ARGUMENTS \
  sizes, weights, weights_t, z, z_t, moments, moments_t, pooled, pooled_t
#define NSDBENCH_BACKWARD_ARGUMENTS \
  sizes, weights, weights_t, z, z_t, moments, moments_t, grad, grad_t, dz, dz_t, gamma, beta

template <typename T, int kBytes>
NSDBENCH_INLINE void forward_body(const NormSizes& sizes, const NormWeights<T>& weights,
                                  const NormWeights<T>& weights_t, const T* z, const T* z_t,
                                  const NormMoments<T>& moments, const NormMoments<T>& moments_t,
                                  T* pooled, T* pooled_t) {
  if (z_t == nullptr) {
    forward_block<T, kBytes, false>(NSDBENCH_FORWARD_ARGUMENTS);
  } else {
    forward_block<T, kBytes, true>(NSDBENCH_FORWARD_ARGUMENTS);
  }
}

template <typename T, int kBytes>
NSDBENCH_INLINE void backward_body(const NormSizes& sizes, const NormWeights<T>& weights,
                                   const NormWeights<T>& weights_t, const T* z, const T* z_t,
                                   const NormMoments<T>& moments, const NormMoments<T>& moments_t,
                                   const T* grad, const T* grad_t, T* dz, T* dz_t, T* gamma,
                                   T* beta) {
  if (z_t == nullptr) {
    backward_block<T, kBytes, false>(NSDBENCH_BACKWARD_ARGUMENTS);
  } else {
    backward_block<T, kBytes, true>(NSDBENCH_BACKWARD_ARGUMENTS);
  }
}

NSDBENCH_MULTIVERSION(forward,
                      (const NormSizes& sizes, const NormWeights<T>& weights,
                       const NormWeights<T>& weights_t, const T* z, const T* z_t,
                       const NormMoments<T>& moments, const NormMoments<T>& moments_t, T* pooled,
                       T* pooled_t),
                      (NSDBENCH_FORWARD_ARGUMENTS))
NSDBENCH_MULTIVERSION(backward,
                      (const NormSizes& sizes, const NormWeights<T>& weights,
                       const NormWeights<T>& weights_t, const T* z, const T* z_t,
                       const NormMoments<T>& moments, const NormMoments<T>& moments_t,
                       const T* grad, const T* grad_t, T* dz, T* dz_t, T* gamma, T* beta),
                      (NSDBENCH_BACKWARD_ARGUMENTS))

}  // namespace

template <typename T>
void norm_forward(const NormSizes& sizes, const NormWeights<T>& weights, const T* z,
                  const NormMoments<T>& moments, T* pooled) {
  forward<T>(sizes, weights, {}, z, nullptr, moments, {}, pooled, nullptr);
}

template <typename T>
void norm_forward_jvp(const NormSizes& sizes, const NormWeights<T>& weights,
                      const NormWeights<T>& weights_t, const T* z, const T* z_t,
                      const NormMoments<T>& moments, const NormMoments<T>& moments_t, T* pooled,
                      T* pooled_t) {
  forward<T>(sizes, weights, weights_t, z, z_t, moments, moments_t, pooled, pooled_t);
}

template <typename T>
void norm_backward(const NormSizes& sizes, const NormWeights<T>& weights, const T* z,
                   const NormMoments<T>& moments, const T* grad, T* dz, T* grad_gamma,
                   T* grad_beta) {
  backward<T>(sizes, weights, {}, z, nullptr, moments, {}, grad, nullptr, dz, nullptr, grad_gamma,
              grad_beta);
}

template <typename T>
void norm_backward_jvp(const NormSizes& sizes, const NormWeights<T>& weights,
                       const NormWeights<T>& weights_t, const T* z, const T* z_t,
                       const NormMoments<T>& moments, const NormMoments<T>& moments_t,
                       const T* grad, const T* grad_t, T* dz, T* dz_t, T* grad_gamma_t,
                       T* grad_beta_t) {
  backward<T>(sizes, weights, weights_t, z, z_t, moments, moments_t, grad, grad_t, dz, dz_t,
              grad_gamma_t, grad_beta_t);
}

#define NSDBENCH_INSTANTIATE(T)                                                                    \
  template void norm_forward<T>(const NormSizes&, const NormWeights<T>&, const T*,                 \
                                const NormMoments<T>&, T*);                                        \
  template void norm_forward_jvp<T>(const NormSizes&, const NormWeights<T>&,                       \
                                    const NormWeights<T>&, const T*, const T*,                     \
                                    const NormMoments<T>&, const NormMoments<T>&, T*, T*);         \
  template void norm_backward<T>(const NormSizes&, const NormWeights<T>&, const T*,                \
                                 const NormMoments<T>&, const T*, T*, T*, T*);                     \
  template void norm_backward_jvp<T>(const NormSizes&, const NormWeights<T>&,                      \
                                     const NormWeights<T>&, const T*, const T*,                    \
                                     const NormMoments<T>&, const NormMoments<T>&, const T*,       \
                                     const T*, T*, T*, T*, T*);
NSDBENCH_INSTANTIATE(float)
NSDBENCH_INSTANTIATE(double)

}  // namespace nsdbench::cpu
