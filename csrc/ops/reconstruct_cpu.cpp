// Binds reconstruct's CPU implementation: tensors to pointers, nothing else.

#include "cpu/reconstruct.h"
#include "reconstruct_checks.h"

namespace nsdbench::ops::reconstruct {
namespace {

void check_index_range(const Call& call) {
  if (!call.index) return;
  const int64_t* index = call.index->const_data_ptr<int64_t>();
  for (int64_t n = 0; n < call.count; ++n) {
    if (index[n] < 0 || index[n] >= call.problem.images()) {
      refuse("index: expected entries in [0, ", call.problem.images(), "), got ", index[n],
             " at position ", n);
    }
  }
}

template <typename T>
cpu::Operands<T> operands_of(const Call& call) {
  cpu::Operands<T> operands{call.spectra.const_data_ptr<T>(), {}};
  for (int n = 0; n < kModes; ++n) operands.kernels[n] = pointer<T>(call.kernels[n]);
  return operands;
}

cpu::Selection selection_of(const Call& call) { return {pointer<int64_t>(call.index), call.count}; }

Tensor forward(const Tensor& spectra, const MaybeTensor& kernel1, const MaybeTensor& kernel2,
               const MaybeTensor& kernel3, const MaybeTensor& kernel4, const MaybeTensor& index) {
  const Call call = check_call(spectra, {kernel1, kernel2, kernel3, kernel4}, index);
  check_index_range(call);
  Tensor images = allocate(call.spectra, call.images_shape());
  if (call.count == 0) return images;
  dispatch(call.spectra, [&]<typename T>(T) {
    cpu::reconstruct<T>(call.problem, operands_of<T>(call), selection_of(call),
                        images.mutable_data_ptr<T>());
  });
  return images;
}

Five backward(const Tensor& grad_images, const Tensor& spectra, const MaybeTensor& kernel1,
              const MaybeTensor& kernel2, const MaybeTensor& kernel3, const MaybeTensor& kernel4,
              const MaybeTensor& index, int64_t wanted) {
  const Call call = check_call(spectra, {kernel1, kernel2, kernel3, kernel4}, index);
  check_index_range(call);
  const Tensor grad = check_grad_images(call, grad_images);
  const Gradients gradients = allocate_gradients(call, wanted);
  if (call.count == 0) {
    for (Tensor gradient : gradients) torch::stable::zero_(gradient);
  } else {
    dispatch(call.spectra, [&]<typename T>(T) {
      cpu::reconstruct_backward<T>(call.problem, operands_of<T>(call), selection_of(call),
                                   grad.const_data_ptr<T>(),
                                   gradient_pointers<cpu::Gradients<T>, T>(gradients, wanted));
    });
  }
  return std::tuple_cat(gradients);
}

}  // namespace
}  // namespace nsdbench::ops::reconstruct

STABLE_TORCH_LIBRARY_IMPL(nsdbench, CPU, m) {
  m.impl("reconstruct", TORCH_BOX(&nsdbench::ops::reconstruct::forward));
  m.impl("reconstruct_backward", TORCH_BOX(&nsdbench::ops::reconstruct::backward));
}
