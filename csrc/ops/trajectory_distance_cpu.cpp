// Binds the CPU's trajectory distance: tensors to pointers, nothing else.

#include <tuple>

#include "cpu/trajectory_distance.h"
#include "trajectory_distance_checks.h"

namespace nsdbench::ops::trajectory_distance {
namespace {

std::tuple<Tensor, Tensor> distance(const Tensor& theta, const Tensor& theta_start,
                                    const Tensor& theta_target) {
  const DistanceCall call = check_distance(theta, theta_start, theta_target);
  const Tensor value = torch::stable::new_empty(theta, Shape{});
  const Tensor sums = torch::stable::new_empty(theta, Shape{2}, ScalarType::Double);
  dispatch(theta, [&]<typename T>(T) {
    cpu::trajectory_distance<T>(call.arguments<T>(), sums.mutable_data_ptr<double>(),
                                value.mutable_data_ptr<T>());
  });
  return {value, sums};
}

std::tuple<Tensor, Tensor, Tensor> distance_backward(const Tensor& grad, const Tensor& theta,
                                                     const Tensor& theta_start,
                                                     const Tensor& theta_target,
                                                     const Tensor& sums, int64_t wanted) {
  const GradientCall call =
      check_gradient(grad, theta, theta_start, theta_target, sums, wanted);
  dispatch(theta, [&]<typename T>(T) {
    cpu::trajectory_distance_backward<T>(
        call.problem.arguments<T>(), call.sums.const_data_ptr<double>(),
        call.grad.const_data_ptr<T>(), call.results<T>(wanted));
  });
  return {call.in_theta, call.in_start, call.in_target};
}

}  // namespace
}  // namespace nsdbench::ops::trajectory_distance

STABLE_TORCH_LIBRARY_IMPL(nsdbench, CPU, m) {
  namespace op = nsdbench::ops::trajectory_distance;
  m.impl("trajectory_distance", TORCH_BOX(&op::distance));
  m.impl("trajectory_distance_backward", TORCH_BOX(&op::distance_backward));
}
