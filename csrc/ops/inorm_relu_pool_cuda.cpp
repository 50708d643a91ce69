// Binds inorm_relu_pool's CUDA launchers. Needs neither a CUDA header nor a CUDA build of torch.

#include "cuda/inorm_relu_pool.h"
#include "cuda_stream.h"
#include "inorm_relu_pool_ops.h"

namespace nsdbench::ops::inorm_relu_pool {
namespace {

// Makes the device of x the current one and takes its stream. Workspaces may be given back before the
// kernels have run: the allocator hands them out again in the order of the stream.
class Cuda {
 public:
  explicit Cuda(const Tensor& x)
      : x_(x), guard_(x.get_device_index()), stream_(current_stream(x.get_device_index())) {}

  template <typename T>
  void forward(const PlaneSizes& sizes, const NormInput<T>& input, T* out) const {
    check_launch(refuse, cuda::launch_inorm_relu_pool_fwd<T>(sizes, input, out, stream_));
  }
  template <typename T>
  void forward_jvp(const PlaneSizes& sizes, const NormInput<T>& input,
                   const NormTangent<T>& tangent, T* out_t) const {
    check_launch(refuse,
                 cuda::launch_inorm_relu_pool_jvp<T>(sizes, input, tangent, out_t, stream_));
  }
  template <typename T>
  void backward(const PlaneSizes& sizes, const T* grad, const NormInput<T>& input,
                const NormGradient<T>& result) const {
    const Tensor workspace = allocate_workspace(sizes);
    check_launch(refuse, cuda::launch_inorm_relu_pool_bwd<T>(
                             sizes, grad, input, result, workspace.mutable_data_ptr<T>(), stream_));
  }
  template <typename T>
  void backward_jvp(const PlaneSizes& sizes, const T* grad, const NormInput<T>& input,
                    const T* grad_t, const NormTangent<T>& tangent,
                    const NormGradient<T>& result) const {
    const Tensor workspace = allocate_workspace(sizes);
    check_launch(
        refuse, cuda::launch_inorm_relu_pool_bwd_jvp<T>(sizes, grad, input, grad_t, tangent, result,
                                                        workspace.mutable_data_ptr<T>(), stream_));
  }

 private:
  Tensor allocate_workspace(const PlaneSizes& sizes) const {
    return allocate(x_, {cuda::norm_workspace_elements(sizes)});
  }

  Tensor x_;
  torch::stable::accelerator::DeviceGuard guard_;
  void* stream_;
};

}  // namespace
}  // namespace nsdbench::ops::inorm_relu_pool

STABLE_TORCH_LIBRARY_IMPL(nsdbench, CUDA, m) {
  namespace op = nsdbench::ops::inorm_relu_pool;
  m.impl("inorm_relu_pool", TORCH_BOX(&op::forward<op::Cuda>));
  m.impl("inorm_relu_pool_jvp", TORCH_BOX(&op::forward_jvp<op::Cuda>));
  m.impl("inorm_relu_pool_backward", TORCH_BOX(&op::backward<op::Cuda>));
  m.impl("inorm_relu_pool_backward_jvp", TORCH_BOX(&op::backward_jvp<op::Cuda>));
}
