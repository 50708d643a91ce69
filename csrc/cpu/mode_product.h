// One mode product Y = X x_n K and its two gradients, on a dense row-major 4-tensor.
//
// With X [lead, t, right] (lead: sizes before mode n, right: sizes after it):
//   Y[l,v,q]  = sum_s K[s,v] X[l,s,q]
//   gX[l,s,q] = sum_v K[s,v] gY[l,v,q]
//   gK[s,v]   = sum_{l,q} X[l,s,q] gY[l,v,q]
// For the last mode right is 1, and the sums run over contiguous rows the other way round.

#pragma once

#include <cstdint>

#include "matrix.h"
#include "parallel.h"

namespace nsdbench::cpu {

struct ModeProduct {
  int64_t lead, t, u, right;

  int64_t x_size() const { return lead * t * right; }
  int64_t y_size() const { return lead * u * right; }
  // Iterations that make a piece of work worth a thread: about 20 microseconds.
  int64_t grain(int64_t iterations) const {
    const int64_t each = lead * t * u * right / iterations + 1;
    return (1 << 20) / each + 1;
  }
};

template <typename T>
void mode_product(const ModeProduct& p, const T* x, const T* kernel, T* y) {
  if (p.right == 1) {
    parallel_for(0, p.lead, p.grain(p.lead), [&](int64_t begin, int64_t end) {
      multiply<T>(false, end - begin, p.u, p.t, x + begin * p.t, p.t, 1, kernel, p.u,
                  y + begin * p.u, p.u);
    });
  } else if (p.lead == 1) {
    parallel_for(0, p.u, p.grain(p.u), [&](int64_t begin, int64_t end) {
      multiply<T>(false, end - begin, p.right, p.t, kernel + begin, 1, p.u, x, p.right,
                  y + begin * p.right, p.right);
    });
  } else {
    parallel_for(0, p.lead, p.grain(p.lead), [&](int64_t begin, int64_t end) {
      for (int64_t l = begin; l < end; ++l) {
        multiply<T>(false, p.u, p.right, p.t, kernel, 1, p.u, x + l * p.t * p.right, p.right,
                    y + l * p.u * p.right, p.right);
      }
    });
  }
}

// scratch: [u, t], used for the last mode only
template <typename T>
void mode_product_backward_tensor(const ModeProduct& p, const T* grad_y, const T* kernel,
                                  T* scratch, T* grad_x) {
  if (p.right == 1) {
    for (int64_t v = 0; v < p.u; ++v) {
      for (int64_t s = 0; s < p.t; ++s) scratch[v * p.t + s] = kernel[s * p.u + v];
    }
    parallel_for(0, p.lead, p.grain(p.lead), [&](int64_t begin, int64_t end) {
      multiply<T>(false, end - begin, p.t, p.u, grad_y + begin * p.u, p.u, 1, scratch, p.t,
                  grad_x + begin * p.t, p.t);
    });
  } else if (p.lead == 1) {
    parallel_for(0, p.t, p.grain(p.t), [&](int64_t begin, int64_t end) {
      multiply<T>(false, end - begin, p.right, p.u, kernel + begin * p.u, p.u, 1, grad_y, p.right,
                  grad_x + begin * p.right, p.right);
    });
  } else {
    parallel_for(0, p.lead, p.grain(p.lead), [&](int64_t begin, int64_t end) {
      for (int64_t l = begin; l < end; ++l) {
        multiply<T>(false, p.t, p.right, p.u, kernel, p.u, 1, grad_y + l * p.u * p.right, p.right,
                    grad_x + l * p.t * p.right, p.right);
      }
    });
  }
}

template <typename T>
void mode_product_backward_kernel(const ModeProduct& p, const T* x, const T* grad_y,
                                  T* grad_kernel) {
  if (p.right == 1) {
    parallel_for(0, p.t, p.grain(p.t), [&](int64_t begin, int64_t end) {
      multiply<T>(false, end - begin, p.u, p.lead, x + begin, 1, p.t, grad_y, p.u,
                  grad_kernel + begin * p.u, p.u);
    });
  } else {
    parallel_for(0, p.u, p.grain(p.u), [&](int64_t begin, int64_t end) {
      multiply_by_transpose<T>(p.lead, p.t, end - begin, p.right, x, p.t * p.right,
                               grad_y + begin * p.right, p.u * p.right, grad_kernel + begin, p.u);
    });
  }
}

}  // namespace nsdbench::cpu
