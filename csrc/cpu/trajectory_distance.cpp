// Compiled without contraction (CMakeLists.txt), and summed in sixteen chains a chunk on every
// instruction set: a record does not depend on the processor it was made on.

#include "trajectory_distance.h"

#include <algorithm>
#include <vector>

#include "parallel.h"
#include "simd.h"

namespace nsdbench::cpu {
namespace {

constexpr int64_t kChunk = 4096;        // elements summed together: the tree does not know of threads
constexpr int64_t kGrain = 8;  // chunks worth a thread

int64_t chunks_of(int64_t count) { return (count + kChunk - 1) / kChunk; }


// As many T as a vector of kBytes has doubles.
template <typename T, int kBytes>
using Narrow = typename NativeVector<T, kBytes / 8 * static_cast<int>(sizeof(T))>::type;

template <typename T, int kBytes>
NSDBENCH_INLINE typename NativeVector<double, kBytes>::type widen(const T* p) {
  return __builtin_convertvector(load<Narrow<T, kBytes>>(p),
                                 typename NativeVector<double, kBytes>::type);
}

// |u|^2 and |w|^2 over [begin, end) in sixteen chains, whatever the width of a vector.
template <typename T, int kBytes>
NSDBENCH_INLINE void chunk_sums_body(const TrajectoryDistance<T>& problem, int64_t begin,
                                     int64_t end, double* numerator, double* denominator) {
  using V = typename NativeVector<double, kBytes>::type;
  constexpr int64_t kChains = 16, kWidth = kBytes / 8, kVectors = kChains / kWidth;
  V numerators[kVectors] = {}, denominators[kVectors] = {};
  int64_t n = begin;
  for (; n + kChains <= end; n += kChains) {
#pragma GCC unroll 8
    for (int64_t v = 0; v < kVectors; ++v) {
      const V target = widen<T, kBytes>(problem.theta_target + n + v * kWidth);
      const V u = widen<T, kBytes>(problem.theta + n + v * kWidth) - target;
      const V w = widen<T, kBytes>(problem.theta_start + n + v * kWidth) - target;
      numerators[v] += u * u;
      denominators[v] += w * w;
    }
  }
  double chains[2][kChains];
  for (int64_t v = 0; v < kVectors; ++v) {
    store(chains[0] + v * kWidth, numerators[v]);
    store(chains[1] + v * kWidth, denominators[v]);
  }
  for (int64_t c = 0; n < end; ++n, ++c) {
    const double target = problem.theta_target[n];
    const double u = problem.theta[n] - target, w = problem.theta_start[n] - target;
    chains[0][c] += u * u;
    chains[1][c] += w * w;
  }
  for (int64_t half = kChains / 2; half > 0; half /= 2) {
    for (int64_t c = 0; c < half; ++c) {
      chains[0][c] += chains[0][c + half];
      chains[1][c] += chains[1][c + half];
    }
  }
  *numerator = chains[0][0];
  *denominator = chains[1][0];
}
NSDBENCH_MULTIVERSION(chunk_sums,
                      (const TrajectoryDistance<T>& problem, int64_t begin, int64_t end,
                       double* numerator, double* denominator),
                      (problem, begin, end, numerator, denominator))

// Adds neighbours, then neighbouring pairs, and so on.
double tree_sum(std::vector<double>& values) {
  const int64_t count = static_cast<int64_t>(values.size());
  for (int64_t stride = 1; stride < count; stride *= 2) {
    for (int64_t n = 0; n + stride < count; n += 2 * stride) values[n] += values[n + stride];
  }
  return count > 0 ? values[0] : 0;
}

template <typename T, int kBytes>
NSDBENCH_INLINE void gradients_range_body(const TrajectoryDistance<T>& problem, double along_u,
                                          double along_w, const TrajectoryGradients<T>& gradients,
                                          int64_t begin, int64_t end) {
  using V = typename NativeVector<double, kBytes>::type;
  using N = Narrow<T, kBytes>;
  constexpr int64_t kWidth = kBytes / 8;
  int64_t n = begin;
  for (; n + kWidth <= end; n += kWidth) {
    const V target = widen<T, kBytes>(problem.theta_target + n);
    const V in_theta = (widen<T, kBytes>(problem.theta + n) - target) * along_u;
    if (gradients.theta != nullptr) {
      store(gradients.theta + n, __builtin_convertvector(in_theta, N));
    }
    if (gradients.theta_start == nullptr && gradients.theta_target == nullptr) continue;
    const V in_start = (widen<T, kBytes>(problem.theta_start + n) - target) * along_w;
    if (gradients.theta_start != nullptr) {
      store(gradients.theta_start + n, __builtin_convertvector(in_start, N));
    }
    if (gradients.theta_target != nullptr) {
      const V sum = -(in_theta + in_start);
      store(gradients.theta_target + n, __builtin_convertvector(sum, N));
    }
  }
  for (; n < end; ++n) {
    const double target = problem.theta_target[n];
    const double in_theta = (problem.theta[n] - target) * along_u;
    const double in_start = (problem.theta_start[n] - target) * along_w;
    if (gradients.theta != nullptr) gradients.theta[n] = static_cast<T>(in_theta);
    if (gradients.theta_start != nullptr) gradients.theta_start[n] = static_cast<T>(in_start);
    if (gradients.theta_target != nullptr) {
      gradients.theta_target[n] = static_cast<T>(-(in_theta + in_start));
    }
  }
}
NSDBENCH_MULTIVERSION(gradients_range,
                      (const TrajectoryDistance<T>& problem, double along_u, double along_w,
                       const TrajectoryGradients<T>& gradients, int64_t begin, int64_t end),
                      (problem, along_u, along_w, gradients, begin, end))

}  // namespace

template <typename T>
void trajectory_distance(const TrajectoryDistance<T>& problem, double* sums, T* distance) {
  const int64_t chunks = chunks_of(problem.count);
  std::vector<double> numerators(chunks), denominators(chunks);
  parallel_for(0, chunks, kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t c = begin; c < end; ++c) {
      chunk_sums<T>(problem, c * kChunk, std::min((c + 1) * kChunk, problem.count),
                    &numerators[c], &denominators[c]);
    }
  });
  sums[0] = tree_sum(numerators);
  sums[1] = tree_sum(denominators);
  *distance = static_cast<T>(sums[0] / sums[1]);
}

template <typename T>
void trajectory_distance_backward(const TrajectoryDistance<T>& problem, const double* sums,
                                  const T* grad, const TrajectoryGradients<T>& gradients) {
  const double along_u = 2 * static_cast<double>(*grad) / sums[1];
  const double along_w = -along_u * (sums[0] / sums[1]);
  // Whole chunks for every thread: where it begins, a vector does not lie across two cache lines.
  parallel_for(0, chunks_of(problem.count), kGrain, [&](int64_t begin, int64_t end) {
    gradients_range<T>(problem, along_u, along_w, gradients, begin * kChunk,
                       std::min(end * kChunk, problem.count));
  });
}

#define NSDBENCH_INSTANTIATE(T)                                                         \
  template void trajectory_distance<T>(const TrajectoryDistance<T>&, double*, T*);      \
  template void trajectory_distance_backward<T>(                                        \
      const TrajectoryDistance<T>&, const double*, const T*, const TrajectoryGradients<T>&);
NSDBENCH_INSTANTIATE(float)
NSDBENCH_INSTANTIATE(double)

}  // namespace nsdbench::cpu
