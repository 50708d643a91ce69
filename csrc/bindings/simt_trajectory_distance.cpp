// The CUDA kernels of trajectory_distance compiled for the host, for the tests: numpy arrays in and out.

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <string>
#include <vector>

#include "cuda/trajectory_distance.cu"  // NOLINT: the very source that nvcc compiles
#include "simt_trajectory_distance.h"

namespace py = pybind11;

namespace nsdbench::bindings {
namespace {

template <typename T>
using Array = py::array_t<T, py::array::c_style>;

template <typename T>
TrajectoryDistance<T> problem_of(const Array<T>& theta, const Array<T>& theta_start,
                                 const Array<T>& theta_target) {
  return {theta.size(), theta.data(), theta_start.data(), theta_target.data()};
}

template <typename T>
py::tuple distance(const Array<T>& theta, const Array<T>& theta_start,
                   const Array<T>& theta_target) {
  Array<T> value(std::vector<py::ssize_t>{});
  Array<double> sums(2);
  std::vector<double> workspace(
      static_cast<size_t>(cuda::trajectory_distance_workspace(theta.size())));
  cuda::launch_trajectory_distance_fwd<T>(problem_of(theta, theta_start, theta_target),
                                          workspace.data(), sums.mutable_data(),
                                          value.mutable_data(), nullptr);
  return py::make_tuple(value, sums);
}

template <typename T>
py::tuple distance_backward(const Array<T>& grad, const Array<T>& theta,
                            const Array<T>& theta_start, const Array<T>& theta_target,
                            const Array<double>& sums, int wanted) {
  Array<T> results[3];
  T* pointers[3] = {};
  for (int n = 0; n < 3; ++n) {
    const bool is_wanted = (wanted >> n & 1) != 0;
    results[n] = Array<T>(is_wanted ? theta.size() : 0);
    if (is_wanted) pointers[n] = results[n].mutable_data();
  }
  cuda::launch_trajectory_distance_bwd<T>(problem_of(theta, theta_start, theta_target),
                                          sums.data(), grad.data(),
                                          {pointers[0], pointers[1], pointers[2]}, nullptr);
  return py::make_tuple(results[0], results[1], results[2]);
}

template <typename T>
void define(py::module_& m, const std::string& suffix) {
  m.def(("trajectory_distance_" + suffix).c_str(), &distance<T>, py::arg("theta").noconvert(),
        py::arg("theta_start").noconvert(), py::arg("theta_target").noconvert());
  m.def(("trajectory_distance_backward_" + suffix).c_str(), &distance_backward<T>,
        py::arg("grad").noconvert(), py::arg("theta").noconvert(),
        py::arg("theta_start").noconvert(), py::arg("theta_target").noconvert(),
        py::arg("sums").noconvert(), py::arg("wanted"));
}

}  // namespace

void define_trajectory_distance(py::module_& m) {
  define<float>(m, "float32");
  define<double>(m, "float64");
}

}  // namespace nsdbench::bindings
