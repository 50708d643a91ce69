// Binds reconstruct's CUDA launchers. Needs neither a CUDA header nor a CUDA build of torch.

#include "cuda/reconstruct.h"
#include "cuda_stream.h"
#include "reconstruct_checks.h"

namespace nsdbench::ops::reconstruct {
namespace {

bool is_copy(const Call& call) {
  const bool* has = call.problem.has_kernel;
  return !call.index && !has[0] && !has[1] && !has[2] && !has[3];
}

Tensor allocate_workspace(const Call& call, bool is_backward) {
  return allocate(call.spectra, {cuda::workspace_elements(call.problem, call.index.has_value(),
                                                          call.count, is_backward)});
}

template <typename T>
cuda::Call<T> launch_of(const Call& call, const Tensor& workspace) {
  cuda::Call<T> result{call.problem,
                       call.spectra.const_data_ptr<T>(),
                       {},
                       pointer<int64_t>(call.index),
                       call.count,
                       workspace.mutable_data_ptr<T>(),
                       current_stream(call.spectra.get_device_index())};
  for (int n = 0; n < kModes; ++n) result.kernels[n] = pointer<T>(call.kernels[n]);
  return result;
}

Tensor forward(const Tensor& spectra, const MaybeTensor& kernel1, const MaybeTensor& kernel2,
               const MaybeTensor& kernel3, const MaybeTensor& kernel4, const MaybeTensor& index) {
  const Call call = check_call(spectra, {kernel1, kernel2, kernel3, kernel4}, index);
  const torch::stable::accelerator::DeviceGuard guard(spectra.get_device_index());
  if (is_copy(call)) {
    return torch::stable::clone(torch::stable::reshape(call.spectra, call.images_shape()));
  }
  Tensor images = allocate(call.spectra, call.images_shape());
  if (call.count == 0) return images;
  const Tensor workspace = allocate_workspace(call, false);
  dispatch(call.spectra, [&]<typename T>(T) {
    check_launch(refuse, cuda::launch_reconstruct_fwd<T>(launch_of<T>(call, workspace),
                                                         images.mutable_data_ptr<T>()));
  });
  return images;
}

Five backward(const Tensor& grad_images, const Tensor& spectra, const MaybeTensor& kernel1,
              const MaybeTensor& kernel2, const MaybeTensor& kernel3, const MaybeTensor& kernel4,
              const MaybeTensor& index, int64_t wanted) {
  const Call call = check_call(spectra, {kernel1, kernel2, kernel3, kernel4}, index);
  const Tensor grad = check_grad_images(call, grad_images);
  const torch::stable::accelerator::DeviceGuard guard(spectra.get_device_index());
  Gradients gradients = allocate_gradients(call, wanted);
  if (call.count == 0) {
    for (Tensor& gradient : gradients) torch::stable::zero_(gradient);
  } else if (is_copy(call)) {
    if ((wanted & 1) != 0) {
      torch::stable::copy_(gradients[0], torch::stable::reshape(grad, shape_of(call.spectra)));
    }
  } else {
    const Tensor workspace = allocate_workspace(call, true);
    dispatch(call.spectra, [&]<typename T>(T) {
      check_launch(refuse, cuda::launch_reconstruct_bwd<T>(
                               launch_of<T>(call, workspace), grad.const_data_ptr<T>(),
                               gradient_pointers<cuda::Gradients<T>, T>(gradients, wanted)));
    });
  }
  return std::tuple_cat(gradients);
}

}  // namespace
}  // namespace nsdbench::ops::reconstruct

STABLE_TORCH_LIBRARY_IMPL(nsdbench, CUDA, m) {
  m.impl("reconstruct", TORCH_BOX(&nsdbench::ops::reconstruct::forward));
  m.impl("reconstruct_backward", TORCH_BOX(&nsdbench::ops::reconstruct::backward));
}
