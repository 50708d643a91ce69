// How far a student is from where an expert went: formulas and arguments that the CPU code and the CUDA
// kernels share.
//
//   distance   d = |u|^2 / |w|^2      with u = theta - theta_target, w = theta_start - theta_target
//   gradient   of grad * d:  in theta 2 grad u / |w|^2,  in theta_start -2 grad |u|^2 w / |w|^4,
//              in theta_target minus the sum of both

#pragma once

#include <cstdint>

namespace nsdbench {

template <typename T>
struct TrajectoryDistance {
  int64_t count;          // P
  const T* theta;         // [P]
  const T* theta_start;   // [P]
  const T* theta_target;  // [P]
};

// nullptr where a gradient is not wanted.
template <typename T>
struct TrajectoryGradients {
  T* theta;         // [P]
  T* theta_start;   // [P]
  T* theta_target;  // [P]
};

}  // namespace nsdbench
