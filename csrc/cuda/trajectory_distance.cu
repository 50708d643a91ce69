// Launches the trajectory distance, two kernels, and its gradient, one.

#include "cuda/trajectory_distance.h"

#include <algorithm>

#include "kernels/trajectory_distance.cuh"

namespace nsdbench::cuda {
namespace {

int64_t tiles(int64_t count) {
  return (count + kernels::kDistanceThreads - 1) / kernels::kDistanceThreads;
}

// Enough blocks for every device, with a few elements a thread; not more than one block sums up soon.
int64_t distance_blocks(int64_t count) {
  constexpr int64_t kElements = 4, kMaxBlocks = 1024;
  return std::min((tiles(count) + kElements - 1) / kElements, kMaxBlocks);
}

}  // namespace

int64_t trajectory_distance_workspace(int64_t count) { return 2 * distance_blocks(count); }

template <typename T>
const char* launch_trajectory_distance_fwd(const TrajectoryDistance<T>& problem, double* workspace,
                                           double* sums, T* distance, void* stream) {
  const int64_t blocks = distance_blocks(problem.count);
  simt::launch(kernels::trajectory_distance_fwd_kernel<T>, {blocks, 1, 1},
               {kernels::kDistanceThreads, 1, 1}, 0, stream, problem, workspace);
  simt::launch(kernels::trajectory_distance_total_kernel<T>, {1, 1, 1},
               {kernels::kDistanceThreads, 1, 1}, 0, stream, blocks,
               static_cast<const double*>(workspace), sums, distance);
  return simt::last_error();
}

template <typename T>
const char* launch_trajectory_distance_bwd(const TrajectoryDistance<T>& problem,
                                           const double* sums, const T* grad,
                                           const TrajectoryGradients<T>& gradients, void* stream) {
  simt::launch(kernels::trajectory_distance_bwd_kernel<T>, {tiles(problem.count), 1, 1},
               {kernels::kDistanceThreads, 1, 1}, 0, stream, problem, sums, grad, gradients);
  return simt::last_error();
}

#define NSDBENCH_INSTANTIATE(T)                                                                  \
  template const char* launch_trajectory_distance_fwd<T>(const TrajectoryDistance<T>&, double*,  \
                                                         double*, T*, void*);                    \
  template const char* launch_trajectory_distance_bwd<T>(                                        \
      const TrajectoryDistance<T>&, const double*, const T*, const TrajectoryGradients<T>&, void*);
NSDBENCH_INSTANTIATE(float)
NSDBENCH_INSTANTIATE(double)
#undef NSDBENCH_INSTANTIATE

}  // namespace nsdbench::cuda
