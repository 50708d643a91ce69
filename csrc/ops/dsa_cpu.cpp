// Binds dsa's CPU implementation: tensors to pointers, nothing else.

#include <cmath>

#include "cpu/dsa.h"
#include "dsa_checks.h"

namespace nsdbench::ops::dsa {
namespace {

// On a device the host would have to wait to see them; here looking costs nothing.
void check_finite(const Call& call) {
  const double* values = call.parameters.const_data_ptr<double>();
  const int64_t columns = call.parameters.size(1);
  for (int64_t n = 0; n < call.parameters.size(0) * columns; ++n) {
    if (!std::isfinite(values[n])) {
      refuse("parameters: expected finite numbers, got ", values[n], " for image ", n / columns);
    }
  }
}

template <bool kTransposed>
Tensor run(const Call& call) {
  check_finite(call);
  const DsaProblem& problem = call.problem;
  Tensor out = torch::stable::empty_like(call.images);
  if (problem.images * problem.image_size() == 0) return out;
  const double* parameters = call.parameters.const_data_ptr<double>();
  dispatch(call.images, [&]<typename T>(T) {
    const auto run_it = kTransposed ? cpu::dsa_backward<T> : cpu::dsa<T>;
    run_it(problem, parameters, call.images.const_data_ptr<T>(), out.mutable_data_ptr<T>());
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

STABLE_TORCH_LIBRARY_IMPL(nsdbench, CPU, m) {
  m.impl("dsa", TORCH_BOX(&nsdbench::ops::dsa::forward));
  m.impl("dsa_backward", TORCH_BOX(&nsdbench::ops::dsa::backward));
}
