// The CUDA kernels of inorm_relu_pool compiled for the host, for the tests: numpy arrays in and out, with
// the arguments of the operators in the order of their schemas.

#include "simt_inorm_relu_pool.h"

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "cuda/inorm_relu_pool.cu"  // NOLINT: the very source that nvcc compiles

namespace py = pybind11;

namespace nsdbench::tests {
namespace {

template <typename T>
using Array = py::array_t<T, py::array::c_style>;
template <typename T>
using MaybeArray = std::optional<Array<T>>;
template <typename T>
using Three = std::tuple<Array<T>, Array<T>, Array<T>>;

template <typename T>
PlaneSizes sizes_of(const Array<T>& x) {
  return {x.shape(0), x.shape(1), x.shape(2), x.shape(3)};
}

template <typename T>
Array<T> pooled(const PlaneSizes& sizes) {
  return Array<T>({sizes.images, sizes.channels, sizes.height / 2, sizes.width / 2});
}

template <typename T>
const T* pointer(const MaybeArray<T>& array) {
  return array ? array->data() : nullptr;
}

template <typename T>
NormTangent<T> tangent_of(const MaybeArray<T>& x_t, const MaybeArray<T>& weight_t,
                          const MaybeArray<T>& bias_t) {
  return {pointer<T>(x_t), pointer<T>(weight_t), pointer<T>(bias_t)};
}

void check(const char* error) {
  if (error != nullptr) throw std::runtime_error(error);
}

template <typename T>
Array<T> forward(const Array<T>& x, const Array<T>& weight, const Array<T>& bias, double eps) {
  const PlaneSizes sizes = sizes_of(x);
  Array<T> out = pooled<T>(sizes);
  check(cuda::launch_inorm_relu_pool_fwd<T>(sizes, {x.data(), weight.data(), bias.data(), eps},
                                            out.mutable_data(), nullptr));
  return out;
}

template <typename T>
Array<T> forward_jvp(const Array<T>& x, const Array<T>& weight, const Array<T>& bias, double eps,
                     const MaybeArray<T>& x_t, const MaybeArray<T>& weight_t,
                     const MaybeArray<T>& bias_t) {
  const PlaneSizes sizes = sizes_of(x);
  Array<T> out_t = pooled<T>(sizes);
  check(cuda::launch_inorm_relu_pool_jvp<T>(sizes, {x.data(), weight.data(), bias.data(), eps},
                                            tangent_of(x_t, weight_t, bias_t),
                                            out_t.mutable_data(), nullptr));
  return out_t;
}

// Arrays like x, weight and bias, and where their elements are.
template <typename T>
struct Gradients {
  explicit Gradients(const PlaneSizes& sizes)
      : arrays(Array<T>({sizes.images, sizes.channels, sizes.height, sizes.width}),
               Array<T>(sizes.channels), Array<T>(sizes.channels)),
        pointers{std::get<0>(arrays).mutable_data(), std::get<1>(arrays).mutable_data(),
                 std::get<2>(arrays).mutable_data()},
        workspace(static_cast<size_t>(cuda::norm_workspace_elements(sizes))) {}

  Three<T> arrays;
  NormGradient<T> pointers;
  std::vector<T> workspace;
};

template <typename T>
Three<T> backward(const Array<T>& grad, const Array<T>& x, const Array<T>& weight,
                  const Array<T>& bias, double eps) {
  const PlaneSizes sizes = sizes_of(x);
  Gradients<T> result(sizes);
  check(cuda::launch_inorm_relu_pool_bwd<T>(
      sizes, grad.data(), {x.data(), weight.data(), bias.data(), eps}, result.pointers,
      result.workspace.data(), nullptr));
  return result.arrays;
}

template <typename T>
Three<T> backward_jvp(const Array<T>& grad, const Array<T>& x, const Array<T>& weight,
                      const Array<T>& bias, double eps, const MaybeArray<T>& grad_t,
                      const MaybeArray<T>& x_t, const MaybeArray<T>& weight_t,
                      const MaybeArray<T>& bias_t) {
  const PlaneSizes sizes = sizes_of(x);
  Gradients<T> result(sizes);
  check(cuda::launch_inorm_relu_pool_bwd_jvp<T>(
      sizes, grad.data(), {x.data(), weight.data(), bias.data(), eps}, pointer<T>(grad_t),
      tangent_of(x_t, weight_t, bias_t), result.pointers, result.workspace.data(), nullptr));
  return result.arrays;
}

template <typename T>
void define(py::module_& m, const std::string& suffix) {
  const std::string name = "inorm_relu_pool";
  m.def((name + suffix).c_str(), &forward<T>);
  m.def((name + "_jvp" + suffix).c_str(), &forward_jvp<T>);
  m.def((name + "_backward" + suffix).c_str(), &backward<T>);
  m.def((name + "_backward_jvp" + suffix).c_str(), &backward_jvp<T>);
}

}  // namespace

void define_inorm_relu_pool(py::module_& m) {
  define<float>(m, "_float32");
  define<double>(m, "_float64");
}

}  // namespace nsdbench::tests
