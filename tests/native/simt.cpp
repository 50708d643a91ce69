// The CUDA kernels and launchers compiled for the host, for the tests: numpy arrays in and out.

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <optional>
#include <string>
#include <vector>

#include "cuda/reconstruct.cu"  // NOLINT: the very source that nvcc compiles
#include "simt_dsa.h"
#include "simt_first_block.h"
#include "simt_inorm_relu_pool.h"
#include "simt_programs.h"

namespace py = pybind11;
namespace programs = nsdbench::simt_programs;
using nsdbench::kModes;

namespace {

template <typename T>
using Array = py::array_t<T, py::array::c_style>;
template <typename T>
using Kernels = std::array<std::optional<Array<T>>, kModes>;
using Index = std::optional<Array<int64_t>>;

void set_order(const std::string& order, uint32_t seed) {
  using simt::host::Order;
  if (order != "natural" && order != "reversed" && order != "shuffled") {
    throw std::invalid_argument("order: expected natural, reversed or shuffled, got " + order);
  }
  simt::host::settings() = {order == "natural"    ? Order::kNatural
                            : order == "reversed" ? Order::kReversed
                                                  : Order::kShuffled,
                            seed};
}

template <typename T>
nsdbench::cuda::Call<T> make_call(const Array<T>& spectra, const Kernels<T>& kernels,
                                  const Index& index, std::vector<T>& workspace,
                                  bool is_backward) {
  nsdbench::cuda::Call<T> call{};
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
  workspace.resize(static_cast<size_t>(nsdbench::cuda::workspace_elements(
      call.problem, index.has_value(), call.count, is_backward)));
  call.workspace = workspace.data();
  return call;
}

template <typename T>
Array<T> reconstruct(const Array<T>& spectra, const Kernels<T>& kernels, const Index& index) {
  std::vector<T> workspace;
  const auto call = make_call<T>(spectra, kernels, index, workspace, false);
  Array<T> images({call.count, call.problem.u[1], call.problem.u[2], call.problem.u[3]});
  nsdbench::cuda::launch_reconstruct_fwd<T>(call, images.mutable_data());
  return images;
}

template <typename T>
std::vector<Array<T>> reconstruct_backward(const Array<T>& grad_images, const Array<T>& spectra,
                                           const Kernels<T>& kernels, const Index& index,
                                           int wanted) {
  std::vector<T> workspace;
  const auto call = make_call<T>(spectra, kernels, index, workspace, true);
  nsdbench::cuda::Gradients<T> gradients{};
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
  nsdbench::cuda::launch_reconstruct_bwd<T>(call, grad_images.data(), gradients);
  return arrays;
}

Array<double> reverse(const Array<double>& in, bool has_barrier) {
  Array<double> out(in.size());
  simt::launch(has_barrier ? programs::reverse_kernel<true> : programs::reverse_kernel<false>,
               {in.size() / programs::kThreads}, {programs::kThreads}, 0, nullptr, in.data(),
               out.mutable_data());
  return out;
}

Array<double> shift(const Array<double>& in, bool has_barrier) {
  Array<double> out(in.size());
  simt::launch(has_barrier ? programs::shift_kernel<true> : programs::shift_kernel<false>, {1},
               {programs::kThreads}, 0, nullptr, in.data(), out.mutable_data());
  return out;
}

Array<double> prefix_sum(const Array<double>& in, bool has_barrier) {
  Array<double> out(in.size());
  simt::launch(
      has_barrier ? programs::prefix_sum_kernel<true> : programs::prefix_sum_kernel<false>, {1},
      {programs::kThreads}, programs::kThreads * sizeof(double), nullptr, in.data(),
      out.mutable_data());
  return out;
}

py::tuple shuffles(const Array<double>& in) {
  Array<double> sums(in.size());
  Array<int> neighbours(in.size());
  simt::launch(programs::shuffle_kernel, {1}, {in.size()}, 0, nullptr, in.data(),
               sums.mutable_data(), neighbours.mutable_data());
  return py::make_tuple(sums, neighbours);
}

Array<int> indices(simt::Extent grid, simt::Extent block) {
  Array<int> out(grid.x * grid.y * grid.z * block.x * block.y * block.z);
  std::fill_n(out.mutable_data(), out.size(), 0);
  simt::launch(programs::indices_kernel, grid, block, 0, nullptr, out.mutable_data());
  return out;
}

void run_faulty(const std::string& name) {
  double out[programs::kThreads];
  const simt::Extent one{}, block{programs::kThreads};
  if (name == "divergent_barrier") {
    simt::launch(programs::divergent_barrier_kernel, one, block, 0, nullptr);
  } else if (name == "two_barriers") {
    simt::launch(programs::two_barriers_kernel, one, block, 0, nullptr);
  } else if (name == "divergent_shuffle") {
    simt::launch(programs::divergent_shuffle_kernel, one, block, 0, nullptr,
                 static_cast<double*>(out));
  } else {
    throw std::invalid_argument("no such program: " + name);
  }
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

PYBIND11_MODULE(_simt, m) {
  m.doc() = "CUDA kernels run on the host, one fibre per thread; for the tests.";
  m.def("set_order", &set_order, py::arg("order"), py::arg("seed") = 0);
  define<float>(m, "float32");
  define<double>(m, "float64");
  nsdbench::tests::define_dsa(m);
  nsdbench::tests::define_inorm_relu_pool(m);
  nsdbench::tests::define_first_block(m);
  m.def("reverse", &reverse, py::arg("values"), py::arg("has_barrier"));
  m.def("shift", &shift, py::arg("values"), py::arg("has_barrier"));
  m.def("prefix_sum", &prefix_sum, py::arg("values"), py::arg("has_barrier"));
  m.def("shuffles", &shuffles, py::arg("values"));
  m.def("indices", [](std::array<int64_t, 3> grid, std::array<int64_t, 3> block) {
    return indices({grid[0], grid[1], grid[2]}, {block[0], block[1], block[2]});
  });
  m.def("run_faulty", &run_faulty, py::arg("name"));
}
