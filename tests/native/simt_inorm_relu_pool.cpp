// The CUDA kernels of inorm_relu_pool compiled for the host, for the tests: numpy arrays in and out, with
// the arguments of the operators in the order of their schemas.

#include <pybind11/stl.h>

#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "cuda/inorm_relu_pool.cu"       // NOLINT: the very source that nvcc compiles
#include "cuda/inorm_relu_pool_nhwc.cu"  // NOLINT
#include "norm_layouts.h"
#include "simt_module.h"

namespace py = pybind11;

namespace nsdbench::tests {
namespace {

template <typename T>
using MaybeArray = std::optional<Array<T>>;
template <typename T>
using Three = std::tuple<Array<T>, Array<T>, Array<T>>;

template <typename Layout>
PlaneSizes sizes_of(const py::array& x) {
  constexpr int kChannels = Layout::kHasChannelsInnermost ? 3 : 1;
  constexpr int kHeight = Layout::kHasChannelsInnermost ? 1 : 2;
  return {x.shape(0), x.shape(kChannels), x.shape(kHeight), x.shape(kHeight + 1)};
}

template <typename Layout>
std::vector<int64_t> shape_of(const PlaneSizes& sizes, int64_t height, int64_t width) {
  if (Layout::kHasChannelsInnermost) return {sizes.images, height, width, sizes.channels};
  return {sizes.images, sizes.channels, height, width};
}

template <typename Layout, typename T>
Array<T> pooled(const PlaneSizes& sizes) {
  return Array<T>(shape_of<Layout>(sizes, sizes.height / 2, sizes.width / 2));
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

template <typename Layout, typename T>
Array<T> forward(const Array<T>& x, const Array<T>& weight, const Array<T>& bias, double eps) {
  const PlaneSizes sizes = sizes_of<Layout>(x);
  Array<T> out = pooled<Layout, T>(sizes);
  check(Layout::template forward<T>(sizes, {x.data(), weight.data(), bias.data(), eps},
                                    out.mutable_data(), nullptr));
  return out;
}

template <typename Layout, typename T>
Array<T> forward_jvp(const Array<T>& x, const Array<T>& weight, const Array<T>& bias, double eps,
                     const MaybeArray<T>& x_t, const MaybeArray<T>& weight_t,
                     const MaybeArray<T>& bias_t) {
  const PlaneSizes sizes = sizes_of<Layout>(x);
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
      : arrays(Array<T>(shape), Array<T>(sizes.channels), Array<T>(sizes.channels)),
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
  const PlaneSizes sizes = sizes_of<Layout>(x);
  Gradients<T> result(sizes, shape_of<Layout>(sizes, sizes.height, sizes.width));
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
  const PlaneSizes sizes = sizes_of<Layout>(x);
  Gradients<T> result(sizes, shape_of<Layout>(sizes, sizes.height, sizes.width));
  check(Layout::template backward_jvp<T>(
      sizes, grad.data(), {x.data(), weight.data(), bias.data(), eps}, pointer<T>(grad_t),
      tangent_of(x_t, weight_t, bias_t), result.pointers, result.workspace.data(), nullptr));
  return result.arrays;
}

template <typename Layout, typename T>
void define(py::module_& m, const std::string& suffix) {
  const std::string name = Layout::kName;
  m.def((name + suffix).c_str(), &forward<Layout, T>);
  m.def((name + "_jvp" + suffix).c_str(), &forward_jvp<Layout, T>);
  m.def((name + "_backward" + suffix).c_str(), &backward<Layout, T>);
  m.def((name + "_backward_jvp" + suffix).c_str(), &backward_jvp<Layout, T>);
}

}  // namespace

void define_inorm_relu_pool(py::module_& m) {
  define<Nchw, float>(m, "_float32");
  define<Nchw, double>(m, "_float64");
  define<Nhwc, float>(m, "_float32");
  define<Nhwc, double>(m, "_float64");
}

}  // namespace nsdbench::tests
