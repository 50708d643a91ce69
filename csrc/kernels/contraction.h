// Shapes of a separable reconstruction and the cheapest order of its four mode products.
// Shared by the CPU implementation and the CUDA launcher, and free of any framework header.
//
//   x = T x1 K1 x2 K2 x3 K3 x4 K4,   T [t1,t2,t3,t4],  K_n [t_n,u_n],  x [u1,u2,u3,u4]

#pragma once

#include <cstdint>

namespace nsdbench {

constexpr int kModes = 4;

// What one call reconstructs. A mode without a kernel is left as it is (u_n == t_n).
struct Problem {
  int64_t num_spectra;       // N_T
  int64_t num_kernel_sets;   // N_K
  int64_t t[kModes];         // sizes of a spectrum tensor
  int64_t u[kModes];         // sizes of an image block
  bool has_kernel[kModes];   // false: identity

  int64_t pairs() const { return num_spectra * num_kernel_sets; }
  int64_t spectrum_size() const { return t[0] * t[1] * t[2] * t[3]; }
  int64_t image_size() const { return u[1] * u[2] * u[3]; }
  int64_t kernel_size(int mode) const { return t[mode] * u[mode]; }
  int64_t images() const { return pairs() * u[0]; }
};

// The modes to contract, first to last; modes without a kernel are left out.
struct Order {
  int count;
  int mode[kModes];
};

// Multiply-adds of contracting one pair in the given order when `rows` of its images are wanted.
inline double contraction_cost(const Problem& problem, const Order& order, double rows) {
  double size[kModes], cost = 0;
  for (int n = 0; n < kModes; ++n) size[n] = static_cast<double>(problem.t[n]);
  for (int step = 0; step < order.count; ++step) {
    const int mode = order.mode[step];
    const double out = mode == 0 ? rows : static_cast<double>(problem.u[mode]);
    cost += size[0] * size[1] * size[2] * size[3] * out;
    size[mode] = out;
  }
  return cost;
}

// Find the cheapest of the at most 24 orders by trying them all. Ties go to the later modes first
// (their products run over contiguous memory), so the result depends on the sizes alone.
//   rows: images wanted of one pair (u1 when all are)
//   has_sample_step: whether mode 1 is a step; a selection of rows without a K1 is one as well
inline Order cheapest_order(const Problem& problem, double rows, bool has_sample_step) {
  int candidates[kModes], count = 0;
  for (int mode = kModes - 1; mode >= 0; --mode) {
    if (mode == 0 ? has_sample_step : problem.has_kernel[mode]) candidates[count++] = mode;
  }
  int permutations = 1;
  for (int n = 2; n <= count; ++n) permutations *= n;

  Order best{count, {}};
  double best_cost = -1;
  for (int p = 0; p < permutations; ++p) {
    Order order{count, {}};
    bool used[kModes] = {};
    int code = p, block = permutations;
    for (int step = 0; step < count; ++step) {  // p-th permutation in lexicographic order
      block /= count - step;
      int skip = code / block;
      code %= block;
      for (int c = 0; c < count; ++c) {
        if (used[c]) continue;
        if (skip-- == 0) {
          used[c] = true;
          order.mode[step] = candidates[c];
          break;
        }
      }
    }
    const double cost = contraction_cost(problem, order, rows);
    if (best_cost < 0 || cost < best_cost) {
      best = order;
      best_cost = cost;
    }
  }
  return best;
}

}  // namespace nsdbench
