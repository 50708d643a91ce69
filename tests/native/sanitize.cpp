// A program for the sanitizers: the CUDA kernels on the host in all thread orders, the CPU code beside
// them, over shapes that touch every edge. Any disagreement, like any sanitizer report, fails it.
// With the argument "overflow" it commits a fault that the address sanitizer must report.

#include <cstdio>
#include <cstring>
#include <stdexcept>
#include <vector>

#include "kernels/simt.h"
#include "sanitize.h"
#include "simt_programs.h"

namespace {

namespace programs = nsdbench::simt_programs;

// A fault must be reported as an exception, from a fibre as from the scheduler.
void require_fault() {
  try {
    simt::launch(programs::divergent_barrier_kernel, {1}, {programs::kThreads}, 0, nullptr);
  } catch (const std::logic_error&) {
    return;
  }
  throw std::runtime_error("a divergent barrier passed");
}

void run_programs() {
  std::vector<double> in(programs::kThreads, 1), out(programs::kThreads);
  std::vector<int> neighbours(programs::kThreads);
  simt::launch(programs::reverse_kernel<true>, {1}, {programs::kThreads}, 0, nullptr, in.data(),
               out.data());
  simt::launch(programs::prefix_sum_kernel<true>, {1}, {programs::kThreads},
               programs::kThreads * sizeof(double), nullptr, in.data(), out.data());
  simt::launch(programs::shuffle_kernel, {1}, {programs::kThreads}, 0, nullptr, in.data(),
               out.data(), neighbours.data());
  require_fault();
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 1 && std::strcmp(argv[1], "overflow") == 0) {
    double out[programs::kThreads];
    simt::launch(programs::overflow_kernel, {1}, {programs::kThreads}, 0, nullptr,
                 static_cast<double*>(out));
    return 0;
  }
  using simt::host::Order;
  try {
    for (const Order order : {Order::kNatural, Order::kReversed, Order::kShuffled}) {
      simt::host::settings() = {order, 3};
      run_programs();
      nsdbench::tests::sanitize_reconstruct();
      nsdbench::tests::sanitize_dsa();
      nsdbench::tests::sanitize_inorm_relu_pool();
      nsdbench::tests::sanitize_inorm_relu_pool_nhwc();
      nsdbench::tests::sanitize_first_block();
    }
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  std::puts("sanitize: passed");
  return 0;
}
