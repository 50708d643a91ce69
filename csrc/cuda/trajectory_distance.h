// The trajectory distance on a CUDA device (or, in the tests, on the host): device pointers, sizes
// checked before, the work queued on `stream` (cudaStream_t), nothing allocated.
// Formulas: kernels/trajectory_distance.h. Every function returns nullptr, or what went wrong with the launch.

#pragma once

#include "kernels/trajectory_distance.h"

namespace nsdbench::cuda {

// Number of doubles that launch_trajectory_distance_fwd needs as workspace; depends on P alone.
int64_t trajectory_distance_workspace(int64_t count);

// sums: [2], |u|^2 and |w|^2, for the gradient; distance: one number.
template <typename T>
const char* launch_trajectory_distance_fwd(const TrajectoryDistance<T>& problem, double* workspace,
                                           double* sums, T* distance, void* stream);

// grad: one number, the gradient of the distance.
template <typename T>
const char* launch_trajectory_distance_bwd(const TrajectoryDistance<T>& problem,
                                           const double* sums, const T* grad,
                                           const TrajectoryGradients<T>& gradients, void* stream);

}  // namespace nsdbench::cuda
