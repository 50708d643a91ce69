// The normalised squared distance of a student's parameters to an expert's, and its gradient.
//
// Formulas: trajectory_distance.h. Layout: vectors [P], elements contiguous; the distance and its
// gradient are one number in device memory, so that the host waits for nothing. Offsets are 64-bit.
//
// Thread-to-data map:
//   trajectory_distance_fwd_kernel
//     grid x: B blocks, a number that depends on P alone; thread t of block b: elements b * 256 + t,
//     then strides of B * 256; a block leaves one pair of sums in partial [2, B]
//   trajectory_distance_total_kernel
//     one block: thread t sums pairs t, t + 256, ...
//   trajectory_distance_bwd_kernel
//     grid x: tiles of 256 elements; thread: one element, neighbours own neighbours (coalesced)
//
// Shared memory: at most 4096 bytes a block (two sums a thread, in double).
// Passes over memory: every vector is read or written once; no temporary of size P.
// Reduction: each thread over its elements, ascending, then a tree over the block; no atomics, so equal
// calls give equal bits on every device.
// Accuracy: differences, sums and the gradient's factors are double, each result is rounded once.
// Reference: trajectory_distance in nsdbench/ops/reference.py. CPU twin: csrc/cpu/trajectory_distance.cpp.

#pragma once

#include <cstdint>

#include "trajectory_distance.h"
#include "simt.h"

namespace nsdbench::kernels {

constexpr int kDistanceThreads = 256;

struct DistanceSums {
  double numerator, denominator;  // |u|^2, |w|^2
};

// Sum over the block; right in thread 0 only.
SIMT_DEVICE DistanceSums sum_over_block(DistanceSums own) {
  SIMT_SHARED(DistanceSums, slot, kDistanceThreads);
  const int t = simt::thread_x();
  slot[t] = own;
  for (int half = kDistanceThreads / 2; half > 0; half /= 2) {
    simt::barrier();
    if (t < half) {
      slot[t].numerator += slot[t + half].numerator;
      slot[t].denominator += slot[t + half].denominator;
    }
  }
  return slot[t];
}

//   partial [2, B]: every block's |u|^2, then every block's |w|^2
template <typename scalar_t>
SIMT_KERNEL void trajectory_distance_fwd_kernel(TrajectoryDistance<scalar_t> problem,
                                                double* partial) {
  const int64_t stride = simt::grid_size_x() * kDistanceThreads;
  DistanceSums own{0, 0};
  for (int64_t n = simt::block_x() * kDistanceThreads + simt::thread_x(); n < problem.count;
       n += stride) {
    const double target = static_cast<double>(problem.theta_target[n]);
    const double u = static_cast<double>(problem.theta[n]) - target;
    const double w = static_cast<double>(problem.theta_start[n]) - target;
    own.numerator += u * u;
    own.denominator += w * w;
  }
  const DistanceSums total = sum_over_block(own);
  if (simt::thread_x() == 0) {
    partial[simt::block_x()] = total.numerator;
    partial[simt::grid_size_x() + simt::block_x()] = total.denominator;
  }
}

//   partial [2, blocks]; sums [2]: |u|^2 and |w|^2; distance: one number
template <typename scalar_t>
SIMT_KERNEL void trajectory_distance_total_kernel(int64_t blocks, const double* partial,
                                                  double* sums, scalar_t* distance) {
  DistanceSums own{0, 0};
  for (int64_t b = simt::thread_x(); b < blocks; b += kDistanceThreads) {
    own.numerator += partial[b];
    own.denominator += partial[blocks + b];
  }
  const DistanceSums total = sum_over_block(own);
  if (simt::thread_x() == 0) {
    sums[0] = total.numerator;
    sums[1] = total.denominator;
    *distance = static_cast<scalar_t>(total.numerator / total.denominator);
  }
}

//   sums [2] as above; grad: one number, the gradient of the distance
template <typename scalar_t>
SIMT_KERNEL void trajectory_distance_bwd_kernel(TrajectoryDistance<scalar_t> problem,
                                                const double* sums, const scalar_t* grad,
                                                TrajectoryGradients<scalar_t> gradients) {
  const int64_t n = simt::block_x() * kDistanceThreads + simt::thread_x();
  if (n >= problem.count) return;
  const double along_u = 2 * static_cast<double>(*grad) / sums[1];
  const double along_w = -along_u * (sums[0] / sums[1]);
  const double target = static_cast<double>(problem.theta_target[n]);
  const double in_theta = along_u * (static_cast<double>(problem.theta[n]) - target);
  const double in_start = along_w * (static_cast<double>(problem.theta_start[n]) - target);
  if (gradients.theta != nullptr) gradients.theta[n] = static_cast<scalar_t>(in_theta);
  if (gradients.theta_start != nullptr) {
    gradients.theta_start[n] = static_cast<scalar_t>(in_start);
  }
  if (gradients.theta_target != nullptr) {
    gradients.theta_target[n] = static_cast<scalar_t>(-(in_theta + in_start));
  }
}

}  // namespace nsdbench::kernels
