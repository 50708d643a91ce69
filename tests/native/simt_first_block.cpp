// The CUDA kernels of the first block compiled for the host, for the tests: numpy arrays in and out, with
// the arguments of the operators in the order of their schemas.

#include <limits>
#include <string>
#include <tuple>
#include <vector>

#include "cuda/first_block.cu"  // NOLINT: the very source that nvcc compiles
#include "simt_module.h"

namespace py = pybind11;

namespace nsdbench::tests {
namespace {

// Operands of every pass, and a workspace that is not a number until it is written.
template <typename T>
struct Call {
  cuda::FirstBlockCall<T> call;
  std::vector<T> workspace;

  Call(const Array<T>& x, const Array<T>& weight, const Array<T>& gamma, const Array<T>& beta,
       int64_t padding)
      : call{{x.shape(0), x.shape(1), x.shape(2), x.shape(3), padding, weight.shape(0)},
             x.data(),
             {weight.data(), gamma.data(), beta.data()},
             nullptr} {}

  const FirstBlockSizes& sizes() const { return call.sizes; }
  const cuda::FirstBlockCall<T>& with(int64_t elements) {
    workspace.assign(static_cast<size_t>(elements), std::numeric_limits<T>::quiet_NaN());
    call.workspace = workspace.data();
    return call;
  }
  Array<T> pooled() const {
    return Array<T>({sizes().images, sizes().map_height() / 2, sizes().map_width() / 2,
                     sizes().channels});
  }
  Array<T> moments() const { return Array<T>({int64_t{2}, sizes().images, sizes().channels}); }
  Array<T> like_weight(bool is_wanted = true) const {
    if (!is_wanted) return Array<T>(0);
    return Array<T>({sizes().channels, sizes().in_channels, int64_t{3}, int64_t{3}});
  }
  Array<T> like_x(bool is_wanted) const {
    if (!is_wanted) return Array<T>(0);
    return Array<T>({sizes().images, sizes().in_channels, sizes().height, sizes().width});
  }
};

template <typename T>
std::tuple<Array<T>, Array<T>> forward(const Array<T>& x, const Array<T>& weight,
                                       const Array<T>& gamma, const Array<T>& beta,
                                       int64_t padding, double eps) {
  Call<T> call(x, weight, gamma, beta, padding);
  Array<T> out = call.pooled(), moments = call.moments();
  check(cuda::launch_first_block_fwd<T>(call.with(cuda::first_block_workspace(call.sizes())), eps,
                                        out.mutable_data(), moments.mutable_data(), nullptr));
  return {out, moments};
}

template <typename T>
std::tuple<Array<T>, Array<T>> forward_jvp(const Array<T>& x, const Array<T>& weight,
                                           const Array<T>& gamma, const Array<T>& beta,
                                           int64_t padding, const Array<T>& moments,
                                           const Array<T>& weight_t, const Array<T>& gamma_t,
                                           const Array<T>& beta_t) {
  Call<T> call(x, weight, gamma, beta, padding);
  Array<T> out_t = call.pooled(), moments_t = call.moments();
  check(cuda::launch_first_block_jvp<T>(call.with(cuda::first_block_workspace(call.sizes())),
                                        moments.data(),
                                        {weight_t.data(), gamma_t.data(), beta_t.data()},
                                        out_t.mutable_data(), moments_t.mutable_data(), nullptr));
  return {out_t, moments_t};
}

template <typename T>
std::tuple<Array<T>, Array<T>, Array<T>> backward(const Array<T>& grad, const Array<T>& x,
                                                  const Array<T>& weight, const Array<T>& gamma,
                                                  const Array<T>& beta, int64_t padding,
                                                  const Array<T>& moments) {
  Call<T> call(x, weight, gamma, beta, padding);
  Array<T> of_weight = call.like_weight(), of_gamma(gamma.size()), of_beta(beta.size());
  check(cuda::launch_first_block_bwd<T>(
      call.with(cuda::first_block_bwd_workspace(call.sizes())), moments.data(), grad.data(),
      {of_weight.mutable_data(), of_gamma.mutable_data(), of_beta.mutable_data()}, nullptr));
  return {of_weight, of_gamma, of_beta};
}

template <typename T>
std::tuple<Array<T>, Array<T>, Array<T>, Array<T>> backward_jvp(
    const Array<T>& grad, const Array<T>& x, const Array<T>& weight, const Array<T>& gamma,
    const Array<T>& beta, int64_t padding, const Array<T>& moments, const Array<T>& grad_t,
    const Array<T>& weight_t, const Array<T>& gamma_t, const Array<T>& beta_t,
    const Array<T>& moments_t, bool needs_weight, bool needs_x) {
  Call<T> call(x, weight, gamma, beta, padding);
  Array<T> of_x = call.like_x(needs_x), of_weight = call.like_weight(needs_weight);
  Array<T> of_gamma(gamma.size()), of_beta(beta.size());
  check(cuda::launch_first_block_bwd_jvp<T>(
      call.with(cuda::first_block_bwd_jvp_workspace(call.sizes(), needs_x)), moments.data(),
      grad.data(), moments_t.data(), {weight_t.data(), gamma_t.data(), beta_t.data()},
      grad_t.data(),
      {needs_weight ? of_weight.mutable_data() : nullptr, of_gamma.mutable_data(),
       of_beta.mutable_data()},
      needs_x ? of_x.mutable_data() : nullptr, nullptr));
  return {of_x, of_weight, of_gamma, of_beta};
}

template <typename T>
void define(py::module_& m, const std::string& suffix) {
  const std::string name = "first_block";
  m.def((name + suffix).c_str(), &forward<T>);
  m.def((name + "_jvp" + suffix).c_str(), &forward_jvp<T>);
  m.def((name + "_backward" + suffix).c_str(), &backward<T>);
  m.def((name + "_backward_jvp" + suffix).c_str(), &backward_jvp<T>);
}

}  // namespace

void define_first_block(py::module_& m) {
  define<float>(m, "_float32");
  define<double>(m, "_float64");
}

}  // namespace nsdbench::tests
