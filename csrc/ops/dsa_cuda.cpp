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
  const auto apply = [&](auto zero) {
    using T = decltype(zero);
    const T* in = call.images.const_data_ptr<T>();
    T* target = out.mutable_data_ptr<T>();
    void* stream = current_stream(device);
    const char* error = kTransposed
                            ? cuda::launch_dsa_bwd<T>(problem, parameters, in, target, stream)
                            : cuda::launch_dsa_fwd<T>(problem, parameters, in, target, stream);
    if (error != nullptr) throw std::runtime_error(std::string("dsa: CUDA: ") + error);
  };
  call.images.scalar_type() == ScalarType::Float ? apply(float{}) : apply(double{});
  return out;
}

Tensor forward(const Tensor& images, int64_t operation, const Tensor& parameters,
               bool align_corners, bool is_linear) {
  return run<false>(check("images", images, operation, parameters, align_corners, is_linear));
}

Tensor backward(const Tensor& grad, int64_t operation, const Tensor& parameters,
                bool align_corners) {
  return run<true>(check("grad", grad, operation, parameters, align_corners, true));
}

}  // namespace
}  // namespace nsdbench::ops::dsa

STABLE_TORCH_LIBRARY_IMPL(nsdbench, CUDA, m) {
  m.impl("dsa", TORCH_BOX(&nsdbench::ops::dsa::forward));
  m.impl("dsa_backward", TORCH_BOX(&nsdbench::ops::dsa::backward));
}
