// The CUDA kernels of reconstruct compiled for the host, for the tests: numpy arrays in and out.

#include <pybind11/stl.h>

#include <array>
#include <optional>
#include <string>
#include <vector>

#include "cuda/reconstruct.cu"  // NOLINT: the very source that nvcc compiles
#include "simt_module.h"

namespace py = pybind11;

namespace nsdbench::tests {
namespace {

template <typename T>
using Kernels = std::array<std::optional<Array<T>>, kModes>;
using Index = std::optional<Array<int64_t>>;

template <typename T>
cuda::Call<T> make_call(const Array<T>& spectra, const Kernels<T>& kernels,
                                  const Index& index, std::vector<T>& workspace,
                                  bool is_backward) {
  cuda::Call<T> call{};
  call.problem.num_spectra = spectra.shape(0);
  call.problem.num_kernel_sets = 1;
  for (int n = 0; n < kModes; ++n) {
    call.problem.t[n] = call.problem.u[n] = spectra.shape(n + 1);
    if (!kernels[n]) continue;
    call.problem.has_kernel[n] = true;
    call.problem.u[n] = kernels[n]->shape(2);
    call.problem.num_kernel_sets = kernels[n]->shape(0);
    call.kernels[n] = kernels[n]->data();
  }
  call.spectra = spectra.data();
  call.index = index ? index->data() : nullptr;
  call.count = index ? index->shape(0) : call.problem.images();
  workspace.resize(static_cast<size_t>(cuda::workspace_elements(
      call.problem, index.has_value(), call.count, is_backward)));
  call.workspace = workspace.data();
  return call;
}

template <typename T>
Array<T> reconstruct(const Array<T>& spectra, const Kernels<T>& kernels, const Index& index) {
  std::vector<T> workspace;
  const auto call = make_call<T>(spectra, kernels, index, workspace, false);
  Array<T> images({call.count, call.problem.u[1], call.problem.u[2], call.problem.u[3]});
  cuda::launch_reconstruct_fwd<T>(call, images.mutable_data());
  return images;
}

template <typename T>
std::vector<Array<T>> reconstruct_backward(const Array<T>& grad_images, const Array<T>& spectra,
                                           const Kernels<T>& kernels, const Index& index,
                                           int wanted) {
  std::vector<T> workspace;
  const auto call = make_call<T>(spectra, kernels, index, workspace, true);
  cuda::Gradients<T> gradients{};
  std::vector<Array<T>> arrays;
  for (int n = 0; n <= kModes; ++n) {
    std::vector<py::ssize_t> shape{0};
    const bool is_wanted = (wanted >> n & 1) != 0;
    const Array<T>* operand = n == 0 ? &spectra : kernels[n - 1] ? &*kernels[n - 1] : nullptr;
    if (is_wanted && operand != nullptr) {
      shape.assign(operand->shape(), operand->shape() + operand->ndim());
    }
    arrays.emplace_back(shape);
    if (!is_wanted) continue;
    (n == 0 ? gradients.spectra : gradients.kernels[n - 1]) = arrays.back().mutable_data();
  }
  cuda::launch_reconstruct_bwd<T>(call, grad_images.data(), gradients);
  return arrays;
}

template <typename T>
void define(py::module_& m, const std::string& suffix) {
  m.def(("reconstruct_" + suffix).c_str(), &reconstruct<T>, py::arg("spectra").noconvert(),
        py::arg("kernels"), py::arg("index"));
  m.def(("reconstruct_backward_" + suffix).c_str(), &reconstruct_backward<T>,
        py::arg("grad_images").noconvert(), py::arg("spectra").noconvert(), py::arg("kernels"),
        py::arg("index"), py::arg("wanted"));
}

}  // namespace

void define_reconstruct(py::module_& m) {
  define<float>(m, "float32");
  define<double>(m, "float64");
}

}  // namespace nsdbench::tests
