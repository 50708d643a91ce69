// The module of the CUDA kernels and launchers compiled for the host, for the tests: numpy arrays in and out; with
// small programs that show what the host run of a kernel finds.

#include <pybind11/stl.h>

#include <array>
#include <string>

#include "kernels/simt.h"
#include "simt_module.h"
#include "simt_programs.h"

namespace py = pybind11;
namespace programs = nsdbench::simt_programs;
using nsdbench::tests::Array;

namespace {

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

}  // namespace

PYBIND11_MODULE(_simt, m) {
  m.doc() = "CUDA kernels run on the host, one fibre per thread; for the tests.";
  m.def("set_order", &set_order, py::arg("order"), py::arg("seed") = 0);
  nsdbench::tests::define_reconstruct(m);
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
