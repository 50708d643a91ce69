// The trajectory distance on the CPU: raw pointers, sizes checked before. Formulas:
// kernels/trajectory_distance.h. Equal bits at every number of threads and on every instruction set.

#pragma once

#include "kernels/trajectory_distance.h"

namespace nsdbench::cpu {

// sums: [2], |u|^2 and |w|^2, summed in double, for the gradient; distance: one number.
template <typename T>
void trajectory_distance(const TrajectoryDistance<T>& problem, double* sums, T* distance);

// grad: one number, the gradient of the distance.
template <typename T>
void trajectory_distance_backward(const TrajectoryDistance<T>& problem, const double* sums,
                                  const T* grad, const TrajectoryGradients<T>& gradients);

}  // namespace nsdbench::cpu
