// Small kernels with known faults, which show that the host run of CUDA kernels finds them.

#pragma once

#include "kernels/simt.h"

namespace nsdbench::simt_programs {

constexpr int kThreads = 64;

// Reverses each run of 64 numbers through shared memory. Without the barrier a thread may read a slot
// before its owner has written it.
template <bool kHasBarrier>
SIMT_KERNEL void reverse_kernel(const double* in, double* out) {
  SIMT_SHARED(double, slot, kThreads);
  const int t = simt::thread_x();
  slot[t] = in[simt::block_x() * kThreads + t];
  if (kHasBarrier) simt::barrier();
  out[simt::block_x() * kThreads + t] = slot[kThreads - 1 - t];
}

// Every thread takes what the thread before it wrote, the first its own.
template <bool kHasBarrier>
SIMT_KERNEL void shift_kernel(const double* in, double* out) {
  SIMT_SHARED(double, slot, kThreads);
  const int t = simt::thread_x();
  slot[t] = in[t];
  if (kHasBarrier) simt::barrier();
  out[t] = slot[t > 0 ? t - 1 : 0];
}

// Running sum where every thread adds to what the thread before it left: one barrier a round.
template <bool kHasBarrier>
SIMT_KERNEL void prefix_sum_kernel(const double* in, double* out) {
  SIMT_SHARED_DYNAMIC(double, sum);
  const int t = simt::thread_x();
  sum[t] = in[t];
  simt::barrier();
  for (int reach = 1; reach < kThreads; reach *= 2) {
    const double left = t >= reach ? sum[t - reach] : 0;
    if (kHasBarrier) simt::barrier();
    sum[t] += left;
    simt::barrier();
  }
  out[t] = sum[t];
}

// Sum over a warp by shuffles, every lane; then lane + delta of the own thread number.
SIMT_KERNEL void shuffle_kernel(const double* in, double* sums, int* neighbours) {
  double total = in[simt::thread_x()];
  for (int mask = simt::kWarpSize / 2; mask > 0; mask /= 2) total += simt::shuffle_xor(total, mask);
  sums[simt::thread_x()] = total;
  neighbours[simt::thread_x()] = simt::shuffle_down(simt::thread_x(), 3);
}

// Half of the threads skip the barrier.
SIMT_KERNEL void divergent_barrier_kernel() {
  if (simt::thread_x() < kThreads / 2) simt::barrier();
}

// Both halves wait, but at different barriers.
SIMT_KERNEL void two_barriers_kernel() {
  if (simt::thread_x() < kThreads / 2) {
    simt::barrier();
  } else {
    simt::barrier();
  }
}

// One lane leaves before the shuffle.
SIMT_KERNEL void divergent_shuffle_kernel(double* out) {
  if (simt::thread_x() == 5) return;
  out[simt::thread_x()] = simt::shuffle_down(1.0, 1);
}

// Reads one number beyond its shared memory; only the address sanitizer sees it.
SIMT_KERNEL void overflow_kernel(double* out) {
  SIMT_SHARED(double, slot, kThreads);
  slot[simt::thread_x()] = 1;
  simt::barrier();
  out[simt::thread_x()] = slot[simt::thread_x() + 1];
}

// Writes where each thread stands, to check the indices.
SIMT_KERNEL void indices_kernel(int* out) {
  const int64_t block = (simt::block_z() * simt::grid_size_y() + simt::block_y()) *
                            simt::grid_size_x() + simt::block_x();
  const int thread = (simt::thread_z() * simt::block_size_y() + simt::thread_y()) *
                         simt::block_size_x() + simt::thread_x();
  const int threads = simt::block_size_x() * simt::block_size_y() * simt::block_size_z();
  out[block * threads + thread] += static_cast<int>(block * threads + thread);
}

}  // namespace nsdbench::simt_programs
