// Binds the CUDA launchers of the trajectory distance. Needs neither a CUDA header nor a CUDA build of
// torch.

#include <tuple>

#include "cuda/trajectory_distance.h"
#include "cuda_stream.h"
#include "trajectory_distance_checks.h"

namespace nsdbench::ops::trajectory_distance {
namespace {

using torch::stable::accelerator::DeviceGuard;

void check_launch(const char* error) {
  if (error != nullptr) {
    throw std::runtime_error(std::string("trajectory_distance: CUDA: ") + error);
  }
}

std::tuple<Tensor, Tensor> distance(const Tensor& theta, const Tensor& theta_start,
                                    const Tensor& theta_target) {
  const DistanceCall call = check_distance(theta, theta_start, theta_target);
  const DeviceGuard guard(theta.get_device_index());
  const Tensor value = torch::stable::new_empty(theta, Shape{});
  const Tensor sums = torch::stable::new_empty(theta, Shape{2}, ScalarType::Double);
  const Tensor workspace = torch::stable::new_empty(
      theta, Shape{cuda::trajectory_distance_workspace(theta.size(0))}, ScalarType::Double);
  dispatch(theta, [&](auto zero) {
    using T = decltype(zero);
    check_launch(cuda::launch_trajectory_distance_fwd<T>(
        call.arguments<T>(), workspace.mutable_data_ptr<double>(),
        sums.mutable_data_ptr<double>(), value.mutable_data_ptr<T>(),
        current_stream(theta.get_device_index())));
  });
  return {value, sums};
}

std::tuple<Tensor, Tensor, Tensor> distance_backward(const Tensor& grad, const Tensor& theta,
                                                     const Tensor& theta_start,
                                                     const Tensor& theta_target,
                                                     const Tensor& sums, int64_t wanted) {
  const GradientCall call =
      check_gradient(grad, theta, theta_start, theta_target, sums, wanted);
  const DeviceGuard guard(theta.get_device_index());
  dispatch(theta, [&](auto zero) {
    using T = decltype(zero);
    check_launch(cuda::launch_trajectory_distance_bwd<T>(
        call.problem.arguments<T>(), call.sums.const_data_ptr<double>(),
        call.grad.const_data_ptr<T>(), call.results<T>(wanted),
        current_stream(theta.get_device_index())));
  });
  return {call.in_theta, call.in_start, call.in_target};
}

}  // namespace
}  // namespace nsdbench::ops::trajectory_distance

STABLE_TORCH_LIBRARY_IMPL(nsdbench, CUDA, m) {
  namespace op = nsdbench::ops::trajectory_distance;
  m.impl("trajectory_distance", TORCH_BOX(&op::distance));
  m.impl("trajectory_distance_backward", TORCH_BOX(&op::distance_backward));
}
