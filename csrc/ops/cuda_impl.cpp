// Binds the CUDA launchers to the operators. Needs neither a CUDA header nor a CUDA build of torch.

#include <tuple>

#include "checks.h"
#include "cuda/reconstruct.h"
#include "cuda_stream.h"

namespace nsdbench::ops {
namespace {

using Kernel = std::optional<Tensor>;

void check_launch(const char* error) {
  if (error != nullptr) throw std::runtime_error(std::string("reconstruct: CUDA: ") + error);
}

bool is_copy(const Reconstruction& call) {
  const bool* has = call.problem.has_kernel;
  return !call.index.has_value() && !has[0] && !has[1] && !has[2] && !has[3];
}

Tensor allocate_workspace(const Reconstruction& call, bool is_backward) {
  const std::vector<int64_t> size{cuda::workspace_elements(
      call.problem, call.index.has_value(), call.count, is_backward)};
  return torch::stable::new_empty(call.spectra, size);
}

template <typename T>
cuda::Call<T> call_of(const Reconstruction& call, const Tensor& workspace) {
  cuda::Call<T> result{call.problem,
                       call.spectra.const_data_ptr<T>(),
                       {},
                       call.index ? call.index->const_data_ptr<int64_t>() : nullptr,
                       call.count,
                       workspace.mutable_data_ptr<T>(),
                       nullptr};
  for (int n = 0; n < kModes; ++n) {
    result.kernels[n] = call.kernels[n] ? call.kernels[n]->const_data_ptr<T>() : nullptr;
  }
  result.stream = current_stream(call.spectra.get_device_index());
  return result;
}

Tensor reconstruct(const Tensor& spectra, const Kernel& kernel1, const Kernel& kernel2,
                   const Kernel& kernel3, const Kernel& kernel4,
                   const std::optional<Tensor>& index) {
  const auto call = check_reconstruction(spectra, {kernel1, kernel2, kernel3, kernel4}, index);
  const torch::stable::accelerator::DeviceGuard guard(spectra.get_device_index());
  const std::vector<int64_t> size{call.count, call.problem.u[1], call.problem.u[2],
                                  call.problem.u[3]};
  if (is_copy(call)) return torch::stable::clone(torch::stable::reshape(call.spectra, size));
  Tensor images = torch::stable::new_empty(call.spectra, size);
  if (call.count == 0) return images;
  const Tensor workspace = allocate_workspace(call, false);
  if (spectra.scalar_type() == ScalarType::Float) {
    check_launch(cuda::launch_reconstruct_fwd<float>(call_of<float>(call, workspace),
                                                     images.mutable_data_ptr<float>()));
  } else {
    check_launch(cuda::launch_reconstruct_fwd<double>(call_of<double>(call, workspace),
                                                      images.mutable_data_ptr<double>()));
  }
  return images;
}

template <typename T>
void run_backward(const Reconstruction& call, const Tensor& grad_images, int64_t wanted,
                  std::array<Tensor, kModes + 1>& tensors) {
  cuda::Gradients<T> gradients{};
  if ((wanted & 1) != 0) gradients.spectra = tensors[0].mutable_data_ptr<T>();
  for (int n = 0; n < kModes; ++n) {
    if ((wanted >> (n + 1) & 1) != 0) {
      gradients.kernels[n] = tensors[n + 1].mutable_data_ptr<T>();
    }
  }
  const Tensor workspace = allocate_workspace(call, true);
  check_launch(cuda::launch_reconstruct_bwd<T>(call_of<T>(call, workspace),
                                               grad_images.const_data_ptr<T>(), gradients));
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> reconstruct_backward(
    const Tensor& grad_images, const Tensor& spectra, const Kernel& kernel1, const Kernel& kernel2,
    const Kernel& kernel3, const Kernel& kernel4, const std::optional<Tensor>& index,
    int64_t wanted) {
  const auto call = check_reconstruction(spectra, {kernel1, kernel2, kernel3, kernel4}, index);
  const Tensor grad = check_grad_images(call, grad_images);
  const torch::stable::accelerator::DeviceGuard guard(spectra.get_device_index());
  auto gradients = allocate_gradients(call, wanted);
  if (call.count == 0) {
    for (Tensor& gradient : gradients) torch::stable::zero_(gradient);
  } else if (is_copy(call)) {
    if ((wanted & 1) != 0) torch::stable::copy_(gradients[0], torch::stable::reshape(
        grad, call.spectra.sizes()));
  } else if (spectra.scalar_type() == ScalarType::Float) {
    run_backward<float>(call, grad, wanted, gradients);
  } else {
    run_backward<double>(call, grad, wanted, gradients);
  }
  return {gradients[0], gradients[1], gradients[2], gradients[3], gradients[4]};
}

}  // namespace
}  // namespace nsdbench::ops

STABLE_TORCH_LIBRARY_IMPL(nsdbench, CUDA, m) {
  m.impl("reconstruct", TORCH_BOX(&nsdbench::ops::reconstruct));
  m.impl("reconstruct_backward", TORCH_BOX(&nsdbench::ops::reconstruct_backward));
}
