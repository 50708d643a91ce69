// Every image is one thread's work and fits its first- or second-level cache; images of a batch are
// independent, so results do not depend on the number of threads.

#include "dsa.h"

#include <algorithm>
#include <cmath>

#include "parallel.h"
#include "simd.h"

namespace nsdbench::cpu {
namespace {

template <typename T>
struct ColorParameters {
  T offset, saturation, contrast;
};

// Sum over lanes in four chains, added up in a fixed order.
template <typename T, int kBytes>
NSDBENCH_INLINE T sum_of(int64_t count, const T* x) {
  using V = typename NativeVector<T, kBytes>::type;
  constexpr int64_t kLanes = NativeVector<T, kBytes>::kWidth;
  V chain[4] = {};
  int64_t i = 0;
  for (; i + 4 * kLanes <= count; i += 4 * kLanes) {
#pragma GCC unroll 4
    for (int n = 0; n < 4; ++n) chain[n] += load<V>(x + i + n * kLanes);
  }
  T lanes[kLanes];
  store(lanes, (chain[0] + chain[1]) + (chain[2] + chain[3]));
  for (int64_t half = kLanes / 2; half > 0; half /= 2) {
    for (int64_t n = 0; n < half; ++n) lanes[n] += lanes[n + half];
  }
  for (; i < count; ++i) lanes[0] += x[i];
  return lanes[0];
}

// out = k s x + k (1 - s) g + (1 - k) m + o, with g and m as in kernels/dsa.h.
template <typename T, int kBytes>
NSDBENCH_INLINE void color_body(const DsaProblem& problem, ColorParameters<T> p, const T* x,
                                T* out) {
  const int64_t plane = problem.plane_size(), channels = problem.channels;
  const T mean = sum_of<T, kBytes>(channels * plane, x) / static_cast<T>(channels * plane);
  const T shift = (1 - p.contrast) * mean + p.offset;
  const T own = p.contrast * p.saturation;
  const T shared = p.contrast * (1 - p.saturation) / static_cast<T>(channels);
  for_lanes<T, kBytes>(0, plane, [&]<typename U>(int64_t i) NSDBENCH_INLINE_LAMBDA {
    U total = load<U>(x + i);
    for (int64_t c = 1; c < channels; ++c) total += load<U>(x + c * plane + i);
    const U rest = total * shared + shift;
    for (int64_t c = 0; c < channels; ++c) {
      store(out + c * plane + i, load<U>(x + c * plane + i) * own + rest);
    }
  });
}
NSDBENCH_MULTIVERSION(color,
                      (const DsaProblem& problem, ColorParameters<T> p, const T* x, T* out),
                      (problem, p, x, out))

// A plane shifted by whole rows and columns is its own memory shifted, but for what wraps around.
template <typename T>
void crop(const DsaProblem& problem, int64_t down, int64_t right, const T* x, T* out) {
  const int64_t height = problem.height, width = problem.width;
  const int64_t first = std::clamp<int64_t>(-down, 0, height);  // rows that have a source
  const int64_t last = std::clamp<int64_t>(height - down, first, height);
  const int64_t offset = down * width + right, plane = problem.plane_size();
  const int64_t begin = std::clamp<int64_t>(-offset, first * width, last * width);
  const int64_t end = std::clamp<int64_t>(plane - offset, begin, last * width);
  const int64_t clear_from = right > 0 ? std::max<int64_t>(width - right, 0) : 0;
  const int64_t clear_to = right > 0 ? width : std::min(-right, width);
  for (int64_t c = 0; c < problem.channels; ++c) {
    const T* source = x + c * plane;
    T* target = out + c * plane;
    std::fill(target, target + begin, T(0));
    if (begin < end) std::copy_n(source + begin + offset, end - begin, target + begin);
    std::fill(target + end, target + plane, T(0));
    for (int64_t h = first; h < last; ++h) {
      for (int64_t w = clear_from; w < clear_to; ++w) target[h * width + w] = 0;
    }
  }
}

template <typename T>
void cutout(const DsaProblem& problem, const double* p, const T* x, T* out) {
  std::copy_n(x, problem.image_size(), out);
  const int64_t top = limited(p[0], 0, problem.height), left = limited(p[1], 0, problem.width);
  const int64_t bottom = limited(p[2], top, problem.height);
  const int64_t right = limited(p[3], left, problem.width);
  for (int64_t c = 0; c < problem.channels; ++c) {
    for (int64_t h = top; h < bottom; ++h) {
      T* row = out + (c * problem.height + h) * problem.width;
      std::fill(row + left, row + right, T(0));
    }
  }
}

template <typename T, int kBytes>
NSDBENCH_INLINE void flip_body(const DsaProblem& problem, const T* x, T* out) {
  const int64_t width = problem.width;
  for (int64_t row = 0; row < problem.channels * problem.height; ++row) {
    const T* source = x + row * width;
    T* target = out + row * width;
    for_lanes<T, kBytes>(0, width, [&]<typename U>(int64_t w) NSDBENCH_INLINE_LAMBDA {
      constexpr int64_t kLanes = sizeof(U) / sizeof(T);
      T lanes[kLanes];
      for (int64_t l = 0; l < kLanes; ++l) lanes[l] = source[width - 1 - w - l];
      store(target + w, load<U>(lanes));
    });
  }
}
NSDBENCH_MULTIVERSION(flip, (const DsaProblem& problem, const T* x, T* out), (problem, x, out))

// One image; p: its row of parameters.
template <typename T>
void apply(const DsaProblem& problem, const double* p, bool is_transposed, const T* x, T* out) {
  switch (problem.operation) {
    case Dsa::kColor: {
      const double offset = problem.is_linear || is_transposed ? 0 : p[0];
      return color<T>(problem,
                      {static_cast<T>(offset), static_cast<T>(p[1]), static_cast<T>(p[2])}, x,
                      out);
    }
    case Dsa::kCrop: {
      const int64_t down = limited(p[0], -problem.height, problem.height);
      const int64_t right = limited(p[1], -problem.width, problem.width);
      return is_transposed ? crop(problem, -down, -right, x, out)
                           : crop(problem, down, right, x, out);
    }
    case Dsa::kCutout:
      return cutout(problem, p, x, out);
    case Dsa::kFlip:
      if (p[0] != 0) return flip<T>(problem, x, out);
      std::copy_n(x, problem.image_size(), out);
      return;
    case Dsa::kScale:
      return scale(problem, {p[0], 0, 0, p[1]}, is_transposed, x, out);
    case Dsa::kRotate:
      return rotate(problem, rotation_map(problem, std::cos(p[0]), std::sin(p[0])),
                    is_transposed, x, out);
  }
}

template <typename T>
void apply_all(const DsaProblem& problem, const double* parameters, bool is_transposed, const T* x,
               T* out) {
  constexpr int64_t kGrain = 1 << 15;  // elements worth a thread
  const int64_t size = problem.image_size();
  const int64_t columns = kDsaColumns[static_cast<int>(problem.operation)];
  parallel_for(0, problem.images, kGrain / size + 1, [&](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; ++n) {
      const double* row = parameters + (problem.is_siamese ? 0 : n * columns);
      apply(problem, row, is_transposed, x + n * size, out + n * size);
    }
  });
}

}  // namespace

template <typename T>
void dsa(const DsaProblem& problem, const double* parameters, const T* x, T* out) {
  apply_all(problem, parameters, false, x, out);
}

template <typename T>
void dsa_backward(const DsaProblem& problem, const double* parameters, const T* grad, T* grad_x) {
  apply_all(problem, parameters, true, grad, grad_x);
}

#define NSDBENCH_INSTANTIATE(T)                                                \
  template void dsa<T>(const DsaProblem&, const double*, const T*, T*);        \
  template void dsa_backward<T>(const DsaProblem&, const double*, const T*, T*);
NSDBENCH_INSTANTIATE(float)
NSDBENCH_INSTANTIATE(double)

}  // namespace nsdbench::cpu
