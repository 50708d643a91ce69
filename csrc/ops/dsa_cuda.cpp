// Binds dsa's CUDA launchers. Needs neither a CUDA header nor a CUDA build of torch.

#include "cuda/dsa.h"
#include "cuda_stream.h"
#include "dsa_checks.h"

namespace nsdbench::ops::dsa {
namespace {

template <bool kTransposed>
Tensor run(const Call& call) {
  const DsaProblem& problem = call.problem;
  const int32_t device = call.images.get_device_index();
  const torch::stable::accelerator::DeviceGuard guard(device);
  Tensor out = torch::stable::empty_like(call.images);
  if (problem.images * problem.image_size() == 0) return out;
  const double* parameters = call.parameters.const_data_ptr<double>();
  dispatch(call.images, [&]<typename T>(T) {
    const auto launch = kTransposed ? cuda::launch_dsa_bwd<T> : cuda::launch_dsa_fwd<T>;
    check_launch(refuse, launch(problem, parameters, call.images.const_data_ptr<T>(),
                                out.mutable_data_ptr<T>(), current_stream(device)));
  });
  return out;
}

Tensor forward(const Tensor& images, int64_t operation, const Tensor& parameters,
               bool align_corners, bool is_linear) {
  return run<false>(check_call("images", images, operation, parameters, align_corners, is_linear));
}

Tensor backward(const Tensor& grad, int64_t operation, const Tensor& parameters,
                bool align_corners) {
  return run<true>(check_call("grad", grad, operation, parameters, align_corners, true));
}

}  // namespace
}  // namespace nsdbench::ops::dsa

STABLE_TORCH_LIBRARY_IMPL(nsdbench, CUDA, m) {
  m.impl("dsa", TORCH_BOX(&nsdbench::ops::dsa::forward));
  m.impl("dsa_backward", TORCH_BOX(&nsdbench::ops::dsa::backward));
}
