// One plane at a time: it fits the first- or second-level cache, so that the passes for the mean,
// the variance and the result read main memory once. Sums run over lanes in a fixed order and
// per-channel sums over images ascending, so results do not depend on the number of threads.
//
// norm_block.cpp computes the same on channel blocks, the ConvNet's own layout. From 16x16 on, packing
// planes for it takes 2 to 8 times as long as all of this, so both stay.

#include "inorm_relu_pool.h"

#include <cmath>
#include <memory>

#include "parallel.h"
#include "simd.h"

namespace nsdbench::cpu {
namespace {

// One plane and what is asked about it.
template <typename T>
struct Plane {
  int64_t height, width;
  const T *x, *x_t;        // [height, width]; x_t may be null
  const T *grad, *grad_t;  // [height / 2, width / 2]; grad_t may be null
  T gamma, beta, gamma_t, beta_t, eps;
  T* row;       // [2, width] scratch
  T* out;       // pooled result, or [height, width] gradient
  T *sum_dyx, *sum_dy;  // this plane's part of the gradients of gamma and beta
};

// A sum with one accumulator per lane of every width that a loop over lanes uses. `take` moves
// another sum into it: sums of sums of rows stay accurate for large planes.
template <typename T, int kBytes>
struct LaneSum {
  typename NativeVector<T, kBytes>::type wide = {};
  LaneSum<T, kBytes / 2> narrow;

