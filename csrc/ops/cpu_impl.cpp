// Binds the CPU implementations to the operators: tensors to pointers, nothing else.

#include <tuple>

#include "checks.h"
#include "cpu/reconstruct.h"

namespace nsdbench::ops {
namespace {

using Kernel = std::optional<Tensor>;

void check_index_range(const Reconstruction& call) {
  if (!call.index.has_value()) return;
  const int64_t* index = call.index->const_data_ptr<int64_t>();
  for (int64_t n = 0; n < call.count; ++n) {
    if (index[n] < 0 || index[n] >= call.problem.images()) {
      refuse("index: expected entries in [0, ", call.problem.images(), "), got ", index[n],
             " at position ", n);
    }
  }
}

template <typename T>
cpu::Operands<T> operands_of(const Reconstruction& call) {
  cpu::Operands<T> operands{call.spectra.const_data_ptr<T>(), {}};
  for (int n = 0; n < kModes; ++n) {
    operands.kernels[n] = call.kernels[n] ? call.kernels[n]->const_data_ptr<T>() : nullptr;
  }
  return operands;
}

cpu::Selection selection_of(const Reconstruction& call) {
  return {call.index ? call.index->const_data_ptr<int64_t>() : nullptr, call.count};
}

Tensor reconstruct(const Tensor& spectra, const Kernel& kernel1, const Kernel& kernel2,
                   const Kernel& kernel3, const Kernel& kernel4,
                   const std::optional<Tensor>& index) {
  const auto call = check_reconstruction(spectra, {kernel1, kernel2, kernel3, kernel4}, index);
  check_index_range(call);
  const std::vector<int64_t> size{call.count, call.problem.u[1], call.problem.u[2],
                                  call.problem.u[3]};
  Tensor images = torch::stable::new_empty(call.spectra, size);
  if (call.count == 0) return images;
  if (spectra.scalar_type() == ScalarType::Float) {
    cpu::reconstruct<float>(call.problem, operands_of<float>(call), selection_of(call),
                            images.mutable_data_ptr<float>());
  } else {
    cpu::reconstruct<double>(call.problem, operands_of<double>(call), selection_of(call),
                             images.mutable_data_ptr<double>());
  }
  return images;
}

template <typename T>
void run_backward(const Reconstruction& call, const Tensor& grad_images, int64_t wanted,
                  std::array<Tensor, kModes + 1>& tensors) {
  cpu::Gradients<T> gradients{};
  if ((wanted & 1) != 0) gradients.spectra = tensors[0].mutable_data_ptr<T>();
  for (int n = 0; n < kModes; ++n) {
    if ((wanted >> (n + 1) & 1) != 0) {
      gradients.kernels[n] = tensors[n + 1].mutable_data_ptr<T>();
    }
  }
  cpu::reconstruct_backward<T>(call.problem, operands_of<T>(call), selection_of(call),
                               grad_images.const_data_ptr<T>(), gradients);
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> reconstruct_backward(
    const Tensor& grad_images, const Tensor& spectra, const Kernel& kernel1, const Kernel& kernel2,
    const Kernel& kernel3, const Kernel& kernel4, const std::optional<Tensor>& index,
    int64_t wanted) {
  const auto call = check_reconstruction(spectra, {kernel1, kernel2, kernel3, kernel4}, index);
  check_index_range(call);
  const Tensor grad = check_grad_images(call, grad_images);
  auto gradients = allocate_gradients(call, wanted);
  if (call.count == 0) {
    for (Tensor& gradient : gradients) torch::stable::zero_(gradient);
  } else if (spectra.scalar_type() == ScalarType::Float) {
    run_backward<float>(call, grad, wanted, gradients);
  } else {
    run_backward<double>(call, grad, wanted, gradients);
  }
  return {gradients[0], gradients[1], gradients[2], gradients[3], gradients[4]};
}

}  // namespace
}  // namespace nsdbench::ops

STABLE_TORCH_LIBRARY_IMPL(nsdbench, CPU, m) {
  m.impl("reconstruct", TORCH_BOX(&nsdbench::ops::reconstruct));
  m.impl("reconstruct_backward", TORCH_BOX(&nsdbench::ops::reconstruct_backward));
}
