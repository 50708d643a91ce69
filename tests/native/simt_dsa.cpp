// The CUDA kernels of dsa compiled for the host, for the tests: numpy arrays in and out.

#include <string>
#include <vector>

#include "cuda/dsa.cu"  // NOLINT: the very source that nvcc compiles
#include "simt_module.h"

namespace py = pybind11;

namespace nsdbench::tests {
namespace {

template <typename T>
Array<T> run(const Array<T>& images, int operation, const Array<double>& parameters,
             bool align_corners, bool is_linear, bool is_transposed) {
  const DsaProblem problem{static_cast<Dsa>(operation), images.shape(0), images.shape(1),
                           images.shape(2), images.shape(3), parameters.shape(0) == 1,
                           align_corners, is_linear};
  Array<T> out(std::vector<py::ssize_t>(images.shape(), images.shape() + images.ndim()));
  if (images.size() == 0) return out;
  const auto launch = is_transposed ? cuda::launch_dsa_bwd<T> : cuda::launch_dsa_fwd<T>;
  launch(problem, parameters.data(), images.data(), out.mutable_data(), nullptr);
  return out;
}

template <typename T>
void define(py::module_& m, const std::string& suffix) {
  m.def(("dsa_" + suffix).c_str(), &run<T>, py::arg("images").noconvert(), py::arg("operation"),
        py::arg("parameters").noconvert(), py::arg("align_corners"), py::arg("is_linear"),
        py::arg("is_transposed"));
}

}  // namespace

void define_dsa(py::module_& m) {
  define<float>(m, "float32");
  define<double>(m, "float64");
}

}  // namespace nsdbench::tests
