// Reconstruction for the sanitizers: the gradients of all operands, images in any order and more than
// once, more of them than one tile of keys.

#include "cpu/reconstruct.h"
#include "cuda/reconstruct.cu"  // NOLINT: the very source that nvcc compiles
#include "sanitize.h"

namespace nsdbench::tests {
namespace {

struct Case {
  Problem problem;
  std::vector<int64_t> index;  // empty: all images
};

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
  const auto spectra = draw<double>(problem.num_spectra * problem.spectrum_size(), random);
  const auto grad_images = draw<double>(count * problem.image_size(), random);
  std::vector<double> kernels[kModes], workspace;

  cpu::Operands<double> operands{spectra.data(), {}};
  cuda::Call<double> call{problem, spectra.data(), {}, index, count, nullptr, nullptr};
  for (int n = 0; n < kModes; ++n) {
    if (!problem.has_kernel[n]) continue;
    kernels[n] = draw<double>(problem.num_kernel_sets * problem.kernel_size(n), random);
    operands.kernels[n] = call.kernels[n] = kernels[n].data();
  }
  std::vector<double> images[2], grads[2][kModes + 1];
  cpu::Gradients<double> cpu_gradients{};
  cuda::Gradients<double> cuda_gradients{};
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

  cpu::reconstruct<double>(problem, operands, {index, count}, images[0].data());
  cpu::reconstruct_backward<double>(problem, operands, {index, count}, grad_images.data(),
                                    cpu_gradients);
  workspace.resize(
      static_cast<size_t>(cuda::workspace_elements(problem, index != nullptr, count, true)));
  call.workspace = workspace.data();
  cuda::launch_reconstruct_fwd<double>(call, images[1].data());
  cuda::launch_reconstruct_bwd<double>(call, grad_images.data(), cuda_gradients);

  require_equal(images[1], images[0], "reconstruct: images differ");
  for (int n = 0; n <= kModes; ++n) {
    require_equal(grads[1][n], grads[0][n], "reconstruct: gradients differ");
  }
}

}  // namespace

void sanitize_reconstruct() {
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
  for (const Case& test : cases) run(test);
}

}  // namespace nsdbench::tests
