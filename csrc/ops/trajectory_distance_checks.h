// What the trajectory distance requires of its tensors, for every device. Messages arrive in Python as
// ValueError.

#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include "kernels/trajectory_distance.h"
#include "text.h"

namespace nsdbench::ops::trajectory_distance {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

inline constexpr Refusal refuse{"trajectory_distance"};

inline void check_theta(const Tensor& theta) {
  if (theta.dim() != 1) {
    refuse("theta: expected 1 dimension [P], got ", shape_of(theta));
  }
  if (theta.scalar_type() != ScalarType::Float && theta.scalar_type() != ScalarType::Double) {
    refuse("theta: expected dtype float32 or float64, got another");
  }
}

// A tensor of the given shape and dtype on the device of theta; returned contiguous.
inline Tensor check(const char* name, const Tensor& tensor, const Shape& expected,
                    ScalarType dtype, const Tensor& theta) {
  if (shape_of(tensor) != expected) {
    refuse(name, ": expected shape ", expected, ", got ", shape_of(tensor));
  }
  if (tensor.scalar_type() != dtype) {
    refuse(name, ": expected dtype ", dtype == ScalarType::Double ? "float64" : "float32",
           ", got another");
  }
  if (!(tensor.device() == theta.device())) {
    refuse(name, ": expected the device of theta, got another");
  }
  return torch::stable::contiguous(tensor);
}

struct DistanceCall {
  Tensor theta, theta_start, theta_target;  // [P] contiguous

  template <typename T>
  TrajectoryDistance<T> arguments() const {
    return {theta.size(0), theta.const_data_ptr<T>(), theta_start.const_data_ptr<T>(),
            theta_target.const_data_ptr<T>()};
  }
};

inline DistanceCall check_distance(const Tensor& theta, const Tensor& theta_start,
                                   const Tensor& theta_target) {
  check_theta(theta);
  const Shape shape = shape_of(theta);
  const ScalarType dtype = theta.scalar_type();
  return {torch::stable::contiguous(theta),
          check("theta_start", theta_start, shape, dtype, theta),
          check("theta_target", theta_target, shape, dtype, theta)};
}

// The operands of a gradient, and its results: not yet written, [0] where not in `wanted`.
struct GradientCall {
  DistanceCall problem;
  Tensor grad, sums;
  Tensor in_theta, in_start, in_target;

  template <typename T>
  TrajectoryGradients<T> results(int64_t wanted) const {
    return {(wanted & 1) != 0 ? in_theta.mutable_data_ptr<T>() : nullptr,
            (wanted & 2) != 0 ? in_start.mutable_data_ptr<T>() : nullptr,
            (wanted & 4) != 0 ? in_target.mutable_data_ptr<T>() : nullptr};
  }
};

inline GradientCall check_gradient(const Tensor& grad, const Tensor& theta,
                                   const Tensor& theta_start, const Tensor& theta_target,
                                   const Tensor& sums, int64_t wanted) {
  const DistanceCall problem = check_distance(theta, theta_start, theta_target);
  if (wanted < 0 || wanted > 7) refuse("wanted: expected 0 to 7, got ", wanted);
  const auto allocate = [&](int64_t bit) {
    return torch::stable::new_empty(theta, (wanted & bit) != 0 ? shape_of(theta) : Shape{0});
  };
  return {problem,
          check("grad", grad, {}, theta.scalar_type(), theta),
          check("sums", sums, {2}, ScalarType::Double, theta),
          allocate(1),
          allocate(2),
          allocate(4)};
}

template <typename Body>
void dispatch(const Tensor& theta, const Body& body) {
  theta.scalar_type() == ScalarType::Float ? body(float{}) : body(double{});
}

}  // namespace nsdbench::ops::trajectory_distance
