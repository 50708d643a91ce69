// The CUDA kernels of inorm_relu_pool compiled for the host, for the tests: numpy arrays in and out, with
// the arguments of the operators in the order of their schemas.

#include "simt_inorm_relu_pool.h"

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "cuda/inorm_relu_pool.cu"       // NOLINT: the very source that nvcc compiles
#include "cuda/inorm_relu_pool_nhwc.cu"  // NOLINT

namespace py = pybind11;

namespace nsdbench::tests {
namespace {

template <typename T>
using Array = py::array_t<T, py::array::c_style>;
template <typename T>
using MaybeArray = std::optional<Array<T>>;
template <typename T>
using Three = std::tuple<Array<T>, Array<T>, Array<T>>;

// The launchers, the sizes of a map and the shapes of arrays for one layout.
struct Nchw {
  static PlaneSizes sizes_of(const py::array& x) {
    return {x.shape(0), x.shape(1), x.shape(2), x.shape(3)};
  }
  static std::vector<int64_t> shape(const PlaneSizes& sizes, int64_t height, int64_t width) {
    return {sizes.images, sizes.channels, height, width};
  }
  template <typename T>
  static constexpr auto* forward = &cuda::launch_inorm_relu_pool_fwd<T>;
  template <typename T>
  static constexpr auto* forward_jvp = &cuda::launch_inorm_relu_pool_jvp<T>;
  template <typename T>
  static constexpr auto* backward = &cuda::launch_inorm_relu_pool_bwd<T>;
  template <typename T>
  static constexpr auto* backward_jvp = &cuda::launch_inorm_relu_pool_bwd_jvp<T>;
};

struct Nhwc {
  static PlaneSizes sizes_of(const py::array& x) {
    return {x.shape(0), x.shape(3), x.shape(1), x.shape(2)};
  }
  static std::vector<int64_t> shape(const PlaneSizes& sizes, int64_t height, int64_t width) {
    return {sizes.images, height, width, sizes.channels};
  }
  template <typename T>
  static constexpr auto* forward = &cuda::launch_inorm_relu_pool_nhwc_fwd<T>;
  template <typename T>
  static constexpr auto* forward_jvp = &cuda::launch_inorm_relu_pool_nhwc_jvp<T>;
  template <typename T>
  static constexpr auto* backward = &cuda::launch_inorm_relu_pool_nhwc_bwd<T>;
  template <typename T>
  static constexpr auto* backward_jvp = &cuda::launch_inorm_relu_pool_nhwc_bwd_jvp<T>;
};

template <typename Layout, typename T>
Array<T> pooled(const PlaneSizes& sizes) {
  return Array<T>(Layout::shape(sizes, sizes.height / 2, sizes.width / 2));
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

template <typename Layout, typename T>
Array<T> forward(const Array<T>& x, const Array<T>& weight, const Array<T>& bias, double eps) {
  const PlaneSizes sizes = Layout::sizes_of(x);
  Array<T> out = pooled<Layout, T>(sizes);
  check(Layout::template forward<T>(sizes, {x.data(), weight.data(), bias.data(), eps},
                                    out.mutable_data(), nullptr));
  return out;
}

template <typename Layout, typename T>
Array<T> forward_jvp(const Array<T>& x, const Array<T>& weight, const Array<T>& bias, double eps,
                     const MaybeArray<T>& x_t, const MaybeArray<T>& weight_t,
                     const MaybeArray<T>& bias_t) {
  const PlaneSizes sizes = Layout::sizes_of(x);
  Array<T> out_t = pooled<Layout, T>(sizes);
  check(Layout::template forward_jvp<T>(sizes, {x.data(), weight.data(), bias.data(), eps},
                                        tangent_of(x_t, weight_t, bias_t), out_t.mutable_data(),
                                        nullptr));
  return out_t;
}

// Arrays like x, weight and bias, and where their elements are.
template <typename T>
struct Gradients {
  Gradients(const PlaneSizes& sizes, const std::vector<int64_t>& shape)
      : arrays(Array<T>(shape),
               Array<T>(sizes.channels), Array<T>(sizes.channels)),
        pointers{std::get<0>(arrays).mutable_data(), std::get<1>(arrays).mutable_data(),
                 std::get<2>(arrays).mutable_data()},
        workspace(static_cast<size_t>(cuda::norm_workspace_elements(sizes))) {}

  Three<T> arrays;
  NormGradient<T> pointers;
  std::vector<T> workspace;
};

template <typename Layout, typename T>
Three<T> backward(const Array<T>& grad, const Array<T>& x, const Array<T>& weight,
                  const Array<T>& bias, double eps) {
  const PlaneSizes sizes = Layout::sizes_of(x);
  Gradients<T> result(sizes, Layout::shape(sizes, sizes.height, sizes.width));
  check(Layout::template backward<T>(
      sizes, grad.data(), {x.data(), weight.data(), bias.data(), eps}, result.pointers,
      result.workspace.data(), nullptr));
  return result.arrays;
}

template <typename Layout, typename T>
Three<T> backward_jvp(const Array<T>& grad, const Array<T>& x, const Array<T>& weight,
                      const Array<T>& bias, double eps, const MaybeArray<T>& grad_t,
                      const MaybeArray<T>& x_t, const MaybeArray<T>& weight_t,
                      const MaybeArray<T>& bias_t) {
  const PlaneSizes sizes = Layout::sizes_of(x);
  Gradients<T> result(sizes, Layout::shape(sizes, sizes.height, sizes.width));
  check(Layout::template backward_jvp<T>(
      sizes, grad.data(), {x.data(), weight.data(), bias.data(), eps}, pointer<T>(grad_t),
      tangent_of(x_t, weight_t, bias_t), result.pointers, result.workspace.data(), nullptr));
  return result.arrays;
}

template <typename Layout, typename T>
void define(py::module_& m, const std::string& name, const std::string& suffix) {
  m.def((name + suffix).c_str(), &forward<Layout, T>);
  m.def((name + "_jvp" + suffix).c_str(), &forward_jvp<Layout, T>);
  m.def((name + "_backward" + suffix).c_str(), &backward<Layout, T>);
  m.def((name + "_backward_jvp" + suffix).c_str(), &backward_jvp<Layout, T>);
}

}  // namespace

void define_inorm_relu_pool(py::module_& m) {
  define<Nchw, float>(m, "inorm_relu_pool", "_float32");
  define<Nchw, double>(m, "inorm_relu_pool", "_float64");
  define<Nhwc, float>(m, "inorm_relu_pool_nhwc", "_float32");
  define<Nhwc, double>(m, "inorm_relu_pool_nhwc", "_float64");
}

}  // namespace nsdbench::tests