  template <typename U>
  NSDBENCH_INLINE void add(U value) {
    if constexpr (sizeof(U) == kBytes) {
      wide += value;
    } else {
      narrow.add(value);
    }
  }
  NSDBENCH_INLINE void take(LaneSum& other) {
    wide += other.wide;
    other.wide = typename NativeVector<T, kBytes>::type{};
    narrow.take(other.narrow);
  }
  NSDBENCH_INLINE T total() const {
    T lanes[kBytes / sizeof(T)];
    __builtin_memcpy(lanes, &wide, kBytes);
    for (int half = kBytes / static_cast<int>(sizeof(T)) / 2; half > 0; half /= 2) {
      for (int n = 0; n < half; ++n) lanes[n] += lanes[n + half];
    }
    return lanes[0] + narrow.total();
  }
};

template <typename T>
struct LaneSum<T, 8> {
  T rest = 0;
  NSDBENCH_INLINE void add(T value) { rest += value; }
  NSDBENCH_INLINE void take(LaneSum& other) {
    rest += other.rest;
    other.rest = 0;
  }
  NSDBENCH_INLINE T total() const { return rest; }
};

// Sum of term<U>(i) over i in [0, count), in four chains.
template <typename T, int kBytes, typename Term>
NSDBENCH_INLINE T sum(int64_t count, const Term& term) {
  using V = typename NativeVector<T, kBytes>::type;
  constexpr int64_t kWidth = NativeVector<T, kBytes>::kWidth;
  LaneSum<T, kBytes> total;
  V chain[3] = {};
  int64_t i = 0;
  for (; i + 4 * kWidth <= count; i += 4 * kWidth) {
    total.add(term.template operator()<V>(i));
    chain[0] += term.template operator()<V>(i + kWidth);
    chain[1] += term.template operator()<V>(i + 2 * kWidth);
    chain[2] += term.template operator()<V>(i + 3 * kWidth);
  }
  total.wide = (total.wide + chain[0]) + (chain[1] + chain[2]);
  for_lanes<T, kBytes>(i, count, [&]<typename U>(int64_t n) NSDBENCH_INLINE_LAMBDA {
    total.add(term.template operator()<U>(n));
  });
  return total.total();
}

template <typename T>
struct Moments {
  T mean, rstd;
  T mean_t, q;  // mean of x_t, mean of xhat x_t
};

template <typename T, int kBytes>
NSDBENCH_INLINE Moments<T> moments(const Plane<T>& plane) {
  const int64_t count = plane.height * plane.width;
  const T size = static_cast<T>(count);
  const T *x = plane.x, *x_t = plane.x_t;
  Moments<T> m{};
  m.mean = sum<T, kBytes>(count, [&]<typename U>(int64_t i) NSDBENCH_INLINE_LAMBDA -> U {
    return load<U>(x + i);
  }) / size;
  const T mean = m.mean;
  const T variance = sum<T, kBytes>(count, [&]<typename U>(int64_t i) NSDBENCH_INLINE_LAMBDA -> U {
    const U centred = load<U>(x + i) - mean;
    return centred * centred;
  }) / size;
  m.rstd = 1 / std::sqrt(variance + plane.eps);
  if (x_t != nullptr) {
    m.mean_t = sum<T, kBytes>(count, [&]<typename U>(int64_t i) NSDBENCH_INLINE_LAMBDA -> U {
      return load<U>(x_t + i);
    }) / size;
    m.q = m.rstd * sum<T, kBytes>(count, [&]<typename U>(int64_t i) NSDBENCH_INLINE_LAMBDA -> U {
      return (load<U>(x + i) - mean) * load<U>(x_t + i);
    }) / size;
  }
  return m;
}

// xhat, y and their tangents at element i of a row.
template <typename U>
struct Point {
  U xhat, y, xhat_t, y_t;
};

template <typename U, typename T>
NSDBENCH_INLINE Point<U> evaluate(const Plane<T>& plane, const Moments<T>& m, const T* x,
                                  const T* x_t, int64_t i, bool with_tangent) {
  Point<U> point;
  point.xhat = (load<U>(x + i) - m.mean) * m.rstd;
  point.y = plane.gamma * point.xhat + plane.beta;
  if (with_tangent) {
    point.xhat_t = U{};
    if (x_t != nullptr) point.xhat_t = (load<U>(x_t + i) - m.mean_t - point.xhat * m.q) * m.rstd;
    point.y_t = plane.gamma * point.xhat_t + plane.gamma_t * point.xhat + plane.beta_t;
  }
  return point;
}

// out [height / 2, width / 2] of one plane, or its tangent.
template <typename T, int kBytes, bool kTangent>
NSDBENCH_INLINE void pool_plane(const Plane<T>& plane) {
  const Moments<T> m = moments<T, kBytes>(plane);
  const int64_t width = plane.width, pooled_width = width / 2;
  T* row = plane.row;
  for (int64_t i = 0; i < plane.height / 2; ++i) {
    const T* x = plane.x + 2 * i * width;
    const T* x_t = kTangent && plane.x_t != nullptr ? plane.x_t + 2 * i * width : nullptr;
    for_lanes<T, kBytes>(0, width, [&]<typename U>(int64_t n) NSDBENCH_INLINE_LAMBDA {
      const Point<U> upper = evaluate<U>(plane, m, x, x_t, n, kTangent);
      const Point<U> lower = evaluate<U>(plane, m, x + width,
                                         x_t == nullptr ? nullptr : x_t + width, n, kTangent);
      if constexpr (kTangent) {
        store<U>(row + n, where_positive(upper.y, upper.y_t) + where_positive(lower.y, lower.y_t));
      } else {
        store<U>(row + n, where_positive(upper.y, upper.y) + where_positive(lower.y, lower.y));
      }
    });
    T* out = plane.out + i * pooled_width;
    for (int64_t j = 0; j < pooled_width; ++j) out[j] = T(0.25) * (row[2 * j] + row[2 * j + 1]);
  }
}

// row[w] = grad/4 of the window that holds column w of rows 2i and 2i + 1; 0 outside all windows.
template <typename T>
NSDBENCH_INLINE void spread(const Plane<T>& plane, const T* grad, int64_t i, T* row) {
  const int64_t pooled_width = plane.width / 2;
  if (grad == nullptr || i >= plane.height / 2) {
    for (int64_t w = 0; w < plane.width; ++w) row[w] = 0;
    return;
  }
  row[plane.width - 1] = 0;
  for (int64_t j = 0; j < pooled_width; ++j) {
    row[2 * j] = row[2 * j + 1] = T(0.25) * grad[i * pooled_width + j];
  }
}

// Gradient of one plane, or its tangent.
template <typename T, int kBytes, bool kTangent>
NSDBENCH_INLINE void differentiate_plane(const Plane<T>& plane) {
  const Moments<T> m = moments<T, kBytes>(plane);
  const int64_t width = plane.width;
  T *row = plane.row, *row_t = plane.row + width;
  LaneSum<T, kBytes> sums[4], row_sums[4];  // of dy, dy xhat and their tangents

  const auto each_row = [&](const auto& body) NSDBENCH_INLINE_LAMBDA {
    for (int64_t h = 0; h < plane.height; ++h) {
      if (h % 2 == 0) {
        spread(plane, plane.grad, h / 2, row);
        if (kTangent) spread(plane, plane.grad_t, h / 2, row_t);
      }
      const T* x = plane.x + h * width;
      const T* x_t = kTangent && plane.x_t != nullptr ? plane.x_t + h * width : nullptr;
      for_lanes<T, kBytes>(0, width, [&]<typename U>(int64_t n) NSDBENCH_INLINE_LAMBDA {
        const Point<U> point = evaluate<U>(plane, m, x, x_t, n, kTangent);
        const U dy = where_positive(point.y, load<U>(row + n));
        const U dy_t = kTangent ? where_positive(point.y, load<U>(row_t + n)) : U{};
        body.template operator()<U>(point, dy, dy_t, h * width + n);
      });
      for (int k = 0; k < (kTangent ? 4 : 2); ++k) sums[k].take(row_sums[k]);
    }
  };

  each_row([&]<typename U>(const Point<U>& point, U dy, U dy_t, int64_t)
           NSDBENCH_INLINE_LAMBDA {
    row_sums[0].add(dy);
    row_sums[1].add(U(dy * point.xhat));
    if constexpr (kTangent) {
      row_sums[2].add(dy_t);
      row_sums[3].add(U(dy_t * point.xhat + dy * point.xhat_t));
    }
  });
  const T size = static_cast<T>(plane.height * width);
  const T m1 = sums[0].total() / size, m2 = sums[1].total() / size;
  const T m1_t = sums[2].total() / size, m2_t = sums[3].total() / size;
  *plane.sum_dy = sums[kTangent ? 2 : 0].total();
  *plane.sum_dyx = sums[kTangent ? 3 : 1].total();
  if (plane.out == nullptr) return;

  const T scale = plane.gamma * m.rstd;
  const T scale_t = plane.gamma_t * m.rstd - scale * m.rstd * m.q;
  T* out = plane.out;
  each_row([&]<typename U>(const Point<U>& point, U dy, U dy_t, int64_t n)
           NSDBENCH_INLINE_LAMBDA {
    const U projected = dy - m1 - point.xhat * m2;
    if constexpr (kTangent) {
      const U projected_t = dy_t - m1_t - point.xhat_t * m2 - point.xhat * m2_t;
      store<U>(out + n, scale_t * projected + scale * projected_t);
    } else {
      store<U>(out + n, scale * projected);
    }
  });
}

template <typename T, int kBytes>
NSDBENCH_INLINE void forward_body(const Plane<T>& plane) {
  pool_plane<T, kBytes, false>(plane);
}
template <typename T, int kBytes>
NSDBENCH_INLINE void forward_jvp_body(const Plane<T>& plane) {
  pool_plane<T, kBytes, true>(plane);
}
template <typename T, int kBytes>
NSDBENCH_INLINE void backward_body(const Plane<T>& plane) {
  differentiate_plane<T, kBytes, false>(plane);
}
template <typename T, int kBytes>
NSDBENCH_INLINE void backward_jvp_body(const Plane<T>& plane) {
  differentiate_plane<T, kBytes, true>(plane);
}
NSDBENCH_MULTIVERSION(forward, (const Plane<T>& plane), (plane))
NSDBENCH_MULTIVERSION(forward_jvp, (const Plane<T>& plane), (plane))
NSDBENCH_MULTIVERSION(backward, (const Plane<T>& plane), (plane))
NSDBENCH_MULTIVERSION(backward_jvp, (const Plane<T>& plane), (plane))

// Calls body on every plane, several at a time; per-plane results are left to the caller.
template <typename T, typename Body>
void for_each_plane(const PlaneSizes& sizes, const T* grad, const NormInput<T>& input,
                    const T* grad_t, const NormTangent<T>& tangent, const Body& body) {
  const auto offset = [](const T* tensor, int64_t n) { return tensor ? tensor + n : nullptr; };
  const int64_t grain = (1 << 14) / (sizes.plane_size() + 1) + 1;  // about 10 microseconds
  parallel_for(0, sizes.planes(), grain, [&](int64_t begin, int64_t end) {
    const std::unique_ptr<T[]> row(new T[2 * sizes.width]);
    for (int64_t p = begin; p < end; ++p) {
      const int64_t c = p % sizes.channels;
      Plane<T> plane{};
      plane.height = sizes.height;
      plane.width = sizes.width;
      plane.x = input.x + p * sizes.plane_size();
      plane.x_t = offset(tangent.x, p * sizes.plane_size());
      plane.grad = offset(grad, p * sizes.pooled_size());
      plane.grad_t = offset(grad_t, p * sizes.pooled_size());
      plane.gamma = input.weight[c];
      plane.beta = input.bias[c];
      plane.gamma_t = tangent.weight ? tangent.weight[c] : T(0);
      plane.beta_t = tangent.bias ? tangent.bias[c] : T(0);
      plane.eps = static_cast<T>(input.eps);
      plane.row = row.get();
      body(plane, p);
    }
  });
}

template <typename T>
void differentiate(const PlaneSizes& sizes, const T* grad, const NormInput<T>& input,
                   const T* grad_t, const NormTangent<T>& tangent, bool with_tangent,
                   const NormGradient<T>& result) {
  const std::unique_ptr<T[]> parts(new T[2 * sizes.planes()]);
  T *dyx = parts.get(), *dy = parts.get() + sizes.planes();
  for_each_plane<T>(sizes, grad, input, grad_t, tangent, [&](Plane<T>& plane, int64_t p) {
    plane.out = result.x ? result.x + p * sizes.plane_size() : nullptr;
    plane.sum_dyx = dyx + p;
    plane.sum_dy = dy + p;
    with_tangent ? backward_jvp<T>(plane) : backward<T>(plane);
  });
  for (int64_t c = 0; c < sizes.channels; ++c) {
    T weight = 0, bias = 0;
    for (int64_t n = 0; n < sizes.images; ++n) {
      weight += dyx[n * sizes.channels + c];
      bias += dy[n * sizes.channels + c];
    }
    result.weight[c] = weight;
    result.bias[c] = bias;
  }
}

}  // namespace

template <typename T>
void inorm_relu_pool(const PlaneSizes& sizes, const NormInput<T>& input, T* out) {
  for_each_plane<T>(sizes, nullptr, input, nullptr, {}, [&](Plane<T>& plane, int64_t p) {
    plane.out = out + p * sizes.pooled_size();
    forward<T>(plane);
  });
}

template <typename T>
void inorm_relu_pool_jvp(const PlaneSizes& sizes, const NormInput<T>& input,
                         const NormTangent<T>& tangent, T* out_t) {
  for_each_plane<T>(sizes, nullptr, input, nullptr, tangent, [&](Plane<T>& plane, int64_t p) {
    plane.out = out_t + p * sizes.pooled_size();
    forward_jvp<T>(plane);
  });
}

template <typename T>
void inorm_relu_pool_backward(const PlaneSizes& sizes, const T* grad, const NormInput<T>& input,
                              const NormGradient<T>& result) {
  differentiate<T>(sizes, grad, input, nullptr, {}, false, result);
}

template <typename T>
void inorm_relu_pool_backward_jvp(const PlaneSizes& sizes, const T* grad, const NormInput<T>& input,
                                  const T* grad_t, const NormTangent<T>& tangent,
                                  const NormGradient<T>& result) {
  differentiate<T>(sizes, grad, input, grad_t, tangent, true, result);
}

#define NSDBENCH_INSTANTIATE(T)                                                                   \
  template void inorm_relu_pool<T>(const PlaneSizes&, const NormInput<T>&, T*);                   \
  template void inorm_relu_pool_jvp<T>(const PlaneSizes&, const NormInput<T>&,                    \
                                       const NormTangent<T>&, T*);                                \
  template void inorm_relu_pool_backward<T>(const PlaneSizes&, const T*, const NormInput<T>&,     \
                                            const NormGradient<T>&);                              \
  template void inorm_relu_pool_backward_jvp<T>(const PlaneSizes&, const T*, const NormInput<T>&, \
                                                const T*, const NormTangent<T>&,                  \
                                                const NormGradient<T>&);
NSDBENCH_INSTANTIATE(float)
NSDBENCH_INSTANTIATE(double)

}  // namespace nsdbench::cpu
