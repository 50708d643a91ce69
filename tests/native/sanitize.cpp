// A program for the sanitizers: the CUDA kernels on the host in all thread orders, the CPU code beside
// them, over shapes that touch every edge. Any disagreement, like any sanitizer report, fails it.
// With the argument "overflow" it commits a fault that the address sanitizer must report.

#include <cmath>
#include <cstdio>
#include <cstring>
#include <random>
#include <stdexcept>
#include <vector>

#include "cpu/reconstruct.h"
#include "cuda/reconstruct.cu"  // NOLINT: the very source that nvcc compiles
#include "sanitize_dsa.h"
#include "sanitize_first_block.h"
#include "sanitize_inorm_relu_pool.h"
#include "sanitize_inorm_relu_pool_nhwc.h"
#include "simt_programs.h"

namespace {

using nsdbench::kModes;
using nsdbench::Problem;
namespace programs = nsdbench::simt_programs;

struct Case {
  Problem problem;
  std::vector<int64_t> index;  // empty: all images
};

std::vector<double> draw(int64_t count, std::mt19937& random) {
  std::normal_distribution<double> normal;
  std::vector<double> values(static_cast<size_t>(count));
  for (double& value : values) value = normal(random);
  return values;
}

void require_equal(const std::vector<double>& ours, const std::vector<double>& other,
                   const char* what) {
  double error = 0, scale = 1e-300;
  for (size_t n = 0; n < ours.size(); ++n) {
    error = std::fmax(error, std::fabs(ours[n] - other[n]));
    scale = std::fmax(scale, std::fabs(other[n]));
  }
  if (!(error <= 1e-12 * scale)) throw std::runtime_error(what);
}

void run(const Case& test) {
  std::mt19937 random(7);
  const Problem& problem = test.problem;
  const int64_t count = test.index.empty() ? problem.images()
                                           : static_cast<int64_t>(test.index.size());
  const int64_t* index = test.index.empty() ? nullptr : test.index.data();
  const auto spectra = draw(problem.num_spectra * problem.spectrum_size(), random);
  const auto grad_images = draw(count * problem.image_size(), random);
  std::vector<double> kernels[kModes], workspace;

  nsdbench::cpu::Operands<double> operands{spectra.data(), {}};
  nsdbench::cuda::Call<double> call{problem, spectra.data(), {}, index, count, nullptr, nullptr};
  for (int n = 0; n < kModes; ++n) {
    if (!problem.has_kernel[n]) continue;
    kernels[n] = draw(problem.num_kernel_sets * problem.kernel_size(n), random);
    operands.kernels[n] = call.kernels[n] = kernels[n].data();
  }
  std::vector<double> images[2], grads[2][kModes + 1];
  nsdbench::cpu::Gradients<double> cpu_gradients{};
  nsdbench::cuda::Gradients<double> cuda_gradients{};
  for (int side = 0; side < 2; ++side) {
    images[side].resize(grad_images.size());
    grads[side][0].resize(spectra.size());
    for (int n = 0; n < kModes; ++n) grads[side][n + 1].resize(kernels[n].size());
  }
  cpu_gradients.spectra = grads[0][0].data();
  cuda_gradients.spectra = grads[1][0].data();
  for (int n = 0; n < kModes; ++n) {
    if (!problem.has_kernel[n]) continue;
    cpu_gradients.kernels[n] = grads[0][n + 1].data();
    cuda_gradients.kernels[n] = grads[1][n + 1].data();
  }

  nsdbench::cpu::reconstruct<double>(problem, operands, {index, count}, images[0].data());
  nsdbench::cpu::reconstruct_backward<double>(problem, operands, {index, count},
                                              grad_images.data(), cpu_gradients);
  workspace.resize(static_cast<size_t>(
      nsdbench::cuda::workspace_elements(problem, index != nullptr, count, true)));
  call.workspace = workspace.data();
  nsdbench::cuda::launch_reconstruct_fwd<double>(call, images[1].data());
  nsdbench::cuda::launch_reconstruct_bwd<double>(call, grad_images.data(), cuda_gradients);

  require_equal(images[1], images[0], "images differ");
  for (int n = 0; n <= kModes; ++n) require_equal(grads[1][n], grads[0][n], "gradients differ");
}

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
  std::vector<int64_t> many(300);  // more than one tile of keys
  for (int64_t n = 0; n < 300; ++n) many[n] = 7 * n % 12;
  const Case cases[] = {
      {{2, 3, {2, 3, 5, 4}, {5, 3, 7, 9}, {true, true, true, true}}, {}},
      {{2, 3, {2, 3, 5, 4}, {5, 3, 7, 9}, {true, true, true, true}}, {29, 0, 4, 4, 17}},
      {{2, 2, {2, 1, 2, 2}, {3, 1, 2, 3}, {true, true, true, true}}, many},
      {{1, 1, {1, 1, 1, 1}, {1, 1, 1, 1}, {true, true, true, true}}, {}},
      {{3, 2, {3, 1, 17, 2}, {3, 1, 17, 33}, {false, false, false, true}}, {16, 2, 3}},
      {{2, 2, {19, 2, 3, 1}, {4, 2, 3, 18}, {true, false, false, true}}, {}},
  };
  using simt::host::Order;
  try {
    for (const Order order : {Order::kNatural, Order::kReversed, Order::kShuffled}) {
      simt::host::settings() = {order, 3};
      for (const Case& test : cases) run(test);
      run_programs();
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
